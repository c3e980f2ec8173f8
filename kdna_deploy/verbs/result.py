"""What every verb returns: figures as attributes, and the command's tables wherever it is shown."""

from __future__ import annotations

import io
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import RenderableType

    from kdna_deploy.reports.report import Report

_WIDTH = 100  # of text that goes nowhere in particular


class Result(ABC):
    """The outcome of a verb. ``print(result)`` and a notebook show its tables, `to_dict` is the ``--json`` document."""

    @property
    @abstractmethod
    def report(self) -> Report:
        """Tables, facts and notes."""

    def to_dict(self) -> dict[str, Any]:
        """The JSON document of this result, as plain data."""
        return self.report.data

    def __rich__(self) -> RenderableType:
        from kdna_deploy.reports.terminal import rendered

        return rendered(self.report)

    def _repr_html_(self) -> str:
        from kdna_deploy.reports.html import html

        return html(self.report)

    def __repr__(self) -> str:
        return str(self)

    def __str__(self) -> str:
        from rich.console import Console

        # In a notebook rich would show the text itself, beside the tables.
        console = Console(file=io.StringIO(), width=_WIDTH, highlight=False, force_jupyter=False)
        console.print(self)
        assert isinstance(console.file, io.StringIO)
        return console.file.getvalue().rstrip("\n")
