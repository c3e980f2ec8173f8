"""A table as plain text cells, from which the terminal's and the Markdown form are made."""

from __future__ import annotations

from dataclasses import dataclass

from rich import box
from rich.markup import escape
from rich.table import Table

_NARROWEST_NAME, _NARROWEST_OTHER = 18, 12  # of the first column, and of further names
_LONGEST_NAME = 22  # that is not broken: `mobilenet_v2_1d2_plain`
_NARROWEST_TERMINAL = 80

Fact = tuple[str, str]  # a name and a sentence
_VERDICTS = {"pass": "green", "agrees": "green", "FAIL": "red", "departs": "red"}


@dataclass(frozen=True)
class Cells:
    """A table: the first `left` columns are names and may wrap, the others are figures, aligned right.

    `caption` stands below it.
    """

    title: str
    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    left: int = 1
    caption: str = ""


def rich_table(cells: Cells) -> Table:
    """For a terminal: names fold, figures never do, and headings where the table would not fit 80 columns otherwise."""
    table = Table(
        title=escape(cells.title),
        title_justify="left",
        caption=escape(cells.caption) or None,
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        pad_edge=False,
    )
    widths = [max(len(heading), _widest(cells, index)) for index, heading in enumerate(cells.headings)]
    wide = sum(widths) + 2 * len(widths) > _NARROWEST_TERMINAL
    for index, heading in enumerate(cells.headings):
        if index < cells.left:
            narrowest = _NARROWEST_OTHER if index else _NARROWEST_NAME
            whole = not index and _widest(cells, index) <= _LONGEST_NAME
            least = min(narrowest, _widest(cells, index))
            table.add_column(escape(heading), overflow="fold", min_width=least, no_wrap=whole)
        else:
            fold = wide and len(heading) > _widest(cells, index)
            table.add_column(escape(heading.replace(" ", "\n") if fold else heading), justify="right", no_wrap=True)
    for row in cells.rows:
        table.add_row(*map(_shown, row))
    return table


def _shown(cell: str) -> str:
    style = _VERDICTS.get(cell)
    return f"[{style}]{cell}[/]" if style else escape(cell)


def markdown(cells: Cells) -> str:
    """A Markdown table under its title."""
    rules = ["---" if index < cells.left else "---:" for index in range(len(cells.headings))]
    lines = [cells.headings, rules, *cells.rows]
    text = "\n".join("| " + " | ".join(cell.replace("|", r"\|") for cell in line) + " |" for line in lines)
    caption = f"\n{cells.caption}\n" if cells.caption else ""
    return (f"**{cells.title}**\n\n{text}\n" if cells.title else f"{text}\n") + caption


def _widest(cells: Cells, index: int) -> int:
    return max((len(row[index]) for row in cells.rows), default=0)
