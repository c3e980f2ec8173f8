"""How wide and how colourful output is.

a terminal           its own width, and colours
a pipe, a file       100 columns, or COLUMNS where that is set; no colours, unless FORCE_COLOR is set (``| less -R``)

NO_COLOR takes colours away everywhere. JSON never has any.
"""

from __future__ import annotations

import os
from typing import Any, TextIO

from rich.console import Console
from rich.text import Text

from kdna_deploy.cli.plain import CONTROL
from kdna_deploy.cli.spelling import spelled
from kdna_deploy.cli.streams import discard

PIPED_WIDTH = 100


class _Console(Console):
    def render_str(self, text: str, **options: Any) -> Text:
        """Names of classes, layers and files stand in tables as well, and so do notes."""
        return super().render_str(spelled(text).translate(CONTROL), **options)

    def on_broken_pipe(self) -> None:
        """Rich's own ends the process."""
        discard(self.file)


def console_on(stream: TextIO) -> Console:
    """What prints to `stream`."""
    return _Console(file=stream, width=None if stream.isatty() else _piped_width(), highlight=False)


def _piped_width() -> int:
    said = os.environ.get("COLUMNS", "")
    return int(said) if said.isdecimal() and int(said) else PIPED_WIDTH
