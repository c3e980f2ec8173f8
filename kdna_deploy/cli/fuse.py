"""``kdna-deploy fuse``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kdna_deploy.cli.console import Sink
from kdna_deploy.cli.options import DEFAULT_SIZE, Arch, Ema, InputSize, Json, Model, Output, parse_size, stem


def fuse(
    ckpt: Annotated[Path, typer.Argument(help="Training checkpoint.", show_default=False)],
    output: Output = None,
    arch: Arch = None,
    model: Model = None,
    ema: Ema = False,
    input_size: InputSize = DEFAULT_SIZE,
    json: Json = False,
) -> None:
    """Fold static attention and BatchNorm, materialise the children, write a .fused.pt2."""
    sink = Sink(json)
    size = parse_size(input_size)
    from kdna_deploy.fused_file import SUFFIX, save_fused
    from kdna_deploy.fusion import fuse as run_fuse
    from kdna_deploy.network import load_network
    from kdna_deploy.provenance import provenance_of
    from kdna_deploy.reports import data, tables

    target = output or Path(stem(ckpt) + SUFFIX)
    with sink.steps() as step:
        step("load")
        network = load_network(ckpt, arch, model, ema)
        fused = run_fuse(network.module, (network.in_channels, *size), step)
        step("write")
        provenance = provenance_of(network, fused.graph.image_shape, fused.channel_attentions)
        provenance = provenance.beside(target, ckpt)
        save_fused(fused.graph, provenance, target, inputs=(ckpt,))
    for note in network.checkpoint.notes:
        sink.say(f"note: {note}")
    written = f"{target} ({target.stat().st_size / 1e6:.2f} MB)"
    sink.result(lambda: tables.fused_report(fused, written), lambda: data.fused_data(fused, str(target)))
