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

import onnx

from kdna_deploy.errors import UsageError
from kdna_deploy.evaluation.parity import HALF, Agreement
from kdna_deploy.export.fuse import random_images
from kdna_deploy.export.onnx.cost import file_bytes
from kdna_deploy.export.onnx.export import (
    OnnxExport,
    OnnxOptions,
    check_bloat,
    export_fused,
    finish,
    reference_session,
    verify_file,
)
from kdna_deploy.export.onnx.half.audit import HalfAudit, audit_half
from kdna_deploy.export.onnx.half.convert import to_half
from kdna_deploy.export.onnx.int8.quantize import FEWEST_IMAGES, activation_sizes
from kdna_deploy.export.source import FusedSource
from kdna_deploy.files import atomic_output, check_output, scratch_folder
from kdna_deploy.images.batch import Images
from kdna_deploy.progress import SILENT, Listener
from kdna_deploy.runtimes.onnx_file import save


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


@dataclass(frozen=True)
class HalfExport:
    """A verified file in half precision.

    Attributes:
        float_export: the verified float32 file that it was made from.
        audit: what was found before casting.
        reference: what it was verified against.
        agreements: with the reference, one a batch size.
    """

    path: Path
    bytes: int
    float_export: OnnxExport
    audit: HalfAudit
    reference: str
    agreements: tuple[Agreement, ...]


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
    with scratch_folder("half") as folder:
        path = folder / "float.onnx"
        sample = next(iter(half.images()), None) if half.images else opened.sample
        float_export = export_fused(
            replace(opened, sample=sample),
            path,
            replace(options, max_bloat=None, external_data=False),
            listener=listener,
        )
        listener.step("see how large activations get")
        shape = opened.graph.image_shape
        batches = half.images() if half.images else _random_batches(options.batch, shape)
        model = onnx.load(path)
        audit = audit_half(model, activation_sizes(path, batches, listener), opened.provenance.shared_kernels)
        listener.step("cast to half precision")
        cast = to_half(model, audit.keep_float.keys(), half.half_io)
        checkpoint = opened.network.checkpoint.path
        provenance = opened.provenance.beside(output, checkpoint).with_options(
            precision="fp16",
            fp16={"kept_float": sorted(audit.keep_float), "half_io": half.half_io, **(half.record or {})},
        )
        finish(cast, provenance, options)
        reference = reference_session(opened)
        with atomic_output(output, (*inputs, checkpoint)) as temporary:
            listener.step("write")
            save(cast, temporary, options.external_data)
            check_bloat(temporary, opened.provenance, options)
            listener.step("verify")
            agreements = verify_file(temporary, shape, reference, replace(options, tolerance=HALF), sample)
    return HalfExport(output, file_bytes(output), float_export, audit, reference.name, agreements)


def _random_batches(batch: int | None, shape: tuple[int, int, int]) -> list[Images]:
    size = batch or FEWEST_IMAGES
    return [random_images(size, shape, seed=seed).numpy() for seed in range(-(-FEWEST_IMAGES // size))]
