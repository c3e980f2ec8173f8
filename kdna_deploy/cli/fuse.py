"""``kdna-deploy fuse``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kdna_deploy.cli.console import Sink
from kdna_deploy.cli.deployment import (
    Attention,
    Calibration,
    CalibrationChoice,
    ChannelAttentionOption,
    Children,
    ColorOption,
    Crop,
    FreezeBelow,
    Mean,
    Resize,
    Std,
    YesDrop,
    attention_request,
)
from kdna_deploy.cli.options import Arch, Ema, Json, Model, OptionalInputSize, Output, parse_size, stem
from kdna_deploy.files import check_output
from kdna_deploy.input_files import Kind, check_input

SUFFIX = ".fused.pt2"  # as in `fused_file`, which imports torch


def fuse(
    ckpt: Annotated[Path, typer.Argument(help="Training checkpoint.", show_default=False)],
    output: Output = None,
    arch: Arch = None,
    model: Model = None,
    ema: Ema = False,
    input_size: OptionalInputSize = None,
    children: Annotated[
        Children, typer.Option(help="Give each child a kernel of its own, or store the parent once.")
    ] = Children.materialize,
    channel_attention: ChannelAttentionOption = Attention.keep,
    yes_drop: YesDrop = False,
    freeze_below: FreezeBelow = None,
    calibration: Calibration = None,
    mean: Mean = None,
    std: Std = None,
    resize: Resize = None,
    crop: Crop = None,
    color: ColorOption = None,
    json: Json = False,
) -> None:
    """Fold static attention and BatchNorm, materialise or share the children, write a .fused.pt2."""
    sink = Sink(json)
    size = parse_size(input_size) if input_size is not None else None
    images = CalibrationChoice(calibration, mean, std, resize, crop, color)
    target = output or Path(stem(ckpt) + SUFFIX)
    inputs = (ckpt, *images.inputs)
    with sink.listening() as listener:
        attention = attention_request(listener, channel_attention, yes_drop, freeze_below, images)
        images.check()
        check_input(ckpt, (Kind.checkpoint,), "fuse")
        check_output(target, inputs)
        from rich.console import Group

        from kdna_deploy.export.source import Request, fuse_checkpoint
        from kdna_deploy.graph.file import save_fused
        from kdna_deploy.reports import data, tables
        from kdna_deploy.reports.input import input_data, input_facts

        request = Request(None, arch, model, ema, size, children.value, attention)
        done = fuse_checkpoint(ckpt, request, listener)
        listener.step("write")
        save_fused(done.graph, done.provenance.beside(target, ckpt), target, inputs)
    fused = done.fused
    assert fused is not None
    for note in (*done.network.checkpoint.notes, *done.notes):
        sink.note(note)
    written = f"{target} ({target.stat().st_size / 1e6:.2f} MB)"
    sink.result(
        lambda: Group(tables.fused_report(fused, written), input_facts(done.provenance)),
        lambda: {**data.fused_data(fused, str(target)), **input_data(done.provenance)},
    )
