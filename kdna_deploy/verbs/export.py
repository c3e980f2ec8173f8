"""Network → a file for somebody, verified against the network as it was trained before it gets its name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kdna_deploy.errors import UsageError
from kdna_deploy.extras import require_converter
from kdna_deploy.files import check_output
from kdna_deploy.kinds import Kind, baseline_name, prepared_name, stem
from kdna_deploy.network.configuration import Words, configured
from kdna_deploy.progress import SILENT, Listener
from kdna_deploy.verbs.arguments import (
    DYNAMIC,
    Numbers,
    PathLike,
    Size,
    batch_size,
    check_number,
    image_size,
    optional_path,
)
from kdna_deploy.verbs.attention_words import AttentionWords, attention_choice
from kdna_deploy.verbs.engine_words import ENGINE_STEPS, EngineWords
from kdna_deploy.verbs.export_source import check_given, class_names, name_of, named, opened_source, said_of_graph
from kdna_deploy.verbs.image_words import ImageWords
from kdna_deploy.verbs.interface_words import InterfaceWords
from kdna_deploy.verbs.output_names import check_name
from kdna_deploy.verbs.own_formats import OwnWords, Said, own_suffix
from kdna_deploy.verbs.precision_words import PrecisionWords
from kdna_deploy.verbs.prepare import PREPARE_STEPS
from kdna_deploy.verbs.result import Result
from kdna_deploy.verbs.source import files_of, size_of, source_of
from kdna_deploy.verbs.writing import Writing, beside_baseline, prepared, writing_steps

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from kdna_deploy.images.interface import Interface
    from kdna_deploy.reports.report import Report
    from kdna_deploy.targets.converted import ConvertedExport
    from kdna_deploy.targets.onnx.export import OnnxExport
    from kdna_deploy.targets.onnx.guarded import GuardedExport
    from kdna_deploy.targets.onnx.half.export import HalfExport
    from kdna_deploy.targets.onnx.prepare import PreparedFile
    from kdna_deploy.targets.source import FusedSource
    from kdna_deploy.targets.tensorrt.export import EngineExport
    from kdna_deploy.verbs.source import Source

_OPSET = 18


@dataclass(frozen=True, repr=False)
class ExportedFile(Result):
    """A file that was written and judged.

    Attributes:
        path: the file.
        onnx: how the ONNX file was written; None where there is none, or an engine was built from one that was there.
        engine: how the engine was built; None where none was.
        source: what it was made from; None where that was an ONNX file.
        prepared: the same file, prepared for this processor; None where that was not asked for.
        converted: how a file for another runtime was written; None where none was asked for.
        interface: what it takes and returns; None where that is as the ONNX file says.
        baseline: its plain backbone, which it is measured beside; None where that was not asked for.
    """

    path: Path
    onnx: OnnxExport | GuardedExport | HalfExport | None = None
    engine: EngineExport | None = None
    source: FusedSource | None = None
    prepared: PreparedFile | None = None
    converted: ConvertedExport | None = None
    interface: Interface | None = None
    baseline: Path | None = None

    @property
    def notes(self) -> tuple[str, ...]:
        opened = self.source
        return () if opened is None else (*opened.network.checkpoint.notes, *opened.notes)

    @property
    def report(self) -> Report:
        from kdna_deploy.reports.export import converted_export_report, export_report, with_baseline

        if self.converted is not None:
            told = converted_export_report(self.converted, self.source, self.notes, self.interface)
        else:
            told = export_report(self.onnx, self.engine, self.source, self.notes, self.prepared, self.interface)
        return with_baseline(told, self.baseline)


def export(
    network: Source,
    output: PathLike | None = None,
    *,
    openvino: bool = False,
    ncnn: bool = False,
    mnn: bool = False,
    litert: bool = False,
    executorch: bool = False,
    tensorrt: bool = False,
    tensorrt_rtx: bool = False,
    source: PathLike | None = None,
    arch: str | None = None,
    model: str | None = None,
    ema: bool = False,
    input_size: Size | None = None,
    batch: int | str = DYNAMIC,
    dynamic_size: bool = False,
    target: str | None = None,
    opset: int = _OPSET,
    children: str | None = None,
    max_bloat: float | None = None,
    precision: str = "fp32",
    weights: str = "fp32",
    half_io: bool = False,
    held_out: PathLike | None = None,
    calibration_method: str = "minmax",
    max_drop: float | None = None,
    workers: int | None = None,
    ray: str | None = None,
    attention: str | None = None,
    freeze_below: float | None = None,
    calibration: PathLike | None = None,
    mean: Numbers | None = None,
    std: Numbers | None = None,
    resize: int | None = None,
    crop: Size | None = None,
    color: str | None = None,
    labels: PathLike | None = None,
    preprocess: str | None = None,
    postprocess: str | None = None,
    simplify: bool = True,
    external_data: bool = False,
    prepare: bool = False,
    with_baseline: bool = False,
    tf32: bool = True,
    compute_capability: Sequence[str] = (),
    layers: bool = False,
    channel_attention: str | None = None,
    listener: Listener = SILENT,
    **architecture: Unpack[Words],
) -> ExportedFile:
    """Write a deployable file, verified against the network as it was trained.

    Args:
        network: checkpoint, ``.fused.pt2``, what `load` or `fuse` returned, or a module; for engines also an ONNX file.
        output: the file to write; named after `network` by default, in the current folder.
        openvino: write an OpenVINO file, ``.xml`` and ``.bin``, in place of an ONNX file.
        ncnn, mnn, litert, executorch: likewise an ncnn file, ``.param`` and ``.bin``, an MNN file, a LiteRT
            file, ``.tflite``, or an ExecuTorch file, ``.pte``, see docs/edge.md and docs/litert.md.
        tensorrt, tensorrt_rtx: build an engine as well, with that library.
        source: checkpoint that a ``.fused.pt2`` was made from, where it lies elsewhere; told by its SHA-256.
        arch, model, ema, architecture: how to load a checkpoint, see `load`.
        input_size: of the images, 224 or (160, 192); as it was fused or recorded, else 224.
        batch: ``"dynamic"``, a number, or for engines a range such as ``"1:8:128"``.
        dynamic_size: take images of any height and width beside those of `input_size`.
        target: what the graph is spelled for: ``"cpu"`` (ONNX Runtime), ``"tensorrt"`` or ``"any"`` runtime; by default
            cpu, for engines and half precision tensorrt.
        opset: ONNX operator set, 18 to 23.
        children: ``"materialize"``, ``"share"`` or ``"on-the-fly"`` (multiplied at every inference); as it was fused.
        max_bloat: fail if the file exceeds so many times the trained parameters' bytes.
        precision: what the file computes in: ``"fp32"``, ``"fp16"`` or ``"int8"``.
        weights: ``"fp16"``, or codes, ``"int8"`` or ``"int4"``, to store them in; the file computes in float32.
        half_io: with fp16, take and return half precision too.
        held_out: images that judge int8, in `precision` or `weights`; every fifth of `calibration` by default.
        calibration_method: how int8 in `precision` finds the range of an activation: ``"minmax"``, ``"percentile"``,
            ``"entropy"``.
        max_drop: percentage points of top-1 that int8 may lose; sensitive layers stay in float32 until it holds.
        workers, ray: who evaluates what int8 loses, see `evaluate`.
        attention, channel_attention, freeze_below, calibration, mean, std, resize, crop, color: see `fuse`; attention
            is as it was fused by default, and another choice fuses again from the checkpoint, `"keep"` too.
        labels: file of class names to record: one a line, or a JSON list or mapping; "imagenet" for those of
            ImageNet; as the checkpoint records by default.
        preprocess: let the file take uint8 pixels, ``"nhwc"`` or ``"nchw"``, and normalise them itself.
        postprocess: let it answer with probabilities, ``"softmax"``, or with the K largest and their classes,
            ``"topk:K"``.
        simplify: run onnxsim.
        external_data: keep the weights in a file beside the model.
        prepare: write ``NAME.prepared.onnx`` beside the file as well, see `prepare`.
        with_baseline: write ``NAME.baseline.onnx`` beside the file as well, the plain backbone that `bench` measures it
            beside where there is no PyTorch to build one.
        tf32: let an engine's float32 convolutions round to TF32.
        compute_capability: GPUs to build a TensorRT-RTX engine for.
        layers: write the engine's layers beside it.

    Raises:
        UsageError: what was said makes no sense.
        InputError: something cannot be loaded or traced.
        ParityError, AccuracyError, ExportError: the file is not what it must be; nothing is written.
        RuntimeFailure: a library is missing, or needs a GPU that is not there.
    """
    of_graph = said_of_graph(locals(), export)  # before there are other names
    size, said = image_size(input_size) or size_of(network), configured(arch, architecture)
    check_number("max_bloat", max_bloat, above=0)
    engine = EngineWords(tensorrt, tensorrt_rtx, tf32, tuple(compute_capability), layers)
    engine.check()
    if prepare and engine.library:
        raise UsageError("`prepare` is for ONNX Runtime on this processor, and an engine is for a GPU; leave one out.")
    if with_baseline and engine.library:
        raise UsageError("`with_baseline` is for files that run on a CPU; leave it out for an engine.")
    fixed = None if engine.library else batch_size(batch)
    own = OwnWords(
        {"openvino": openvino, "ncnn": ncnn, "mnn": mnn, "litert": litert, "executorch": executorch},
        Said(
            *(engine.library is not None, prepare, target, precision, weights, children, external_data, fixed),
            *(dynamic_size, bool(preprocess or postprocess), with_baseline, workers is not None or ray is not None),
        ),
    )
    own.check()
    images = ImageWords(optional_path(calibration), mean, std, resize, crop, color)
    judges = optional_path(held_out)
    words = PrecisionWords(
        *(precision, weights, half_io, target, children, judges, calibration_method, max_drop, images),
        engine=engine.library is not None,
        workers=workers,
        ray=ray,
    )
    given, wanted = source_of(network, said, model, ema), optional_path(output)
    checkpoint = optional_path(source)
    check_given(given, engine, of_graph, checkpoint)
    words.check()
    words.check_size(dynamic_size)
    from_onnx = isinstance(given, Path) and given.suffix == ".onnx"
    ends = InterfaceWords(preprocess, postprocess, images, half_io)
    ends.check()
    if preprocess is None:
        images.check_read(
            *(images.path, judges),
            instead="name a folder of them with `calibration`, let the file prepare them with `preprocess`, or say it "
            "to `run` and `evaluate`",
        )
    names = class_names(optional_path(labels))
    inputs = (*files_of(given, checkpoint), *said.files, *words.inputs, *([Path(labels)] if labels else []))
    name = stem(given) if isinstance(given, Path) else name_of(given)
    built = (wanted or engine.output(Path(str(given)), name)) if engine.library else None
    written = engine.graph_path(built) if built else wanted or Path(name + own_suffix(own.named))
    beside = written.with_name(prepared_name(written).name) if prepare else None
    plain = baseline_name(written) if with_baseline else None
    graph = () if from_onnx else own.files(written)
    for file in (*graph, *engine.files(built), *(one for one in (beside, plain) if one)):
        check_output(file, inputs)
    own.check_name(written)
    if built:
        check_name(built, Kind.engine)
    own.require()
    if engine.library:
        engine.require(str(batch))
    require_converter("Writing a file")
    if from_onnx:
        assert built is not None and isinstance(given, Path)
        listener.plan(("prepare", *ENGINE_STEPS))
        listener.step("prepare")
        return ExportedFile(built, engine=engine.build(given, built, str(batch), listener))
    choice = attention_choice(attention, channel_attention)
    dynamic = AttentionWords(choice, freeze_below, images, other_use=words.uses_images)
    dynamic.check()
    as_it_is = not (fixed or dynamic_size) and (ends.plain or words.uses_images)
    by_file = not dynamic.changes and as_it_is and weights != "fp16"  # such a file proves its graph as well
    steps = writing_steps(given, choice or "keep", words, simplify, with_baseline, by_file)
    further = ENGINE_STEPS if engine.library else PREPARE_STEPS if beside else own.steps
    listener.plan((*steps, *further))
    listener.step("load")
    from kdna_deploy.graph.dynamic_convolution import dynamic_convolutions
    from kdna_deploy.targets.onnx.options import OnnxOptions
    from kdna_deploy.targets.source import Request

    asked: Any = own.children or words.children_in_graph
    request = Request(checkpoint, said, model, ema, size, asked, dynamic.request(listener), proof="file")
    opened = named(opened_source(given, request, listener), names, optional_path(labels))
    opened = words.prepared(opened, noted=dynamic.prepares)
    words.check_outputs(opened.graph)
    opened, interface = ends.applied(opened, noted=dynamic.prepares or words.prepares)
    if dynamic_convolutions(opened.graph.module):  # of one batch size they need no loop over its images
        fixed = fixed or engine.fixed(str(batch))
    options = OnnxOptions(
        *(opset, fixed, simplify, external_data),
        on_the_fly=children == "on-the-fly",
        max_bloat=max_bloat,
        target=words.chosen_target,  # type: ignore[arg-type]
        weights=weights,  # type: ignore[arg-type]
        dynamic_size=dynamic_size,
        interface=interface,
    )
    if dynamic_size:
        opened = replace(opened, provenance=opened.provenance.with_options(dynamic_size=True))
    with beside_baseline(Writing(opened, written, options, words, inputs, listener), with_baseline) as writing:
        done = None if own.wanted else writing.onnx()
        converted = writing.own() if own.wanted else None
    beside_it = prepared(written, beside, listener)
    engine_of_it = engine.build(written, built, str(batch), listener) if built else None
    return ExportedFile(built or written, done, engine_of_it, opened, beside_it, converted, interface, plain)
