"""Report → what rich prints in a terminal of any width."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table

from kdna_deploy.reports.cells import Cells, rich_table
from kdna_deploy.reports.report import Report


def rendered(report: Report) -> RenderableType:
    """The parts of `report`, one below the other; its notes are not results and not shown."""
    return Group(
        *(rich_table(part) if isinstance(part, Cells) else facts(part.title, part.rows) for part in report.parts)
    )


def facts(title: str, rows: Sequence[tuple[str, str]]) -> Table:
    """A two-column table without a header."""
    table = Table(title=escape(title), title_justify="left", show_header=False, box=None, pad_edge=False)
    table.add_column(style="dim", overflow="fold")
    table.add_column(overflow="fold")
    for name, value in rows:
        table.add_row(escape(name), escape(value))
    return table
