"""Fused graph → OpenVINO file (IR: ``.xml`` and ``.bin``), verified on OpenVINO before it gets its name.

    ONNX file, verified (scratch) → OpenVINO's own graph → provenance → write → run beside the original → rename

    float32                      the ONNX file for any runtime, its constants folded
    half, `weights='fp16'`       the ONNX file with halves and casts, as it is
    codes, `weights='int8'`      the ONNX file with codes and products, as it is; `'int4'` likewise
    int8, `precision='int8'`     the ONNX file with QDQ pairs; in OpenVINO's words, fake quantisation

OpenVINO's converter folds constants, and so would store each child of a shared kernel, halves as float32, and codes
multiplied out. Where these are to stay its reader alone is used, which keeps the graph as it is; the plugin for CPUs
folds them when the file is opened, so that latency is the same. OpenVINO's own way of storing halves rounds biases and
scales as well, which moves logits up to ten times as far.

Does not apply to half precision computing, which the processors that OpenVINO runs on here do not do.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from kdna_deploy.errors import ExportError, UsageError
from kdna_deploy.evaluation.accuracy import Evaluation
from kdna_deploy.evaluation.agreement import Agreement
from kdna_deploy.files import check_output, file_sha256, scratch_folder
from kdna_deploy.graph.provenance import KEY, Provenance
from kdna_deploy.precision import CODES
from kdna_deploy.progress import SILENT, Listener
from kdna_deploy.runtimes.onnx_file import provenance_of_model, read_model
from kdna_deploy.runtimes.openvino import OpenVinoSession
from kdna_deploy.runtimes.openvino_file import WEIGHTS_KEY, read_openvino, weights_of
from kdna_deploy.runtimes.openvino_library import openvino
from kdna_deploy.runtimes.sealed import ROOM, SEAL_KEY, XML_MARK, seal
from kdna_deploy.targets.converted import ConvertedExport, judged, verified
from kdna_deploy.targets.onnx.codes.export import StorageOptions, export_codes
from kdna_deploy.targets.onnx.export import OnnxExport, check_bloat, export_fused
from kdna_deploy.targets.onnx.guarded import GuardedExport
from kdna_deploy.targets.onnx.int8.export import Int8Options, export_int8
from kdna_deploy.targets.onnx.options import OnnxOptions
from kdna_deploy.targets.skeleton import write_judged
from kdna_deploy.targets.source import FusedSource

_RUNTIME = "OpenVINO"
_SHARED_NOTE = "each parent kernel is stored once; OpenVINO multiplies its children out when it opens the file"
_CODES_NOTE = "weights are stored as {} codes; OpenVINO multiplies them out when it opens the file"


@dataclass(frozen=True)
class OpenVinoOptions:
    """How to write an OpenVINO file.

    Attributes:
        onnx: of the ONNX file that it is made from; its target is chosen here.
        int8: how to quantise, for a file that computes in int8.
        storage: how to judge a file whose weights are stored as codes.

    Raises:
        UsageError: options that an OpenVINO file cannot have.
    """

    onnx: OnnxOptions = field(default_factory=OnnxOptions)
    int8: Int8Options | None = None
    storage: StorageOptions | None = None

    def __post_init__(self) -> None:
        if self.onnx.on_the_fly:
            raise UsageError("OpenVINO multiplies children out when it opens a file; choose `children='share'`.")


def export_openvino(
    opened: FusedSource,
    output: Path,
    options: OpenVinoOptions | None = None,
    inputs: tuple[Path, ...] = (),
    listener: Listener = SILENT,
) -> ConvertedExport:
    """Write the fused graph `opened` to `output`, an ``.xml``, and its weights to the ``.bin`` beside it.

    Raises:
        UsageError: either file cannot be written.
        ParityError: OpenVINO computes something else than the network. Nothing is written.
        AccuracyError: int8 loses more than its limit. Nothing is written.
        ExportError: OpenVINO cannot convert the graph, or the file is larger than `max_bloat` allows.
    """
    options = options or OpenVinoOptions()
    checkpoint = opened.network.checkpoint
    sources = (*inputs, *checkpoint.files)
    for file in (output, weights_of(output)):
        check_output(file, sources)
    shared = opened.provenance.options.get("children") == "share"
    as_it_is = shared or options.onnx.weights != "fp32"
    with scratch_folder("openvino") as folder:
        made_from = _onnx(opened, folder / "net.onnx", options, listener)
        listener.step("convert to OpenVINO")
        onnx_model = read_model(made_from.path)
        model = _converted(made_from.path, {node.name for node in onnx_model.graph.node}, as_it_is)
        found = provenance_of_model(onnx_model, made_from.path)
        assert found is not None, "our own file"
        made = opened.beside(found, output).with_options(format="openvino")

        def write(path: Path) -> None:
            _save(model, made, path)
            check_bloat(read_openvino(path, weights=False).bytes, made, options.onnx.max_bloat)

        def judge(path: Path) -> tuple[tuple[Agreement, ...], Evaluation | None]:
            with OpenVinoSession(path) as candidate:
                if options.int8:
                    limits = (options.int8.images, options.int8.max_drop)
                    return (), judged(candidate, opened, *limits, _RUNTIME, listener)
                return verified(candidate, opened, options.onnx, _RUNTIME, listener), None

        agreements, evaluation = write_judged(output, sources, write, judge, listener)
    return ConvertedExport(
        runtime=_RUNTIME,
        path=output,
        bytes=read_openvino(output, weights=False).bytes,
        version=openvino.__version__.partition("-")[0],
        reference=opened.reference.name,
        stored="int8" if options.int8 else options.onnx.weights,
        made_from=made_from,
        agreements=agreements,
        evaluation=evaluation,
        notes=_notes(made_from, shared, options),
    )


def _onnx(opened: FusedSource, path: Path, options: OpenVinoOptions, listener: Listener) -> OnnxExport | GuardedExport:
    """The verified ONNX file that OpenVINO is given: its graph is laid out by OpenVINO, whatever it is spelled for."""
    plain = replace(options.onnx, target="any", max_bloat=None, external_data=False)
    if options.int8:
        int8 = replace(options.int8, openvino=True)
        return export_int8(opened, path, replace(plain, target="cpu"), int8, listener=listener)
    if options.onnx.weights in CODES:
        return export_codes(opened, path, plain, options.storage, listener=listener)
    return export_fused(opened, path, plain, listener=listener)


def _converted(path: Path, layers: set[str], as_it_is: bool) -> Any:
    """OpenVINO's graph of the ONNX file at `path`; `as_it_is`, nothing in it is folded.

    Raises:
        ExportError: OpenVINO cannot read it.
    """
    try:
        model = openvino.Core().read_model(str(path))
        if not as_it_is:  # what `openvino.convert_model` does, which reports what it converts (`openvino_library`)
            from openvino._offline_transformations import (
                apply_moc_transformations,
                compress_quantize_weights_transformation,
            )

            apply_moc_transformations(model, cf=False, smart_reshape=True)
            compress_quantize_weights_transformation(model)
    except Exception as error:  # of many kinds
        raise ExportError(f"OpenVINO cannot convert the graph: {_cause(error)}; please report this.") from error
    for key in list(model.rt_info):  # the names of scratch files, and of the ONNX file's metadata
        del model.rt_info[key]
    # What is no layer of the ONNX file is named by a counter of the process.
    for number, operation in enumerate(model.get_ordered_ops()):
        name, kind = operation.get_friendly_name(), operation.get_type_name()
        if name not in layers and kind not in ("Parameter", "Result"):
            operation.set_friendly_name(f"{kind}/{number}")
    return model


def _save(model: Any, made: Provenance, path: Path) -> None:
    """Write `model` to `path` and its weights beside it, then once more with their digest, and its own."""
    model.set_rt_info(made.to_json(), [KEY])
    model.set_rt_info(ROOM, [SEAL_KEY])
    try:
        openvino.save_model(model, str(path), compress_to_fp16=False)
        model.set_rt_info(file_sha256(weights_of(path)), [WEIGHTS_KEY])
        openvino.save_model(model, str(path), compress_to_fp16=False)
        content = bytearray(path.read_bytes())
        seal(content, XML_MARK)
        path.write_bytes(content)
    except (RuntimeError, OSError) as error:
        raise ExportError(f"OpenVINO could not write the file: {_cause(error)}; is there room for it?") from error


def _notes(made_from: OnnxExport | GuardedExport, shared: bool, options: OpenVinoOptions) -> tuple[str, ...]:
    weights = options.onnx.weights
    own = [_CODES_NOTE.format(weights)] if weights in CODES else [_SHARED_NOTE] if shared else []
    return (*made_from.notes, *own)


def _cause(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return re.sub(r"\.$", "", lines[-1])[:200] if lines else type(error).__name__
