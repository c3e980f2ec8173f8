"""Options on comparing two artifacts: with what, and how much they may differ."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kdna_deploy.cli.options.panels import COMPARISON

Reference = Annotated[
    Path | None,
    typer.Option(
        "--against",
        metavar="FILE",
        help="What the model must agree with: a checkpoint or another artifact.",
        show_default="the checkpoint that it was made from",
        rich_help_panel=COMPARISON,
    ),
]
Other = Annotated[
    Path | None,
    typer.Option(
        "--against",
        metavar="FILE",
        help="Another artifact, or the checkpoint, to count equal answers with.",
        show_default="none",
        rich_help_panel=COMPARISON,
    ),
]
Rtol = Annotated[
    float | None,
    typer.Option(
        "--rtol",
        metavar="SHARE",
        help="Difference allowed, as a share of what an output spreads over images.",
        show_default="1e-4; in half precision 1e-2",
        rich_help_panel=COMPARISON,
    ),
]
Atol = Annotated[
    float,
    typer.Option("--atol", metavar="NUMBER", help="Difference allowed on top of --rtol.", rich_help_panel=COMPARISON),
]
Bisect = Annotated[
    bool,
    typer.Option(
        "--bisect", help="Find the first layer that departs, and the stage at fault.", rich_help_panel=COMPARISON
    ),
]
