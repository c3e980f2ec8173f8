"""The sample and the published networks for small images, each fused once a process and exported once a run."""

from __future__ import annotations

import functools
import hashlib
import pickle
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from kdna_deploy.network.families import ARCHITECTURES
from kdna_deploy.targets.onnx.export import OnnxExport, export_onnx
from kdna_deploy.targets.onnx.options import OnnxOptions
from kdna_deploy.targets.source import FusedSource, Request, open_fused_source
from tests.conftest import SAMPLES
from tests.fused_once import fusing_once
from tests.session_folder import made_once, shared_folder

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


def narrow(arch: str) -> Path:
    """A checkpoint of a published architecture with a quarter of its widths: operators are those of any width."""
    return made_once(shared_folder("narrow") / f"{arch}.pth", functools.partial(_narrow, arch))


def _narrow(arch: str, path: Path) -> None:
    published = ARCHITECTURES[arch]
    backbone = replace(published.backbone, widths=tuple(width // 4 for width in published.backbone.widths))
    torch.manual_seed(0)
    network = replace(published, backbone=backbone, num_classes=10).build()
    with torch.no_grad():
        for name, value in network.named_parameters():
            if "static_" in name:
                value.normal_(0.0, 0.2)
        for layer in network.modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.momentum = None  # statistics of these images alone
        network.train()(torch.randn(8, 3, *SIZE))
    torch.save({"state_dict": network.state_dict()}, path)


@functools.cache
def _fused(checkpoint: Path, children: Any) -> FusedSource:
    with fusing_once():
        return open_fused_source(checkpoint, Request(size=SIZE, children=children))


def export_sample(output: Path, name: str = RESNET, children: Any = None, **options: Any) -> OnnxExport:
    """Export a sample network to `output`, verified, with `OnnxOptions` from `options`."""
    sample = fused_sample(name, children)
    return export_onnx(sample.graph, sample.network.module, sample.provenance, output, OnnxOptions(**options))


def exported_sample(output: Path, name: str = RESNET, children: Any = None, **options: Any) -> OnnxExport:
    """The file of `export_sample`, at `output`; where the run has made one with equal options, a copy of it.

    For tests that start from a file. Equal options make equal bytes (tests/targets/test_reproduction.py).
    """

    def make(path: Path) -> None:
        done = export_sample(path, name, children, **options)
        path.with_suffix(".result").write_bytes(pickle.dumps(done))

    digest = hashlib.sha256(repr((name, children, sorted(options.items()))).encode()).hexdigest()
    made = made_once(shared_folder("exported") / f"{digest[:16]}.onnx", make)
    shutil.copyfile(made, output)
    return replace(pickle.loads(made.with_suffix(".result").read_bytes()), path=output)
