"""``kdna-deploy fuse``."""

from __future__ import annotations

from pathlib import Path

from kdna_deploy.cli.console import Sink
from kdna_deploy.cli.deployment import CalibrationChoice, attention_request
from kdna_deploy.cli.options.graph import (
    Attention,
    ChannelAttention,
    Children,
    ChildrenOption,
    FreezeBelow,
    YesDrop,
)
from kdna_deploy.cli.options.images import Calibration, ColorOption, Crop, Mean, Resize, Std
from kdna_deploy.cli.options.output import Json, Output
from kdna_deploy.cli.options.source import Arch, Checkpoint, Ema, InputSize, Model
from kdna_deploy.cli.values import parse_size, stem
from kdna_deploy.files import check_output
from kdna_deploy.input_files import Kind, check_input

SUFFIX = ".fused.pt2"  # as in `fused_file`, which imports torch


def fuse(
    ckpt: Checkpoint,
    output: Output = None,
    arch: Arch = None,
    model: Model = None,
    ema: Ema = False,
    input_size: InputSize = None,
    children: ChildrenOption = Children.materialize,
    channel_attention: ChannelAttention = Attention.keep,
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
    """Fold what is static, and write a fused graph (.fused.pt2).

    Static attention and BatchNorm go into the kernels; children get kernels of their own or share their parent's. The
    fused graph is compared with the network as it was trained before it is written.
    """
    sink = Sink(json)
    size = parse_size(input_size) if input_size is not None else None
    images = CalibrationChoice(calibration, mean, std, resize, crop, color)
    target = output or Path(stem(ckpt) + SUFFIX)
    inputs = (ckpt, *images.inputs)
    with attention_request(sink, channel_attention, yes_drop, freeze_below, images) as attention:
        images.check()
        check_input(ckpt, (Kind.checkpoint,), "fuse")
        check_output(target, inputs)
        from rich.console import Group

        from kdna_deploy.export.source import Request, fuse_checkpoint
        from kdna_deploy.graph.file import save_fused
        from kdna_deploy.reports import data, tables
        from kdna_deploy.reports.input import input_data, input_facts

        request = Request(None, arch, model, ema, size, children.value, attention)
        with sink.steps() as (step, count):
            done = fuse_checkpoint(ckpt, request, step, count)
            step("write")
            save_fused(done.graph, done.provenance.beside(target, ckpt), target, inputs)
    fused = done.fused
    assert fused is not None
    for note in (*done.network.checkpoint.notes, *done.notes):
        sink.say(f"note: {note}")
    written = f"{target} ({target.stat().st_size / 1e6:.2f} MB)"
    sink.result(
        lambda: Group(tables.fused_report(fused, written), input_facts(done.provenance)),
        lambda: {**data.fused_data(fused, str(target)), **input_data(done.provenance)},
    )
