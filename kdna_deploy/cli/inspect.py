"""``kdna-deploy inspect``."""

from __future__ import annotations

from typing import Any

from kdna_deploy.cli.console import Sink
from kdna_deploy.cli.options.architecture import with_architecture
from kdna_deploy.cli.options.output import Json
from kdna_deploy.cli.options.source import Arch, Checkpoint, Ema, InputSize, Model
from kdna_deploy.input_files import Kind, check_input
from kdna_deploy.verbs.load import load


@with_architecture
def inspect(
    ckpt: Checkpoint,
    arch: Arch = None,
    model: Model = None,
    ema: Ema = False,
    input_size: InputSize = None,
    json: Json = False,
    **architecture: Any,
) -> None:
    """Show what a checkpoint holds: layers, kernels, parameters, cost.

    Architecture and layout, parent kernels and their children, multiply-accumulates, and how far each child's static
    attention departs from its parent.
    """
    sink = Sink(json)
    check_input(ckpt, (Kind.checkpoint,), "inspect")
    with sink.listening() as listener:
        listener.plan(("load", "capture", "find parents and children"))
        loaded = load(ckpt, arch=arch, model=model, ema=ema, input_size=input_size, listener=listener, **architecture)
        found = loaded.inspect(listener)
    sink.report(found.report)
