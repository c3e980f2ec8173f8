"""Anything that ends a command early → its kind, exit code and sentence.

KdnaError          its own
OSError            the file that it names
memory             what to choose smaller
typer's errors     usage
a signal           128 + its number
SystemExit         the network's code ended the process
all else           an internal error, to be reported
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from kdna_deploy.cli.signals import Received
from kdna_deploy.errors import KdnaError, UsageError

SCHEMA_VERSION = 1
# As PyTorch, ONNX Runtime and C++ put it, in exceptions of no class of their own.
_OUT_OF_MEMORY = ("can't allocate memory", "bad_alloc", "bad allocation", "Failed to allocate memory")


@dataclass(frozen=True)
class Failure:
    """How a command ended."""

    kind: str
    code: int
    message: str

    def document(self) -> dict[str, Any]:
        """For ``--json``."""
        told = {"kind": self.kind, "code": self.code, "message": self.message}
        return {"schema_version": SCHEMA_VERSION, "kind": "error", "error": told}


def failure_of(error: BaseException, received: Received) -> Failure:
    """What to tell of `error`, `received` being the signal that may have caused it."""
    if received.number is not None or isinstance(error, KeyboardInterrupt):
        return Failure("Interrupted", received.exit_code, received.sentence)
    if isinstance(error, KdnaError):
        return Failure(type(error).__name__, error.exit_code, str(error))
    if isinstance(error, MemoryError) or any(sign in _text(error) for sign in _OUT_OF_MEMORY):
        return Failure(
            "OutOfMemory", KdnaError.exit_code, "There is too little memory; choose a smaller batch or image size."
        )
    if isinstance(error, OSError):
        place = f"'{error.filename}'" if error.filename else "A file"
        return Failure(
            "OSError", KdnaError.exit_code, f"{place} could not be read or written: {error.strerror or error}."
        )
    if not isinstance(error, Exception):
        said = _first_line(error)
        return Failure(
            "InputError",
            3,
            f"The network's code ended the process ({type(error).__name__}{f': {said}' if said else ''}); "
            "it must return what the network computes.",
        )
    return Failure(
        "InternalError",
        KdnaError.exit_code,
        f"Internal error ({type(error).__name__}: {_first_line(error)}); "
        "please report it with the output of KDNA_DEBUG=1.",
    )


def usage_failure(message: str, code: int) -> Failure:
    """What typer says of a command line."""
    return Failure(UsageError.__name__, code, message)


def _first_line(error: BaseException) -> str:
    return next(iter(_text(error).strip().splitlines()), "")


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # of a class that the network's code brings along
        return ""
