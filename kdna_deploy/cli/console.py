"""The one sink of all output: results to stdout (a table, or one JSON document), everything else to stderr.

The library speaks of its parameters; what is said here speaks of options (`spelling`).
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import RenderableType

from kdna_deploy.cli.failure import Failure
from kdna_deploy.cli.plain import plain
from kdna_deploy.cli.progress import Shown
from kdna_deploy.cli.spelling import spelled, spelled_document
from kdna_deploy.cli.streams import results, writing
from kdna_deploy.cli.terminal import console_on
from kdna_deploy.progress import Listener

if TYPE_CHECKING:
    from kdna_deploy.reports.report import Report

_NAMED = 5


class Sink:
    """Output of one command; `as_json` turns the result into a JSON document."""

    def __init__(self, as_json: bool = False) -> None:
        self._as_json = as_json
        self._noted: set[str] = set()
        self._stdout = results()
        self._out = console_on(self._stdout)
        self._err = console_on(sys.stderr)

    def report(self, report: Report) -> None:
        """Print the result of the command; its notes go to stderr, before it.

        Raises:
            KdnaError: stdout cannot take it.
        """
        from kdna_deploy.reports.terminal import rendered

        for note in report.notes:
            self.note(note)
        self.result(lambda: rendered(report), lambda: report.data)

    def result(self, table: Callable[[], RenderableType], data: Callable[[], dict[str, Any]]) -> None:
        """Print the result of the command.

        Raises:
            KdnaError: stdout cannot take it.
        """
        shown = data() if self._as_json else table()
        with writing(self._stdout, result=True):
            if isinstance(shown, dict):
                self._print_document(shown)
            else:
                self._out.print(shown)

    def say(self, text: str) -> None:
        """A line on stderr."""
        self._line(plain(spelled(text)))

    def show(self, table: RenderableType) -> None:
        """A table that explains a failure, on stderr."""
        with writing(sys.stderr):
            self._err.print(table)

    def note(self, text: str) -> None:
        """A line on stderr, unless it was told before: a listener may have been told what the result tells too."""
        if text not in self._noted:
            self._noted.add(text)
            self.say(f"note: {text}")

    def warn(self, text: str) -> None:
        self._line(f"[yellow]warning:[/] {plain(spelled(text))}")

    def _skipped(self, files: Mapping[str, str]) -> None:
        """Count and name image files that were skipped, with the reason, if any."""
        if not files:
            return
        named = list(files.items())[:_NAMED]
        names = "; ".join(f"{Path(path).name}: {reason}" for path, reason in named)
        what = "file is no readable image and was" if len(files) == 1 else "files are no readable images and were"
        self.warn(f"{len(files)} {what} skipped ({names}{'; …' if len(files) > _NAMED else ''})")

    def fail(self, text: str) -> None:
        self._line(f"[red]error:[/] {plain(spelled(text))}")

    def end(self, failure: Failure) -> None:
        """Tell how a command ended that has printed no result: its sentence, and with ``--json`` a document as well."""
        self.fail(failure.message)
        self.document_of(failure)

    def document_of(self, failure: Failure) -> None:
        """The document of a failure, where documents are wanted."""
        if self._as_json:
            with writing(self._stdout):
                self._print_document(failure.document())

    def _print_document(self, data: dict[str, Any]) -> None:
        document = json.dumps(spelled_document(data), indent=2)
        print(document, file=self._stdout)  # in ASCII: it must survive every terminal and pipe

    def _line(self, markup: str) -> None:
        with writing(sys.stderr):
            self._err.print(markup, soft_wrap=True)

    @contextmanager
    def listening(self) -> Iterator[Listener]:
        """Show what the listener that is yielded is told; what was skipped or warned of is told at the end.

        Of a command that fails, too: it is often why.
        """
        shown = Shown(self._err, sys.stderr.isatty())  # colours may be forced on a log
        try:
            with shown:
                yield shown
        finally:
            for sentence in shown.notes:
                self.note(sentence)
            self._skipped(shown.skipped)
            for sentence in shown.warnings:
                self.warn(sentence)
