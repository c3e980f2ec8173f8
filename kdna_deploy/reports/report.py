"""What a command tells, before anybody has decided how it looks: facts, tables, notes, and the same as data.

Report = title-less parts (Facts | Cells) in order, notes, document
terminal.rendered · html.html · markdown.markdown · the document as JSON      four renderers that know no command
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from kdna_deploy.reports.cells import Cells

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Facts:
    """Names with what is to be said of them, a line each."""

    title: str
    rows: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Report:
    """The report of one command.

    Attributes:
        parts: facts and tables, in order.
        data: the JSON document.
        notes: what a user should know, a sentence each.
    """

    parts: tuple[Facts | Cells, ...]
    data: dict[str, Any]
    notes: tuple[str, ...] = ()


def document(kind: str, content: dict[str, Any], schema: int = SCHEMA_VERSION) -> dict[str, Any]:
    """A JSON document of one command."""
    return {"schema_version": schema, "kind": kind, **content}
