"""Report → HTML for a notebook: plain tables that take the notebook's own fonts and colours, light or dark."""

from __future__ import annotations

from html import escape

from kdna_deploy.reports.cells import Cells
from kdna_deploy.reports.report import Facts, Report

_RIGHT = ' style="text-align:right"'
_LEFT = ' style="text-align:left"'


def html(report: Report) -> str:
    """The whole report, notes included."""
    parts = [_table(part) if isinstance(part, Cells) else _facts(part) for part in report.parts]
    notes = "".join(f"<p><em>{escape(note)}</em></p>" for note in report.notes)
    return f"<div>{''.join(parts)}{notes}</div>"


def _facts(facts: Facts) -> str:
    rows = "".join(
        f"<tr><th{_LEFT}>{escape(name)}</th><td{_LEFT}>{escape(value)}</td></tr>" for name, value in facts.rows
    )
    return f"<table>{_caption(facts.title)}<tbody>{rows}</tbody></table>"


def _table(cells: Cells) -> str:
    aligned = [_LEFT if index < cells.left else _RIGHT for index in range(len(cells.headings))]
    head = "".join(f"<th{side}>{escape(text)}</th>" for side, text in zip(aligned, cells.headings, strict=True))
    rows = "".join(
        "<tr>" + "".join(f"<td{side}>{escape(text)}</td>" for side, text in zip(aligned, row, strict=True)) + "</tr>"
        for row in cells.rows
    )
    foot = f"<p><small>{escape(cells.caption)}</small></p>" if cells.caption else ""
    return f"<table>{_caption(cells.title)}<thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>{foot}"


def _caption(title: str) -> str:
    return f'<caption style="text-align:left"><strong>{escape(title)}</strong></caption>' if title else ""
