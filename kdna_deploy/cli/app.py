"""Entry point: the commands, and what becomes of an error.

Commands import the library inside their functions, so that ``--help`` answers without torch or ONNX Runtime.
"""

from __future__ import annotations

import io
import logging
import os
import sys
import warnings
from typing import Annotated

import typer

from kdna_deploy.cli.bench import bench
from kdna_deploy.cli.console import INTERRUPTED, Sink
from kdna_deploy.cli.evaluate import evaluate
from kdna_deploy.cli.export import export
from kdna_deploy.cli.fuse import fuse
from kdna_deploy.cli.inspect import inspect
from kdna_deploy.cli.verify import verify
from kdna_deploy.errors import KdnaError

app = typer.Typer(
    name="kdna-deploy",
    help="Take a trained KernelDNA network from its checkpoint to deployment.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for command in (inspect, fuse, export, verify, evaluate, bench):
    app.command()(command)


def _print_version(requested: bool) -> None:
    if requested:
        from kdna_deploy import __version__

        print(f"kdna-deploy {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


def _accept_any_terminal() -> None:
    """Where × or Δ cannot be encoded, a question mark is printed."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def main() -> None:
    """Run the command line; every error leaves one sentence and its exit code. ``KDNA_DEBUG=1`` shows tracebacks."""
    debug = os.environ.get("KDNA_DEBUG") == "1"
    _accept_any_terminal()
    if not debug:
        warnings.filterwarnings("ignore")
        logging.disable(logging.WARNING)
    try:
        app()
    except KeyboardInterrupt:
        Sink().fail("interrupted.")
        sys.exit(INTERRUPTED)
    except KdnaError as error:
        if debug:
            raise
        Sink().fail(str(error))
        sys.exit(error.exit_code)
    except OSError as error:
        if debug:
            raise
        Sink().fail(f"{error.filename or 'A file'} could not be read or written: {error.strerror or error}.")
        sys.exit(KdnaError.exit_code)
    except Exception as error:
        if debug:
            raise
        Sink().fail(
            f"Internal error ({type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}); "
            "please report it with the output of KDNA_DEBUG=1."
        )
        sys.exit(KdnaError.exit_code)
