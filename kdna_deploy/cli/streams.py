"""The standard streams, as a program finds them: closed, broken off by their reader, or on a disk that is full.

closed from the start          a null device in its place, so that no file that is opened later becomes stdout
its reader has gone (head)     what is still to be said goes nowhere; the work and its exit code are as ever
stdout cannot take a result    an error, since nobody has that result
stderr cannot take a message   ignored: there is nowhere to say so
the network's code prints      to stderr: stdout has the result, and with --json exactly one document
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import sys
from collections.abc import Iterator
from contextvars import ContextVar
from typing import IO, TextIO

from kdna_deploy.errors import KdnaError

_READER_GONE = {errno.EPIPE, errno.EIO, errno.ESHUTDOWN, errno.ECONNRESET}  # a pipe, a terminal, a socket
_DESCRIPTORS = ("stdin", "stdout", "stderr")
_results: ContextVar[TextIO] = ContextVar("results")


def open_standard_streams() -> None:
    """Give each stream that is closed a null device, and let every terminal show what it cannot encode as a mark."""
    for descriptor in range(len(_DESCRIPTORS)):
        _fill(descriptor)
    for descriptor, name in enumerate(_DESCRIPTORS):
        if getattr(sys, name) is None:
            mode = "r" if name == "stdin" else "w"
            setattr(sys, name, open(descriptor, mode, encoding="utf-8", closefd=False))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # where × or Δ cannot be encoded, a question mark is printed


def _fill(descriptor: int) -> None:
    """Descriptors are given out lowest first, so that going upwards each hole is filled by the null device itself."""
    try:
        os.fstat(descriptor)
    except OSError:
        os.open(os.devnull, os.O_RDWR)


@contextlib.contextmanager
def stdout_for_results() -> Iterator[None]:
    """Let nothing reach stdout but what is written to `results`."""
    token = _results.set(sys.stdout)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        _results.reset(token)


def results() -> TextIO:
    """Where results go."""
    return _results.get(sys.stdout)


@contextlib.contextmanager
def writing(stream: TextIO, result: bool = False) -> Iterator[None]:
    """Around what is written to `stream`: it goes there now, or nowhere.

    Raises:
        KdnaError: it is a `result`, and the stream cannot take it.
    """
    try:
        yield
        stream.flush()
    except ValueError:  # closed by somebody else's code
        if result:
            raise KdnaError("The result could not be written: stdout was closed by the network's code.") from None
    except OSError as error:
        discard(stream)
        if result and error.errno not in _READER_GONE:
            raise KdnaError(
                f"The result could not be written to stdout: {error.strerror or error}; make room there, or write it "
                "elsewhere."
            ) from error


def discard(stream: IO[str]) -> None:
    """Let all that `stream` still holds, and is given, go nowhere."""
    with contextlib.suppress(OSError, ValueError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())
        os.close(null)
