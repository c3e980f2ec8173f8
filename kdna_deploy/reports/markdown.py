"""Report → Markdown: facts as a list, tables as tables, notes as the end of the last list."""

from __future__ import annotations

from kdna_deploy.reports.cells import Cells
from kdna_deploy.reports.cells import markdown as table
from kdna_deploy.reports.report import Facts, Report


def markdown(report: Report) -> str:
    """The whole report, notes included."""
    parts = [table(part) if isinstance(part, Cells) else _list(part) for part in report.parts]
    return "\n".join(parts) + "".join(f"- {note}\n" for note in report.notes)


def _list(facts: Facts) -> str:
    title = f"**{facts.title}**\n\n" if facts.title else ""
    return title + "".join(f"- {name}: {value}\n" if name else f"- {value}\n" for name, value in facts.rows)
