"""Fused graph → ONNX file with weights in int8 that computes in float32, guarded as int8 is.

    export in float32, verified → store codes → run on images → write → proof of what was written → run beside the
    original → rename

Two things are told apart. That the file is what it should be is proved: on ONNX Runtime it computes, at float32's
tolerance, what the float32 file computes with the numbers that the codes stand for. What rounding to codes costs is
measured on images, as agreement, SQNR and drop of top-1 beside the float32 file; with a limit to the drop the most
harmful layers keep float32 weights (`sensitivity`). Without images of the user's random ones are taken, which a note
says. Last, the file is held to what rounding to 8 bits explains, beside the network as it was trained.

Does not apply to TensorRT, which takes kernels as they are, and to children on the fly, whose products are not folded.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import onnx
import onnx_ir as ir
from onnx import numpy_helper

from kdna_deploy.errors import UsageError
from kdna_deploy.evaluation.parity import FLOAT32, INT8_WEIGHTS, Agreement
from kdna_deploy.files import check_output
from kdna_deploy.images.batch import Images, Shape
from kdna_deploy.images.probes import random_images, standard_probes
from kdna_deploy.images.split import BATCH, Split
from kdna_deploy.progress import SILENT, Listener
from kdna_deploy.runtimes.onnx_file import file_bytes, read_model, save
from kdna_deploy.runtimes.ort import OrtSession
from kdna_deploy.targets.onnx.export import OnnxOptions, verify_file
from kdna_deploy.targets.onnx.int8.compact import compact
from kdna_deploy.targets.onnx.int8.export import Int8Export, accuracy_notes
from kdna_deploy.targets.onnx.int8.sensitivity import Guard, drop, within_limit
from kdna_deploy.targets.onnx.int8.storage import Array, Int8Storage, store_int8, stored_layers
from kdna_deploy.targets.onnx.ledger import onnx_storage
from kdna_deploy.targets.onnx.precision import float_file, write_transformed
from kdna_deploy.targets.skeleton import parity
from kdna_deploy.targets.source import FusedSource

_RANDOM_IMAGES = 32


@dataclass(frozen=True)
class StorageOptions:
    """How to store and judge.

    Attributes:
        images: to judge by, of which the held-out ones are used; None for random ones.
        max_drop: percentage points that top-1, or, without labels, agreement may lose; None for no limit.
        keep_float: layers whose weights stay in float32 whatever is lost, by the names of their nodes.
    """

    images: Split | None = None
    max_drop: float | None = None
    keep_float: tuple[str, ...] = ()


def export_int8_weights(
    opened: FusedSource,
    output: Path,
    options: OnnxOptions,
    storage: StorageOptions | None = None,
    inputs: tuple[Path, ...] = (),
    listener: Listener = SILENT,
) -> Int8Export:
    """Write an ONNX file whose weights are int8 codes, and which computes in float32.

    Raises:
        UsageError: for TensorRT, or with children multiplied on the fly.
        ParityError: the float32 file departs from the network, or the file from what its codes stand for. Nothing is
            written.
        AccuracyError: more than `max_drop` is lost. Nothing is written.
    """
    storage = storage or StorageOptions()
    check_output(output, inputs)
    if options.target == "tensorrt":
        raise UsageError(
            "TensorRT takes kernels as they are: with `target='tensorrt'` choose `precision='int8'` in place of "
            "`weights='int8'`."
        )
    if options.on_the_fly:
        raise UsageError("`weights='int8'` is multiplied out at session start, children on the fly never are.")
    shape = opened.graph.image_shape
    images = storage.images or _random_images(shape, options.batch)
    sample = next(iter(images.calibration()), None) if storage.images else opened.sample
    reference = opened.reference
    with float_file(opened, options, sample, listener) as float_export:
        path = float_export.path
        layers = stored_layers(ir.from_proto(read_model(path)).graph)
        with contextlib.closing(Guard(path, images, path.parent, listener)) as guard:

            def build(keep_float: Iterable[str]) -> onnx.ModelProto:
                return _stored(path, (*storage.keep_float, *keep_float))[0]

            judged = within_limit(build, guard, layers, storage.max_drop, opened.provenance.shared_kernels)
        kept_float = tuple(dict.fromkeys((*storage.keep_float, *judged.kept_float)))
        stored = _stored(path, kept_float)[1]
        rounded = path.parent / "rounded.onnx"
        _with_values(path, stored.values, rounded)

        def judge(written: Path) -> tuple[Agreement, ...]:
            _prove(written, rounded, shape, options.batch)
            return verify_file(written, shape, reference, replace(options, tolerance=INT8_WEIGHTS), sample, listener)

        made = {"weights": "int8", "int8": {"kept_float": list(kept_float)}}
        agreements = write_transformed(opened, judged.model, made, output, options, judge, inputs, listener)
    return Int8Export(
        path=output,
        bytes=file_bytes(output),
        agreements=agreements,
        target=options.target,
        float_export=float_export,
        evaluation=judged.evaluation,
        labelled=images.labelled,
        drop=drop(judged.evaluation),
        kept_float=kept_float,
        sensitivities=judged.sensitivities,
        storage=onnx_storage(judged.model, "int8 weights"),
        weights=stored,
        random=storage.images is None,
        notes=(
            *float_export.notes,
            *images.notes,
            *accuracy_notes(judged.evaluation, images.labelled, opened.provenance.recorded_top1),
        ),
    )


def _stored(path: Path, keep_float: tuple[str, ...]) -> tuple[onnx.ModelProto, Int8Storage]:
    model = ir.from_proto(read_model(path))
    stored = store_int8(model, keep_float)
    compact(model)
    return ir.to_proto(model), stored


def _with_values(path: Path, values: Mapping[str, Array], target: Path) -> None:
    """Write the float32 file at `path` with the numbers that codes stand for."""
    model = read_model(path)
    for tensor in model.graph.initializer:
        if tensor.name in values:
            tensor.CopyFrom(numpy_helper.from_array(values[tensor.name], tensor.name))
    save(model, target)


def _prove(written: Path, rounded: Path, shape: Shape, batch: int | None) -> None:
    """The file computes what the codes stand for.

    Raises:
        ParityError: it does not.
    """
    with OrtSession(written) as candidate, OrtSession(rounded, name="float32 file with rounded weights") as reference:
        departs, remedy = f"The file with int8 codes departs from the {reference.name}", "Choose `weights='fp16'`."
        parity(candidate, reference, standard_probes(shape, batch), FLOAT32, departs, remedy)


def _random_images(shape: Shape, batch: int | None) -> Split:
    size = batch or BATCH

    def held_out() -> Iterator[tuple[Images, None]]:
        for seed in range(-(-_RANDOM_IMAGES // size)):
            yield random_images(size, shape, seed).numpy(), None

    note = "judged by random images, for want of others: name some like those that it will see with `calibration`"
    return Split(lambda: (), held_out, False, {}, (note,))
