"""``kdna-deploy export``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kdna_deploy.cli.console import Sink
from kdna_deploy.cli.options import (
    DEFAULT_SIZE,
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

if TYPE_CHECKING:
    from kdna_deploy.fused_source import FusedSource


def export(
    model_file: Annotated[
        Path | None,
        typer.Argument(
            metavar="[MODEL]", help="Fused graph or checkpoint; the newest *.fused.pt2 here.", show_default=False
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
    opset: Annotated[int, typer.Option("--opset", help="ONNX operator set, 18 to 23.")] = 18,
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
    from kdna_deploy.fused_source import open_fused_source
    from kdna_deploy.onnx_export import OnnxOptions, export_onnx
    from kdna_deploy.reports import data, tables

    target = output or Path(stem(model_file) + ".onnx")
    options = OnnxOptions(opset=opset, batch=fixed_batch, simplify=simplify, external_data=external_data)
    with sink.steps() as step:
        opened: FusedSource = open_fused_source(
            model_file, source, arch, model, ema, size, parse_size(DEFAULT_SIZE), step
        )
        checkpoint = opened.network.checkpoint.path
        inputs = (model_file, checkpoint)
        provenance = opened.provenance.beside(target, checkpoint)
        result = export_onnx(opened.graph, opened.network.module, provenance, target, options, inputs, step)
    for note in opened.network.checkpoint.notes:
        sink.say(f"note: {note}")
    sink.result(lambda: tables.onnx_report(result), lambda: data.onnx_data(result))
