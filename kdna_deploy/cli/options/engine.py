"""Options on TensorRT engines."""

from __future__ import annotations

from typing import Annotated

import typer

from kdna_deploy.cli.options.panels import ENGINE

TensorRt = Annotated[
    bool,
    typer.Option(
        "--tensorrt", help="Also build a TensorRT engine, for the GPU of this machine.", rich_help_panel=ENGINE
    ),
]
TensorRtRtx = Annotated[
    bool,
    typer.Option("--tensorrt-rtx", help="Also build a TensorRT-RTX engine; needs no GPU.", rich_help_panel=ENGINE),
]
Tf32 = Annotated[
    bool,
    typer.Option(
        "--tf32/--no-tf32", help="Let an engine's float32 convolutions round to TF32.", rich_help_panel=ENGINE
    ),
]
Capabilities = Annotated[
    list[str] | None,
    typer.Option(
        "--compute-capability",
        metavar="N.N",
        help="GPUs that a TensorRT-RTX engine is for; repeatable.",
        show_default="8.0, 8.6, 8.9 and 12.0",
        rich_help_panel=ENGINE,
    ),
]
Layers = Annotated[
    bool,
    typer.Option("--layers", help="Write the engine's layers beside it, as JSON.", rich_help_panel=ENGINE),
]
