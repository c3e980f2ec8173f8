"""Options that say how a network departs from the published architecture: the library's `Words`, one parameter each.

Every command that takes ``--arch`` has them, by `with_architecture`.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

from kdna_deploy.cli.options.panels import ARCHITECTURE


def _option(name: str, text: str, metavar: str | None = None, shown: str = "told from the weights") -> Any:
    return typer.Option(name, metavar=metavar, help=text, show_default=shown, rich_help_panel=ARCHITECTURE)  # type: ignore[call-overload]


_WORDS: dict[str, Any] = {
    "layout": Annotated[
        str | None,
        _option(
            "--layout",
            "Layout of the stages that share kernels, such as FS-FSF, or of each: layer3=FS-FSF,layer4=FS-SF-SF.",
            "LAYOUT",
            "the published or the paper's, of as many kernels",
        ),
    ],
    "channel": Annotated[
        bool | None, _option("--channel/--no-channel", "Whether children have dynamic channel attention.")
    ],
    "filter": Annotated[bool | None, _option("--filter/--no-filter", "Whether children have static filter attention.")],
    "spatial": Annotated[
        bool | None, _option("--spatial/--no-spatial", "Whether children have static spatial attention.")
    ],
    "reductions": Annotated[
        str | None,
        _option(
            "--reductions",
            "Reduction of channel attention, for each convolution of a block that is shared, such as 4 or 4,24.",
            "N[,N]",
        ),
    ],
    "scale": Annotated[
        float | None, _option("--scale", "By what the backbone's published widths are multiplied, such as 0.5.", "X")
    ],
    "outputs": Annotated[
        str | None,
        _option(
            "--outputs",
            "What the network returns: logits, or features, the backbone's stage outputs C2 to C5, or some of these, "
            "such as C3,C4,C5.",
            "NAMES",
            "logits, or features where the checkpoint has no classifier",
        ),
    ],
    "temperature": Annotated[
        float | None,
        _option(
            "--temperature",
            "Temperature of DY-Conv's attention over kernels, as it was when training ended; no checkpoint holds it.",
            "T",
            "asked for where it matters",
        ),
    ],
    "multiplier": Annotated[
        float | None,
        _option("--multiplier", "Multiplier of KARST's adapters, which no checkpoint holds.", "X", "1"),
    ],
    "base": Annotated[
        Path | None,
        _option(
            "--base",
            "Checkpoint of the network that KARST's adapters were trained on, where CKPT holds these alone.",
            "FILE",
            "none: CKPT holds everything",
        ),
    ],
}


def with_architecture(command: Callable[..., None]) -> Callable[..., None]:
    """`command` with these options behind ``--arch``, handed over as keywords."""

    @functools.wraps(command)
    def call(*arguments: Any, **options: Any) -> None:
        command(*arguments, **options)

    hints = {**get_type_hints(command, include_extras=True), **_WORDS}
    keyword = inspect.Parameter.POSITIONAL_OR_KEYWORD
    added = [inspect.Parameter(name, keyword, default=None, annotation=kind) for name, kind in _WORDS.items()]
    parameters: list[inspect.Parameter] = []
    for one in inspect.signature(command).parameters.values():
        if one.kind is not inspect.Parameter.VAR_KEYWORD:
            parameters += [one.replace(annotation=hints[one.name]), *(added if one.name == "arch" else [])]
    call.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    call.__annotations__ = hints
    return call
