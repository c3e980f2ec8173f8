"""``kdna-deploy inspect``."""

from __future__ import annotations

from kdna_deploy.cli.console import Sink
from kdna_deploy.cli.options.output import Json
from kdna_deploy.cli.options.source import Arch, Checkpoint, Ema, InputSize, Model
from kdna_deploy.cli.values import parse_size
from kdna_deploy.input_files import Kind, check_input


def inspect(
    ckpt: Checkpoint,
    arch: Arch = None,
    model: Model = None,
    ema: Ema = False,
    input_size: InputSize = None,
    json: Json = False,
) -> None:
    """Show what a checkpoint holds: layers, kernels, parameters, cost.

    Architecture and layout, parent kernels and their children, multiply-accumulates, and how far each child's static
    attention departs from its parent.
    """
    sink = Sink(json)
    size = parse_size(input_size) if input_size is not None else None
    check_input(ckpt, (Kind.checkpoint,), "inspect")
    from kdna_deploy.graph.inspection import inspect_network
    from kdna_deploy.network.load import load_network
    from kdna_deploy.reports import data, tables

    with sink.steps() as (step, _):
        step("load")
        network = load_network(ckpt, arch, model, ema)
        inspection = inspect_network(network, size, step)
    for note in (*network.checkpoint.notes, *inspection.size.notes):
        sink.say(f"note: {note}")
    sink.result(lambda: tables.inspection_report(inspection), lambda: data.inspection_data(inspection))
