"""``kdna-deploy export``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from kdna_deploy.cli.console import Sink
from kdna_deploy.cli.deployment import (
    Attention,
    Calibration,
    CalibrationChoice,
    ChannelAttentionOption,
    Color,
    ColorOption,
    Crop,
    ExportChildren,
    FreezeBelow,
    Mean,
    Resize,
    Std,
    Target,
    YesDrop,
    attention_request,
    children_in_graph,
)
from kdna_deploy.cli.options import (
    Arch,
    Ema,
    Json,
    Model,
    OptionalInputSize,
    Output,
    newest,
    parse_batch,
    parse_size,
    stem,
)
from kdna_deploy.cli.quantisation import (
    CalibrationMethod,
    HeldOut,
    MaxDrop,
    Method,
    Precision,
    PrecisionOption,
    QuantisationChoice,
)
from kdna_deploy.errors import UsageError
from kdna_deploy.files import check_output


def export(
    model_file: Annotated[
        Path | None,
        typer.Argument(
            metavar="MODEL", help="Fused graph or checkpoint; the newest *.fused.pt2 here.", show_default=False
        ),
    ] = None,
    onnx: Annotated[bool, typer.Option("--onnx", help="Write an ONNX file (what is done by default).")] = False,
    output: Output = None,
    source: Annotated[
        Path | None,
        typer.Option("--source", help="Checkpoint that a fused graph was made from, when it lies elsewhere."),
    ] = None,
    arch: Arch = None,
    model: Model = None,
    ema: Ema = False,
    input_size: OptionalInputSize = None,
    batch: Annotated[str, typer.Option("--batch", metavar="dynamic|N", help="Batch size of the file.")] = "dynamic",
    target: Annotated[
        Target,
        typer.Option("--target", help="ONNX Runtime on a CPU, whose fast layout the graph is spelled for; or any."),
    ] = Target.cpu,
    opset: Annotated[int, typer.Option("--opset", help="ONNX operator set, 18 to 23.")] = 18,
    children: Annotated[
        ExportChildren | None,
        typer.Option(
            help="A kernel for each child; each parent once, multiplied at session start; or at every inference. "
            "As it was fused by default.",
            show_default=False,
        ),
    ] = None,
    max_bloat: Annotated[
        float | None,
        typer.Option("--max-bloat", metavar="R", help="Fail if the file exceeds R × the trained parameters' bytes."),
    ] = None,
    precision: PrecisionOption = Precision.fp32,
    held_out: HeldOut = None,
    calibration_method: Method = CalibrationMethod.minmax,
    max_drop: MaxDrop = None,
    channel_attention: ChannelAttentionOption = Attention.keep,
    yes_drop: YesDrop = False,
    freeze_below: FreezeBelow = None,
    calibration: Calibration = None,
    mean: Mean = None,
    std: Std = None,
    resize: Resize = None,
    crop: Crop = None,
    color: ColorOption = Color.rgb,
    simplify: Annotated[bool, typer.Option("--simplify/--no-simplify", help="Run onnxsim.")] = True,
    external_data: Annotated[
        bool, typer.Option("--external-data", help="Keep the weights in a file beside the model.")
    ] = False,
    json: Json = False,
) -> None:
    """Write a deployable file, verified against the network as it was trained."""
    sink = Sink(json)
    size = parse_size(input_size) if input_size else None
    fixed_batch = parse_batch(batch)
    if model_file is None:
        model_file = newest("*.fused.pt2", "kdna-deploy fuse CKPT")
        sink.say(f"using {model_file}, the newest fused graph here")
    if model_file.suffix == ".onnx":
        raise UsageError(f"'{model_file}' is an ONNX file already; give the fused graph or the checkpoint.")
    written = output or Path(stem(model_file) + ".onnx")
    check_output(written, (model_file,))
    images = CalibrationChoice(calibration, mean, std, resize, crop, color)
    quantisation = QuantisationChoice(precision, held_out, calibration_method, max_drop, images)
    quantisation.check()
    int8 = precision is Precision.int8
    if int8 and children in (ExportChildren.share, ExportChildren.on_the_fly):
        raise UsageError("int8 gives every child kernels with scales of their own; use --children materialize.")
    with attention_request(sink, channel_attention, yes_drop, freeze_below, images, quantises=int8) as attention:
        from kdna_deploy.fused_source import Request, open_fused_source
        from kdna_deploy.onnx_export import OnnxOptions, export_fused
        from kdna_deploy.reports import data, tables

        on_the_fly = children is ExportChildren.on_the_fly
        options = OnnxOptions(
            opset,
            fixed_batch,
            simplify,
            external_data,
            on_the_fly=on_the_fly,
            max_bloat=max_bloat,
            target=target.value,
        )
        in_graph: Literal["materialize", "share"] | None = "materialize" if int8 else children_in_graph(children)
        request = Request(source, arch, model, ema, size, in_graph, attention)
        unreadable: list[Path] = []
        with sink.steps() as (step, count):
            opened = open_fused_source(model_file, request, step, count)
            if int8:
                from kdna_deploy.int8_export import export_int8

                chosen = quantisation.options(opened, fixed_batch, unreadable.append)
                quantised = export_int8(opened, written, options, chosen, (model_file,), step, count)
            else:
                result = export_fused(opened, written, options, (model_file,), step)
        sink.warn_unreadable(list(dict.fromkeys(unreadable)))
    for note in (*opened.network.checkpoint.notes, *opened.notes):
        sink.say(f"note: {note}")
    if int8:
        from kdna_deploy.reports import int8 as int8_reports

        sink.result(lambda: int8_reports.int8_report(quantised), lambda: int8_reports.int8_data(quantised))
    else:
        sink.result(lambda: tables.onnx_report(result, opened.fused), lambda: data.onnx_data(result, opened.fused))
