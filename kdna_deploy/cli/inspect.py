"""``kdna-deploy inspect``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kdna_deploy.cli.console import Sink
from kdna_deploy.cli.options import Arch, Ema, Json, Model, OptionalInputSize, parse_size
from kdna_deploy.input_files import Kind, check_input


def inspect(
    ckpt: Annotated[Path, typer.Argument(help="Training checkpoint.", show_default=False)],
    arch: Arch = None,
    model: Model = None,
    ema: Ema = False,
    input_size: OptionalInputSize = None,
    json: Json = False,
) -> None:
    """Show what a checkpoint holds: layout, parents and children, parameters, MACs, attention."""
    sink = Sink(json)
    size = parse_size(input_size) if input_size is not None else None
    check_input(ckpt, (Kind.checkpoint,), "inspect")
    from kdna_deploy.graph.inspection import inspect_network
    from kdna_deploy.network.load import load_network
    from kdna_deploy.reports import data, tables

    with sink.listening() as listener:
        listener.step("load")
        network = load_network(ckpt, arch, model, ema)
        inspection = inspect_network(network, size, listener)
    for note in (*network.checkpoint.notes, *inspection.size.notes):
        sink.note(note)
    sink.result(lambda: tables.inspection_report(inspection), lambda: data.inspection_data(inspection))
