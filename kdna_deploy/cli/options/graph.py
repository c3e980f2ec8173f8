"""Options on the graph: what becomes of children and of attention."""

from __future__ import annotations

from enum import Enum
from typing import Annotated, Any

import typer

from kdna_deploy.cli.options.panels import GRAPH, choices
from kdna_deploy.errors import UsageError


class Children(str, Enum):
    materialize = "materialize"
    share = "share"


class ExportChildren(str, Enum):
    materialize = "materialize"
    share = "share"
    on_the_fly = "on-the-fly"


class Attention(str, Enum):
    keep = "keep"
    freeze = "freeze"
    drop = "drop"


def check_confirmed(choice: Attention | None, yes_drop: bool) -> None:
    """Refuse to drop what was not confirmed to be dropped.

    Raises:
        UsageError: it was not.
    """
    if choice is Attention.drop and not yes_drop:
        raise UsageError("Dropping attention changes what the network computes; add --yes-drop if that is wanted.")


def _attention(shown: str | bool) -> Any:
    return typer.Option(  # type: ignore[call-overload]
        "--attention",
        "--channel-attention",
        metavar=choices(Attention),
        help="Keep gates and kernels that depend on the image, freeze them to their means over --calibration, or "
        "drop gates.",
        show_default=shown,
        rich_help_panel=GRAPH,
    )


ChildrenOption = Annotated[
    Children,
    typer.Option(
        "--children",
        metavar=choices(Children),
        help="Give each child a kernel of its own, or store each parent kernel once.",
        rich_help_panel=GRAPH,
    ),
]
ExportChildrenOption = Annotated[
    ExportChildren | None,
    typer.Option(
        "--children",
        metavar=choices(ExportChildren),
        help="A kernel for each child; or each parent kernel once, its children made when a session starts (share) or "
        "at every inference (on-the-fly).",
        show_default="as fused; of a checkpoint materialize",
        rich_help_panel=GRAPH,
    ),
]
AttentionOption = Annotated[Attention, _attention(True)]
ExportAttentionOption = Annotated[Attention | None, _attention("as fused; of a checkpoint keep")]
YesDrop = Annotated[
    bool,
    typer.Option(
        "--yes-drop",
        help="Confirm --attention drop, which changes what the network computes.",
        rich_help_panel=GRAPH,
    ),
]
FreezeBelow = Annotated[
    float | None,
    typer.Option(
        "--freeze-below",
        metavar="VARIANCE",
        help="Freeze only attention that varies less than this over the images.",
        show_default="freeze all",
        rich_help_panel=GRAPH,
    ),
]
