"""The sample and the published networks for small images, each fused once a process."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

from kdna_deploy.targets.onnx.export import OnnxExport, export_onnx
from kdna_deploy.targets.onnx.options import OnnxOptions
from kdna_deploy.targets.source import FusedSource, Request, open_fused_source
from tests.conftest import SAMPLES

RESNET, MOBILENET = "digits_resnet18_quarter", "digits_mobilenet_v2_1d2"
SIZE = (64, 64)
# Dynamic channel attentions of each published network: the only multiplications that may remain.
PRESCALES = {"resnet18": 6, "resnet50": 4, "mobilenet_v2": 10, "mobilenet_v2_1d2": 10}


def sample_path(name: str) -> Path:
    return SAMPLES / f"{name}.pth.tar"


def fused_sample(name: str = RESNET, children: Any = None) -> FusedSource:
    """Never change its graph or its network: every test has the same."""
    return _fused(sample_path(name), children)


def fused_small(checkpoint: Path, children: Any = None) -> FusedSource:
    """A published checkpoint, for images of `SIZE`: kernels and operators are those of any size. Likewise."""
    return _fused(checkpoint, children)


@functools.cache
def _fused(checkpoint: Path, children: Any) -> FusedSource:
    return open_fused_source(checkpoint, Request(size=SIZE, children=children))


def export_sample(output: Path, name: str = RESNET, children: Any = None, **options: Any) -> OnnxExport:
    """Export a sample network to `output`, verified, with `OnnxOptions` from `options`."""
    sample = fused_sample(name, children)
    return export_onnx(sample.graph, sample.network.module, sample.provenance, output, OnnxOptions(**options))
