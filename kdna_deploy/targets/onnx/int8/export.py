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
from dataclasses import dataclass, replace
from pathlib import Path

import onnx
import onnx_ir as ir
from onnx import numpy_helper

from kdna_deploy.errors import UsageError
from kdna_deploy.evaluation.accuracy import Evaluation
from kdna_deploy.evaluation.accuracy_check import find_shortfall
from kdna_deploy.files import check_output
from kdna_deploy.graph.ledger import KernelStorage
from kdna_deploy.images.split import Split
from kdna_deploy.progress import SILENT, Listener
from kdna_deploy.runtimes.int8_kernels import int8_kernels_here
from kdna_deploy.runtimes.onnx_file import file_bytes, read_model
from kdna_deploy.runtimes.ort import OrtSession
from kdna_deploy.targets.onnx.convert import Target
from kdna_deploy.targets.onnx.export import OnnxExport, OnnxOptions
from kdna_deploy.targets.onnx.half_storage import store_half
from kdna_deploy.targets.onnx.int8.compact import compact
from kdna_deploy.targets.onnx.int8.quantize import Method, QuantisedFor, calibrate, quantisable, quantise, small_kernels
from kdna_deploy.targets.onnx.int8.sensitivity import Guard, Sensitivity, drop, within_limit
from kdna_deploy.targets.onnx.int8.shared_codes import Array, share_codes
from kdna_deploy.targets.onnx.int8.storage import Int8Storage
from kdna_deploy.targets.onnx.ledger import onnx_storage
from kdna_deploy.targets.onnx.precision import float_file, write_transformed
from kdna_deploy.targets.skeleton import Export
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
    """

    images: Split
    method: Method = "minmax"
    max_drop: float | None = None
    share: bool = True
    keep_float: tuple[str, ...] = ()
    openvino: bool = False


@dataclass(frozen=True, kw_only=True)
class Int8Export(Export):
    """A guarded int8 file.

    Attributes:
        target: what it was quantised for, or spelled for where only its weights are in int8.
        float_export: the verified float32 file that it was made from.
        evaluation: of the int8 file on the held-out images, the float32 file being the reference.
        labelled: whether top-1 was measured with labels; without them it is the agreement.
        drop: percentage points lost, see `Int8Options.max_drop`.
        kept_float: layers left in float32.
        sensitivities: of all layers, the most harmful first; empty where no search was needed.
        storage: kernels in the file, those with shared codes counted once.
        weights: what storing weights in int8 did to them; None where the file computes in int8.
        random: whether it was judged by random images, for want of others.
    """

    target: Target
    float_export: OnnxExport
    evaluation: Evaluation
    labelled: bool
    drop: float
    kept_float: tuple[str, ...]
    sensitivities: tuple[Sensitivity, ...]
    storage: KernelStorage
    weights: Int8Storage | None = None
    random: bool = False


def export_int8(
    opened: FusedSource,
    output: Path,
    options: OnnxOptions,
    int8: Int8Options,
    inputs: tuple[Path, ...] = (),
    listener: Listener = SILENT,
) -> Int8Export:
    """Write an int8 ONNX file in the form that ONNX Runtime on a CPU, or TensorRT, computes with.

    Raises:
        UsageError: children are shared in the graph, or multiplied on the fly, or there is no target.
        InputError: too few calibration or held-out images, or all of them equal.
        ParityError: the float32 file departs from the network. Nothing is written.
        AccuracyError: int8 loses more than `max_drop`. Nothing is written.
    """
    check_output(output, inputs)
    if opened.provenance.options.get("children") == "share" or options.on_the_fly:
        raise UsageError("int8 is made from kernels of the children's own; use `children='materialize'`.")
    if options.target == "any":
        raise UsageError("No int8 file suits every runtime; choose `target='cpu'` or `'tensorrt'`.")
    target: QuantisedFor = "openvino" if int8.openvino else options.target
    sample = next(iter(int8.images.calibration()), None)
    # A widened gate would have to be quantised at the size of the map; at its own size it stays in float32.
    with float_file(opened, replace(options, target="any"), sample, listener) as float_export:
        path = float_export.path
        listener.step("calibrate")
        ranges = calibrate(path, int8.images.calibration(), int8.method, listener)
        kernels = _kernels(path) if int8.share else {}
        small = _small_notes(path, target)

        def build(keep_float: Iterable[str]) -> onnx.ModelProto:
            return _finished(quantise(path, ranges, (*int8.keep_float, *keep_float), target), target, kernels)

        parents = opened.provenance.shared_kernels
        with contextlib.closing(Guard(path, int8.images, path.parent, listener)) as guard:
            judged = within_limit(build, guard, quantisable(path, target), int8.max_drop, parents)
    kept_float = tuple(dict.fromkeys((*int8.keep_float, *judged.kept_float)))
    made = {"method": int8.method, "kept_float": list(kept_float), "share_codes": int8.share, **int8.images.record}
    recorded = {"precision": "int8", "int8": made}
    write_transformed(opened, judged.model, recorded, output, options, _opens, inputs, listener)
    return Int8Export(
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
        notes=(
            *float_export.notes,
            *int8.images.notes,
            *accuracy_notes(judged.evaluation, int8.images.labelled, opened.provenance.recorded_top1),
            *small,
            *_processor_notes(target),
        ),
    )


def accuracy_notes(evaluation: Evaluation, labelled: bool, recorded: float | None) -> tuple[str, ...]:
    """Whether the float32 file itself falls short of what the checkpoint records."""
    if not labelled or evaluation.agreement is None:
        return ()
    right = round(evaluation.agreement.reference_top1 * evaluation.images)
    shortfall = find_shortfall(right, evaluation.images, recorded)
    return (f"float32: {shortfall.text}; `evaluate` looks for the cause",) if shortfall else ()


def _small_notes(path: Path, target: QuantisedFor) -> tuple[str, ...]:
    """Of first layers of a float32 file that stay in float32 because they are faster so."""
    graph = ir.from_proto(read_model(path, weights=False)).graph
    small = small_kernels(graph) if target == "cpu" else set()
    names = ", ".join(node.name or "" for node in graph if node.op_type == "Conv" and node.name in small)
    return (f"{names} stays in float32, in which ONNX Runtime is faster at filters so small",) if names else ()


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


def _opens(path: Path) -> None:
    """Accuracy was judged before the file was written; what is left is that it can be opened."""
    OrtSession(path).close()
