"""Fused graph → ONNX file that computes in half precision, verified against the trained network.

    export in float32, verified → ranges of the activations → audit → cast → run beside the original → rename

What a half cannot hold stays in float32, with casts around it (`onnx/half_audit.py`). Verified on ONNX Runtime's CPU
provider, whose half-precision sums are no narrower than a GPU's.

Does not apply to CPUs as a target: hardly any computes in half precision, and ONNX Runtime would convert back and
forth. There, weights are stored in half precision instead (`onnx/half_storage.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import onnx_ir as ir

from kdna_deploy.errors import UsageError
from kdna_deploy.evaluation.tolerance import HALF
from kdna_deploy.files import check_output
from kdna_deploy.images.batch import Images
from kdna_deploy.images.probes import random_images
from kdna_deploy.progress import SILENT, Listener
from kdna_deploy.runtimes.onnx_file import file_bytes, read_model
from kdna_deploy.targets.onnx.export import OnnxExport
from kdna_deploy.targets.onnx.half.audit import HalfAudit, audit_half
from kdna_deploy.targets.onnx.half.convert import to_half
from kdna_deploy.targets.onnx.int8.calibration import FEWEST_IMAGES, activation_sizes
from kdna_deploy.targets.onnx.options import OnnxOptions
from kdna_deploy.targets.onnx.precision import float_file, write_verified
from kdna_deploy.targets.skeleton import Export
from kdna_deploy.targets.source import FusedSource


@dataclass(frozen=True)
class HalfOptions:
    """How to cast.

    Attributes:
        images: to see the activations on, batches [n, c, h, w]; random ones where there are none.
        half_io: whether the file takes and returns half precision too.
        record: where the images come from, for the provenance.
    """

    images: Callable[[], Iterable[Images]] | None = None
    half_io: bool = False
    record: Mapping[str, object] | None = None


@dataclass(frozen=True, kw_only=True)
class HalfExport(Export):
    """A verified file in half precision.

    Attributes:
        float_export: the verified float32 file that it was made from.
        audit: what was found before casting.
        reference: what it was verified against.
    """

    float_export: OnnxExport
    audit: HalfAudit
    reference: str


def export_half(
    opened: FusedSource,
    output: Path,
    options: OnnxOptions,
    half: HalfOptions | None = None,
    inputs: tuple[Path, ...] = (),
    listener: Listener = SILENT,
) -> HalfExport:
    """Write an ONNX file that computes in half precision.

    Raises:
        UsageError: for CPUs, or with children multiplied on the fly.
        ParityError: it departs from the network by more than half precision explains. Nothing is written.
    """
    half = half or HalfOptions()
    check_output(output, inputs)
    if options.target == "cpu":
        raise UsageError(
            "CPUs do not compute in half precision; choose `target='tensorrt'` or `'any'`, or `weights='fp16'`."
        )
    if options.on_the_fly:
        raise UsageError("`precision='fp16'` casts kernels once; choose `children='materialize'` or `'share'`.")
    shape, sample = opened.graph.image_shape, next(iter(half.images()), None) if half.images else opened.sample
    with float_file(opened, options, sample, listener) as float_export:
        listener.step("see how large activations get")
        batches = half.images() if half.images else _random_batches(options.batch, shape)
        model = read_model(float_export.path)
        largest = activation_sizes(float_export.path, batches, listener)
    audit = audit_half(model, largest, opened.provenance.shared_kernels)
    listener.step("cast to half precision")
    cast = ir.from_proto(model)
    to_half(cast, audit.keep_float.keys(), half.half_io)
    made = {"kept_float": sorted(audit.keep_float), "half_io": half.half_io, **(half.record or {})}
    recorded, written = {"precision": "fp16", "fp16": made}, replace(options, tolerance=HALF)
    agreements = write_verified(opened, ir.to_proto(cast), recorded, output, written, sample, inputs, listener)
    return HalfExport(
        path=output,
        bytes=file_bytes(output),
        agreements=agreements,
        notes=float_export.notes,
        float_export=float_export,
        audit=audit,
        reference=opened.reference.name,
    )


def _random_batches(batch: int | None, shape: tuple[int, int, int]) -> list[Images]:
    size = batch or FEWEST_IMAGES
    return [random_images(size, shape, seed=seed) for seed in range(-(-FEWEST_IMAGES // size))]
