"""The one sink of all output: results to stdout (a table, or one JSON document), everything else to stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.console import RenderableType
from rich.markup import escape
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn

from kdna_deploy.cli.failure import Failure
from kdna_deploy.cli.streams import results, writing
from kdna_deploy.cli.terminal import CONTROL, console_on

if TYPE_CHECKING:
    from kdna_deploy.images.file import Unreadable

_NAMED = 5


class Sink:
    """Output of one command; `as_json` turns the result into a JSON document."""

    def __init__(self, as_json: bool = False) -> None:
        self._as_json = as_json
        self._expected: int | None = None
        self._stdout = results()
        self._out = console_on(self._stdout)
        self._err = console_on(sys.stderr)

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
        self._line(_plain(text))

    def show(self, table: RenderableType) -> None:
        """A table that explains a failure, on stderr."""
        with writing(sys.stderr):
            self._err.print(table)

    def warn(self, text: str) -> None:
        self._line(f"[yellow]warning:[/] {_plain(text)}")

    def warn_unreadable(self, skipped: Iterable[Unreadable]) -> None:
        """Count and name image files that were skipped, each once, with the reason, if any."""
        files = list(dict.fromkeys(skipped))
        if not files:
            return
        names = "; ".join(f"{one.path.name}: {one.reason}" for one in files[:_NAMED])
        what = "file is no readable image and was" if len(files) == 1 else "files are no readable images and were"
        self.warn(f"{len(files)} {what} skipped ({names}{'; …' if len(files) > _NAMED else ''})")

    def fail(self, text: str) -> None:
        self._line(f"[red]error:[/] {_plain(text)}")

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
        print(json.dumps(data, indent=2), file=self._stdout)  # in ASCII: it must survive every terminal and pipe

    def _line(self, markup: str) -> None:
        with writing(sys.stderr):
            self._err.print(markup, soft_wrap=True)

    @contextmanager
    def steps(self) -> Iterator[tuple[Callable[[str], None], Callable[[int], None]]]:
        """Show which step of a longer job runs and how far it is with its images; nothing where there is no terminal.

        Yields a function for the step's name and one for the number of images that were just done.
        """
        columns = (
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[counted]}"),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=self._err, transient=True, disable=not self._err.is_terminal) as bar:
            task = bar.add_task("start", total=None, counted="")

            def step(text: str) -> None:
                nonlocal task
                if bar.tasks[0].completed:
                    self._expected = None  # that was for the images of the step before
                bar.remove_task(task)  # for resetting it would keep its total
                task = bar.add_task(f"{_plain(text)} …", total=None, counted="")

            def count(done: int) -> None:
                bar.update(task, advance=done, total=self._expected)
                bar.update(task, counted=f"{bar.tasks[0].completed:.0f} of {self._expected or '?'} images")

            yield step, count

    def expect_images(self, total: int) -> None:
        """Say how many images `steps` will be told of in a step that counts them."""
        self._expected = total

    @contextmanager
    def progress(self) -> Iterator[tuple[Callable[[str], None], Callable[[float], None]]]:
        """A bar with the remaining time: yields a setter for its label and one for the fraction done."""
        columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
        with Progress(*columns, console=self._err, transient=True, disable=not self._err.is_terminal) as bar:
            task = bar.add_task("start", total=None)

            def label(text: str) -> None:
                bar.update(task, description=_plain(text))

            def fraction(done: float) -> None:
                bar.update(task, total=1.0, completed=done)

            yield label, fraction


def _plain(text: str) -> str:
    """As it is: without a meaning for rich or for a terminal, and on the line that it is part of."""
    return escape(text.replace("\n", "\\n").translate(CONTROL))
