"""A file for somebody, which gets its name only once it has been judged.

    write → check → judge → rename

A precision is a transform of the model and a judge: parity for float32 and half precision, accuracy for int8. A target
is a spelling of the model and the runtime that it is judged on. Where writing or judging fails, nothing is left.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from kdna_deploy.evaluation.agreement import Agreement, require_agreement
from kdna_deploy.evaluation.compare import compare
from kdna_deploy.evaluation.tolerance import Tolerance
from kdna_deploy.files import atomic_output
from kdna_deploy.images.probes import Probe
from kdna_deploy.progress import Listener
from kdna_deploy.runtimes.session import Session

Verdict = TypeVar("Verdict")


@dataclass(frozen=True, kw_only=True)
class Export:
    """A file that has passed.

    Attributes:
        path: the file.
        bytes: its size, external data included.
        agreements: with what it was verified against, one a probe; none where parity is not what it is judged by, and
            where it could not be run here.
        notes: what a user should know, a sentence each.
    """

    path: Path
    bytes: int
    agreements: tuple[Agreement, ...] = ()
    notes: tuple[str, ...] = ()


def write_judged(
    output: Path,
    inputs: tuple[Path, ...],
    write: Callable[[Path], None],
    judge: Callable[[Path], Verdict],
    listener: Listener,
) -> Verdict:
    """Write `output`, which is none of `inputs`, and what `judge` says of it; either may refuse by raising."""
    with atomic_output(output, inputs) as temporary:
        listener.step("write")
        write(temporary)
        return judge(temporary)


def parity(
    candidate: Session, reference: Session, probes: Iterable[Probe], tolerance: Tolerance, departs: str, remedy: str
) -> tuple[Agreement, ...]:
    """Agreements of a file that is about to get its name with `reference`.

    Raises:
        ParityError: "`departs`: the worst difference; nothing was written. `remedy`".
    """
    agreements = compare(candidate, reference, probes, tolerance)
    require_agreement(agreements, departs, f"nothing was written. {remedy}")
    return agreements
