"""Fused graph → int8 ONNX file, guarded by an evaluation against the float file.

    export in float32, verified → calibrate → quantise → run on images that calibration has not seen → rename

int8 changes the function, so there is no parity to prove. What is measured instead is how far the int8 file departs
from the float32 file on held-out images: agreement of the highest logit, SQNR and cosine of the logits, and, where
there are labels, the drop of top-1. With a limit for that drop, the layers that harm most alone are left in float32
until it holds (`sensitivity`).

Does not apply to children multiplied at run time: int8 kernels are made from materialised ones, and share their codes
afterwards where that is exact (`onnx/shared_codes.py`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import onnx
import onnx_ir as ir
from onnx import numpy_helper

from kdna_deploy.errors import UsageError
from kdna_deploy.evaluation.tolerance import FLOAT32
from kdna_deploy.evaluation.workers.opened import Workers
from kdna_deploy.files import check_output, scratch_folder
from kdna_deploy.images.batch import Shape
from kdna_deploy.images.probes import standard_probes
from kdna_deploy.images.split import Split
from kdna_deploy.progress import SILENT, Listener
from kdna_deploy.runtimes.int8_kernels import int8_kernels_here
from kdna_deploy.runtimes.onnx_file import file_bytes, read_model
from kdna_deploy.runtimes.ort import OrtSession
from kdna_deploy.targets.onnx.computed_kernels import computed_kernels
from kdna_deploy.targets.onnx.guarded import GuardedExport, accuracy_notes
from kdna_deploy.targets.onnx.half_storage import store_half
from kdna_deploy.targets.onnx.int8.calibration import Method, calibrate
from kdna_deploy.targets.onnx.int8.compact import compact
from kdna_deploy.targets.onnx.int8.quantize import QuantisedFor, quantisable, quantise, small_kernels
from kdna_deploy.targets.onnx.int8.shared_codes import Array, share_codes
from kdna_deploy.targets.onnx.ledger import onnx_storage, shared_kernels
from kdna_deploy.targets.onnx.options import OnnxOptions
from kdna_deploy.targets.onnx.precision import float_file, write_transformed
from kdna_deploy.targets.onnx.sensitivity import Guard, drop, within_limit
from kdna_deploy.targets.skeleton import parity
from kdna_deploy.targets.source import FusedSource


@dataclass(frozen=True)
class Int8Options:
    """How to quantise.

    Attributes:
        images: to calibrate with, and to judge by.
        method: of calibration.
        max_drop: percentage points that top-1, or, without labels, agreement may lose; None for no limit.
        share: whether children use their parent's codes where that is exact; for CPUs only.
        keep_float: layers to leave in float32 whatever is lost, by the names of their nodes.
        openvino: whether a file for CPUs is for OpenVINO, which is fast at small first kernels in int8 as well.
        workers: who judges.
    """

    images: Split
    method: Method = "minmax"
    max_drop: float | None = None
    share: bool = True
    keep_float: tuple[str, ...] = ()
    openvino: bool = False
    workers: Workers = field(default_factory=Workers)


def export_int8(
    opened: FusedSource,
    output: Path,
    options: OnnxOptions,
    int8: Int8Options,
    inputs: tuple[Path, ...] = (),
    listener: Listener = SILENT,
) -> GuardedExport:
    """Write an int8 ONNX file in the form that ONNX Runtime on a CPU, or TensorRT, computes with.

    Raises:
        UsageError: children are shared in the graph, or multiplied on the fly, or there is no target.
        InputError: too few calibration or held-out images, or all of them equal.
        ParityError: the float32 file departs from the network. Nothing is written.
        AccuracyError: int8 loses more than `max_drop`. Nothing is written.
        RuntimeFailure: there is no cluster of workers where one was named.
    """
    check_output(output, inputs)
    int8.workers.check()
    if opened.provenance.options.get("children") == "share" or options.on_the_fly:
        raise UsageError("int8 is made from kernels of the children's own; use `children='materialize'`.")
    if options.target == "any":
        raise UsageError("No int8 file suits every runtime; choose `target='cpu'` or `'tensorrt'`.")
    target: QuantisedFor = "openvino" if int8.openvino else options.target
    sample = next(iter(int8.images.calibration()), None)
    # A widened gate would have to be quantised at the size of the map; at its own size it stays in float32.
    spelled = replace(options, target="cpu" if target == "cpu" else "any", widen=False)
    with float_file(opened, spelled, sample, listener) as float_export:
        path = float_export.path
        listener.step("calibrate")
        ranges = calibrate(path, int8.images.calibration(), int8.method, listener)
        kernels = _kernels(path) if int8.share else {}
        small = (*_small_notes(path, target), *_computed_notes(path))

        def build(keep_float: Iterable[str]) -> onnx.ModelProto:
            return _finished(quantise(path, ranges, (*int8.keep_float, *keep_float), target), target, kernels)

        parents = opened.provenance.shared_kernels
        with contextlib.closing(Guard(path, int8.images, path.parent, listener, int8.workers)) as guard:
            judged = within_limit(build, guard, quantisable(path, target), int8.max_drop, parents)
    kept_float = tuple(dict.fromkeys((*int8.keep_float, *judged.kept_float)))
    made = {"method": int8.method, "kept_float": list(kept_float), "share_codes": int8.share, **int8.images.record}
    recorded = {"precision": "int8", "int8": made}
    shape = opened.graph.image_shape
    write_transformed(
        *(opened, judged.model, recorded, output, options),
        lambda path: _proved(path, judged.model, options, shape),
        *(inputs, listener),
    )
    return GuardedExport(
        path=output,
        bytes=file_bytes(output),
        target=options.target,
        float_export=float_export,
        evaluation=judged.evaluation,
        labelled=int8.images.labelled,
        drop=drop(judged.evaluation),
        kept_float=kept_float,
        sensitivities=judged.sensitivities,
        storage=onnx_storage(judged.model, "int8 file"),
        sharing=shared_kernels(judged.model),
        notes=(
            *float_export.notes,
            *int8.images.notes,
            *accuracy_notes(judged.evaluation, int8.images.labelled, opened.provenance.recorded_top1),
            *small,
            *_processor_notes(target),
        ),
    )


def _small_notes(path: Path, target: QuantisedFor) -> tuple[str, ...]:
    """Of first layers of a float32 file that stay in float32 because they are faster so."""
    graph = ir.from_proto(read_model(path, weights=False)).graph
    small = small_kernels(graph) if target == "cpu" else set()
    names = ", ".join(node.name or "" for node in graph if node.op_type == "Conv" and node.name in small)
    return (f"{names} stays in float32, in which ONNX Runtime is faster at filters so small",) if names else ()


def _computed_notes(path: Path) -> tuple[str, ...]:
    """Of convolutions of a float32 file that stay in float32 because their kernels are made for the image."""
    count = len(computed_kernels(ir.from_proto(read_model(path, weights=False)).graph))
    text = f"{count} convolutions with a kernel for each image stay in float32, and so does what makes their kernels"
    return (text,) if count else ()


def _processor_notes(target: QuantisedFor) -> tuple[str, ...]:
    """Where this processor needs a session option for the file, or does not tell."""
    note = int8_kernels_here().note
    return (note,) if target == "cpu" and note else ()


def _finished(quantised: onnx.ModelProto, target: QuantisedFor, kernels: Mapping[str, Array]) -> onnx.ModelProto:
    """A quantised model as it is written. TensorRT stores equal codes once by itself, and its reports name nodes."""
    if target == "tensorrt":
        return quantised
    model = ir.from_proto(quantised)
    share_codes(model, kernels)
    store_half(model)  # what is still in float32: the gates' layers
    compact(model)
    return ir.to_proto(model)


def _kernels(path: Path) -> dict[str, Array]:
    """Name of each convolution of a float32 file → its kernel [c', c/g, k, k]."""
    graph = read_model(path).graph
    stored = {tensor.name: tensor for tensor in graph.initializer}
    return {
        node.name: numpy_helper.to_array(stored[node.input[1]])
        for node in graph.node
        if node.op_type == "Conv" and node.input[1] in stored
    }


def _proved(path: Path, judged: onnx.ModelProto, options: OnnxOptions, shape: Shape) -> None:
    """Accuracy was judged before the file was written; what is left is that it can be opened, and to prove its ends.

    Raises:
        ParityError: what takes pixels or answers with probabilities computes something else than what was `judged`.
    """
    with OrtSession(path) as candidate, scratch_folder("int8") as folder:
        if options.interface.plain:
            return
        onnx.save_model(judged, folder / "judged.onnx")
        with OrtSession(folder / "judged.onnx", name="int8 file without preprocessing") as reference:
            probes = standard_probes(shape, options.batch, interface=options.interface)
            departs = f"The int8 file with its preprocessing departs from the {reference.name}"
            parity(candidate, reference, probes, FLOAT32, departs, "Please report this.")
