"""Give up what a file can do without when it cannot be written as asked for.

    as asked → without the first thing → without the next as well → …          each with a note that says why

What is given up must be a matter of speed or size alone, never of what the file computes.

Does not apply to failures that giving something up cannot mend: a full disk, options that exclude each other, a missing
runtime.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Generic, TypeVar

from kdna_deploy.errors import ExportError, InputError, KdnaError, ParityError

Choice = TypeVar("Choice")
Result = TypeVar("Result")

# Failures that the way a graph is written may be to blame for. What is no error of this package is a transform's own.
_MENDABLE = (ParityError, ExportError, InputError)


@dataclass(frozen=True)
class Attempt(Generic[Choice]):
    """A way to do it. `without` completes a note: what this one gives up, beside what those before it do."""

    choice: Choice
    without: str = ""


def first_that_works(
    attempts: Sequence[Attempt[Choice]], make: Callable[[Choice], Result]
) -> tuple[Result, tuple[str, ...]]:
    """What `make` makes of the first choice that does not fail, and a note for each that did.

    Raises:
        KdnaError: that of the last attempt, or one that no attempt can mend.
    """
    notes: list[str] = []
    for attempt, after in pairwise(attempts):
        try:
            return make(attempt.choice), tuple(notes)
        except Exception as error:
            if not _is_mendable(error):
                raise
            notes.append(f"{after.without}: {_reason(error)}")
    try:
        return make(attempts[-1].choice), tuple(notes)
    except (KdnaError, OSError, MemoryError):
        raise
    except Exception as error:  # a transform's, which may stumble on whatever a network holds
        raise ExportError(f"The file cannot be made: {_reason(error)}; please report this with the model.") from error


def _is_mendable(error: Exception) -> bool:
    return isinstance(error, _MENDABLE) or not isinstance(error, (KdnaError, OSError, MemoryError))


def _reason(error: Exception) -> str:
    if isinstance(error, ParityError):
        return "the file departs beyond the tolerance"
    lines = str(error).splitlines() or [""]
    if isinstance(error, KdnaError):
        return lines[0].partition("; ")[0].rstrip(".")
    return f"{type(error).__name__}: {lines[0]}".rstrip(": ")
