"""Fused graph → ONNX file in another precision than float32: a transform of the verified float32 file, and a judge.

    export in float32, verified → transform → provenance → write → check → judge → rename

The float32 file is the only one that is compared with the trained network at float32's tolerance, so that what a
transform changes is not mixed up with what folding or spelling might have.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import onnx
import onnx_ir as ir

from kdna_deploy.evaluation.agreement import Agreement
from kdna_deploy.files import scratch_folder
from kdna_deploy.images.batch import Images
from kdna_deploy.images.interface import PLAIN
from kdna_deploy.progress import Listener
from kdna_deploy.targets.onnx.export import OnnxExport, export_fused, write_onnx
from kdna_deploy.targets.onnx.interface import complete_interface
from kdna_deploy.targets.onnx.options import OnnxOptions
from kdna_deploy.targets.onnx.verification import verify_file
from kdna_deploy.targets.skeleton import Verdict
from kdna_deploy.targets.source import FusedSource


@contextmanager
def float_file(
    opened: FusedSource, options: OnnxOptions, sample: Images | None, listener: Listener
) -> Iterator[OnnxExport]:
    """The verified float32 file, whole and of any size, in a folder that is gone afterwards."""
    with scratch_folder("float") as folder:
        whole = replace(options, max_bloat=None, external_data=False, weights="fp32", interface=PLAIN)
        yield export_fused(replace(opened, sample=sample), folder / "float.onnx", whole, listener=listener)


def write_transformed(
    opened: FusedSource,
    model: onnx.ModelProto,
    made: Mapping[str, object],
    output: Path,
    options: OnnxOptions,
    judge: Callable[[Path], Verdict],
    inputs: tuple[Path, ...],
    listener: Listener,
) -> Verdict:
    """Write what was made of the float32 file, with `made` added to the options that its provenance tells.

    What the file takes and returns is completed here: `model` takes normalised images and returns logits.
    """
    checkpoint = opened.network.checkpoint
    provenance = opened.beside(opened.provenance, output).with_options(**made)
    complete = ir.from_proto(model)
    complete_interface(complete, options.interface)
    sources = (*inputs, *checkpoint.files)
    return write_onnx(ir.to_proto(complete), provenance, output, options, judge, sources, listener)


def write_verified(
    opened: FusedSource,
    model: onnx.ModelProto,
    made: Mapping[str, object],
    output: Path,
    options: OnnxOptions,
    sample: Images | None,
    inputs: tuple[Path, ...],
    listener: Listener,
    prove: Callable[[Path], None] = lambda _: None,
) -> tuple[Agreement, ...]:
    """`write_transformed` what must agree with `opened` at `options.allowed`, after `prove` has let it through."""

    def judge(path: Path) -> tuple[Agreement, ...]:
        prove(path)
        return verify_file(path, opened.graph.image_shape, opened.reference, options, sample, listener)

    return write_transformed(opened, model, made, output, options, judge, inputs, listener)
