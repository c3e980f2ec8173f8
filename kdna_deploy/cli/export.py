"""``kdna-deploy export``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import typer

from kdna_deploy.cli.check import check_export
from kdna_deploy.cli.console import Sink
from kdna_deploy.cli.deployment import CalibrationChoice, attention_request, children_in_graph
from kdna_deploy.cli.engine import EngineChoice
from kdna_deploy.cli.options.engine import Capabilities, Layers, TensorRt, TensorRtRtx, Tf32
from kdna_deploy.cli.options.graph import (
    Attention,
    ChannelAttention,
    ExportChildren,
    ExportChildrenOption,
    FreezeBelow,
    YesDrop,
)
from kdna_deploy.cli.options.images import Calibration, ColorOption, Crop, HeldOut, Mean, Resize, Std
from kdna_deploy.cli.options.output import (
    Batch,
    Check,
    ExternalData,
    Json,
    MaxBloat,
    Onnx,
    Opset,
    Output,
    Simplify,
    TargetOption,
)
from kdna_deploy.cli.options.precision import (
    CalibrationMethod,
    HalfIo,
    MaxDrop,
    Method,
    Precision,
    PrecisionOption,
    Weights,
    WeightsOption,
)
from kdna_deploy.cli.options.source import Arch, Ema, Exportable, InputSize, Model, Source
from kdna_deploy.cli.precision import PrecisionChoice
from kdna_deploy.cli.values import DYNAMIC, check_number, newest, parse_batch, parse_size, stem
from kdna_deploy.errors import AccuracyError, UsageError
from kdna_deploy.files import check_output
from kdna_deploy.input_files import Kind, check_input

if TYPE_CHECKING:
    from rich.console import RenderableType

    from kdna_deploy.export.onnx.export import OnnxOptions
    from kdna_deploy.export.source import FusedSource
    from kdna_deploy.export.tensorrt.export import EngineExport
    from kdna_deploy.images.file import Unreadable


def export(
    context: typer.Context,
    model_file: Exportable = None,
    onnx: Onnx = False,
    tensorrt: TensorRt = False,
    tensorrt_rtx: TensorRtRtx = False,
    output: Output = None,
    source: Source = None,
    arch: Arch = None,
    model: Model = None,
    ema: Ema = False,
    input_size: InputSize = None,
    batch: Batch = DYNAMIC,
    target: TargetOption = None,
    opset: Opset = 18,
    children: ExportChildrenOption = None,
    max_bloat: MaxBloat = None,
    precision: PrecisionOption = Precision.fp32,
    weights: WeightsOption = Weights.fp32,
    half_io: HalfIo = False,
    held_out: HeldOut = None,
    calibration_method: Method = CalibrationMethod.minmax,
    max_drop: MaxDrop = None,
    channel_attention: ChannelAttention = Attention.keep,
    yes_drop: YesDrop = False,
    freeze_below: FreezeBelow = None,
    calibration: Calibration = None,
    mean: Mean = None,
    std: Std = None,
    resize: Resize = None,
    crop: Crop = None,
    color: ColorOption = None,
    simplify: Simplify = True,
    external_data: ExternalData = False,
    tf32: Tf32 = True,
    compute_capability: Capabilities = None,
    layers: Layers = False,
    check: Check = None,
    json: Json = False,
) -> None:
    """Write an ONNX file or an engine, verified against the network.

    A checkpoint is fused on the way. The file is run beside the network as it was trained, and appears under its name
    only where it computes the same; int8 is judged by its accuracy instead.
    """
    sink = Sink(json)
    if check is not None:
        check_export(context, check, model_file, source, model, calibration, sink)
        return
    size = parse_size(input_size) if input_size is not None else None
    check_number(max_bloat, "--max-bloat", above=0)
    engine = EngineChoice(tensorrt, tensorrt_rtx, tf32, tuple(compute_capability or ()), layers)
    engine.check()
    fixed_batch = None if engine.library else parse_batch(batch)
    if model_file is None:
        model_file = newest("*.fused.pt2", "kdna-deploy fuse CKPT")
        sink.say(f"using {model_file}, the newest fused graph here")
    images = CalibrationChoice(calibration, mean, std, resize, crop, color)
    choice = PrecisionChoice(
        precision,
        weights,
        half_io,
        target,
        children,
        held_out,
        calibration_method,
        max_drop,
        images,
        engine=engine.library is not None,
    )
    choice.check()
    from_onnx = model_file.suffix == ".onnx"
    check_input(model_file, (Kind.fused, Kind.checkpoint, Kind.onnx), "export")
    if from_onnx and (engine.library is None or precision is not Precision.fp32):
        raise UsageError(
            f"'{model_file}' is an ONNX file already, with its precision in the graph; give the fused graph or the "
            "checkpoint."
        )
    if source is not None:
        check_input(source, (Kind.checkpoint,), "--source")
    inputs = (model_file, *([] if source is None else [source]), *choice.inputs)
    built = (output or engine.output(model_file, stem(model_file))) if engine.library else None
    written = engine.graph_path(built) if built else output or Path(stem(model_file) + ".onnx")
    for file in (*([] if from_onnx else [written]), *engine.files(built)):
        check_output(file, inputs)
    if engine.library:
        engine.require(batch)
    if from_onnx:
        assert built is not None
        _show_engine(sink, engine.build(model_file, built, batch, sink))
        return
    int8 = precision is Precision.int8
    with attention_request(
        sink, channel_attention, yes_drop, freeze_below, images, other_use=choice.uses_images
    ) as attention:
        from kdna_deploy.export.onnx.export import OnnxOptions
        from kdna_deploy.export.source import Request, open_fused_source

        options = OnnxOptions(
            opset,
            fixed_batch,
            simplify,
            external_data,
            on_the_fly=children is ExportChildren.on_the_fly,
            max_bloat=max_bloat,
            target=choice.chosen_target.value,
            weights=weights.value,
        )
        in_graph: Literal["materialize", "share"] | None = "materialize" if int8 else children_in_graph(children)
        request = Request(source, arch, model, ema, size, in_graph, attention)
        unreadable: list[Unreadable] = []
        with sink.steps() as (step, count):
            opened = choice.prepared(open_fused_source(model_file, request, step, count))
        with _shown_losses(sink):
            done = _export(opened, written, options, choice, inputs, unreadable.append, sink)
        sink.warn_unreadable(unreadable)
    for note in (*opened.network.checkpoint.notes, *opened.notes):
        sink.say(f"note: {note}")
    if built is None:
        sink.result(done.report, done.data)
    else:
        _show_engine(sink, engine.build(written, built, batch, sink), done)


@contextmanager
def _shown_losses(sink: Sink) -> Iterator[None]:
    """Show which layers lose the accuracy when too much is lost."""
    try:
        yield
    except AccuracyError as error:
        from kdna_deploy.reports.int8 import sensitivity_table

        sink.show(sensitivity_table(error.sensitivities))
        raise


@dataclass(frozen=True)
class _Done:
    """What was written, as a table and as a document."""

    report: Callable[[], RenderableType]
    data: Callable[[], dict[str, Any]]


def _show_engine(sink: Sink, result: EngineExport, graph: _Done | None = None) -> None:
    """`graph` is the ONNX file that was exported on the way, if there was one."""
    from rich.console import Group

    from kdna_deploy.reports import engine as reports

    before = [graph.report()] if graph else []
    sink.result(
        lambda: Group(*before, reports.engine_report(result)),
        lambda: reports.engine_data(result, graph.data() if graph else None),
    )


def _export(
    opened: FusedSource,
    written: Path,
    options: OnnxOptions,
    choice: PrecisionChoice,
    inputs: tuple[Path, ...],
    on_unreadable: Callable[[Unreadable], None],
    sink: Sink,
) -> _Done:
    from rich.console import Group

    from kdna_deploy.reports import data, tables
    from kdna_deploy.reports.input import input_data, input_facts

    also = {**input_data(opened.provenance), **(data.attention_data(opened.fused) if opened.fused else {})}

    def done(report: Callable[[], RenderableType], document: Callable[[], dict[str, Any]]) -> _Done:
        """With what became of channel attention, and what the file takes and returns."""
        changes = tables.attention_changes(opened.fused)
        return _Done(lambda: Group(*changes, report(), input_facts(opened.provenance)), lambda: {**document(), **also})

    with sink.steps() as (step, count):
        if choice.precision is Precision.int8:
            from kdna_deploy.export.onnx.int8.export import export_int8
            from kdna_deploy.reports import int8 as int8_reports

            int8 = export_int8(
                opened, written, options, choice.int8_options(opened, options.batch, on_unreadable), inputs, step, count
            )
            return done(lambda: int8_reports.int8_report(int8), lambda: int8_reports.int8_data(int8))
        if choice.precision is Precision.fp16:
            from kdna_deploy.export.onnx.half.export import export_half
            from kdna_deploy.reports import half as half_reports

            half = export_half(
                opened, written, options, choice.half_options(opened, options.batch, on_unreadable), inputs, step, count
            )
            return done(lambda: half_reports.half_report(half), lambda: half_reports.half_data(half))
        from kdna_deploy.export.onnx.export import export_fused

        result = export_fused(opened, written, options, inputs, step)
        return done(lambda: tables.onnx_report(result), lambda: data.onnx_data(result))
