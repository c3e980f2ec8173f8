"""The commands, and what becomes of errors (`failure`), signals (`signals`), streams (`streams`),
and names of parameters (`spelling`).

A command is imported, and made by typer, when it is asked for: all of them take longer than ONNX Runtime does. They
import the library inside their functions, so that ``--help`` answers without torch or ONNX Runtime.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import importlib
import logging
import os
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Annotated, Any

import typer

from kdna_deploy.cli.command import Command, Program
from kdna_deploy.cli.console import Sink
from kdna_deploy.cli.failure import failure_of, usage_failure
from kdna_deploy.cli.late import Late
from kdna_deploy.cli.signals import INTERRUPTED, Received, ending_signals
from kdna_deploy.cli.spelling import Spelling
from kdna_deploy.cli.streams import open_standard_streams, stdout_for_results, writing
from kdna_deploy.cli.waiting import wait_asleep
from kdna_deploy.errors import UsageError
from kdna_deploy.version import VERSION


class _Escaped(Exception):
    """Carries past typer what it would treat in a way of its own: interruptions, exits, broken pipes."""

    def __init__(self, error: BaseException) -> None:
        super().__init__(str(error))
        self.error = error


def as_command(function: Callable[..., None]) -> Callable[..., None]:
    """With stdout kept for the result, the next step told, and every exception brought to `run`."""

    @functools.wraps(function)
    def call(*arguments: Any, **options: Any) -> None:
        try:
            if function.__name__ not in ("bench", "sweep"):
                wait_asleep()
            with stdout_for_results(), SPELLING.in_use():
                function(*arguments, **options)
                from kdna_deploy.cli.next_step import next_step  # what help and a wrong word end without

                if (step := next_step(function.__name__, options)) is not None:
                    Sink().say(f"next: {step}")
        except Exception as error:
            if isinstance(error, (EOFError, typer.Exit)) or (isinstance(error, OSError) and error.errno == errno.EPIPE):
                raise _Escaped(error) from error
            raise
        except (KeyboardInterrupt, SystemExit) as error:
            raise _Escaped(error) from error

    return call


COMMANDS = (
    *("inspect", "fuse", "export", "prepare", "verify", "run", "evaluate"),
    *("bench", "sweep", "report", "package", "ship", "list"),
)
_HELP = {"help_option_names": ["--help", "-h"]}


def _command(name: str) -> Any:
    """The command of a name, which its module has as well, as typer makes it."""
    alone = typer.Typer(add_completion=False, rich_markup_mode="rich")
    function = getattr(importlib.import_module(f"kdna_deploy.cli.{name}"), name)
    alone.command(cls=Command, context_settings=_HELP)(as_command(function))
    return typer.main.get_command(alone)


class _KdnaDeploy(Program):
    """All of them."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        self.commands: Any = Late(COMMANDS, _command, self.commands)


app = typer.Typer(
    name="kdna-deploy",
    help="Take a trained KernelDNA network from its checkpoint to deployment. kdna-deploy COMMAND --help says how.",
    no_args_is_help=True,
    cls=_KdnaDeploy,
    context_settings=_HELP,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
SPELLING = Spelling(app)


def _print_version(requested: bool) -> None:
    if requested:
        print(f"kdna-deploy {VERSION}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


def main() -> None:
    """Run the command line; every error leaves one sentence and its exit code. ``KDNA_DEBUG=1`` shows tracebacks."""
    open_standard_streams()
    code = run(sys.argv[1:])
    for stream in (sys.stdout, sys.stderr):  # now, for at its end the interpreter would complain
        with writing(stream):
            pass
    sys.exit(code)


def run(arguments: Sequence[str]) -> int:
    """Run the command line `arguments`; the exit code."""
    debug = os.environ.get("KDNA_DEBUG") == "1"
    sink = Sink(as_json="--json" in arguments)
    with SPELLING.in_use(), ending_signals() as received, contextlib.nullcontext() if debug else _quiet():
        try:
            return _invoke(arguments, sink, received)
        except BaseException as raised:
            error = raised.error if isinstance(raised, _Escaped) else raised
            if isinstance(error, typer.Exit):  # the command has said why
                return received.exit_code if error.exit_code == INTERRUPTED else error.exit_code
            if debug:
                with writing(sys.stderr):
                    traceback.print_exception(error)
            failure = failure_of(error, received)
            sink.end(failure)
            return failure.code


def _invoke(arguments: Sequence[str], sink: Sink, received: Received) -> int:
    try:
        code = SPELLING.group(arguments, prog_name=app.info.name, standalone_mode=False) or 0
    except _USAGE as error:
        with writing(sys.stderr):
            error.show()
        sink.document_of(usage_failure(error.format_message(), error.exit_code))
        return int(error.exit_code)
    except SystemExit:  # typer's own, where the reader of a help page has gone
        return 0
    except ValueError as error:  # of Typer, some versions of which look whether there is a file of that name
        if not any("\0" in word for word in arguments):
            raise
        raise UsageError("A name holds a zero byte, which none of a file can; write it without.") from error
    if code == INTERRUPTED:  # what typer makes of Ctrl-C while it reads the command line, without a word
        raise KeyboardInterrupt
    return int(code)


# Typer's own copy of Click in later versions, Click's in earlier ones.
_USAGE: Any = next(kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException")


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the warnings of libraries."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
