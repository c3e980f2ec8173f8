"""Run a candidate and its reference on the same images, and judge what they return (`parity`).

    probes → parts of a size that both take → outputs of both → an agreement a probe

Neighbouring probes of one kind are judged together, for the spread of an output takes several images. A fixed batch is
run in parts of its size, the last one filled up with its last image.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import Protocol, runtime_checkable

import numpy as np

from kdna_deploy.errors import InputError
from kdna_deploy.evaluation.agreement import Agreement
from kdna_deploy.evaluation.parity import Array, Outputs, Rounding, judge
from kdna_deploy.evaluation.terms import completed, in_same_terms
from kdna_deploy.evaluation.tolerance import FLOAT32, Tolerance
from kdna_deploy.images.batch import Images
from kdna_deploy.images.probes import GIVEN, Probe
from kdna_deploy.progress import SILENT, Listener
from kdna_deploy.runtimes.session import Session

_JUDGED_TOGETHER = 64


@runtime_checkable
class Rounded(Protocol):
    """A session that can tell how far rounding alone moves its outputs."""

    def rounding(self, images: Images, outputs: Images, roundoff: float) -> Iterator[Images]:
        """|Δ| of the `outputs` for `images` when computing is rounded to `roundoff`, a few times over."""


def compare(
    candidate: Session,
    reference: Session,
    probes: Iterable[Probe],
    tolerance: Tolerance = FLOAT32,
    listener: Listener = SILENT,
) -> tuple[Agreement, ...]:
    """Run both sessions on every probe and judge their outputs.

    Raises:
        InputError: the outputs have different shapes, or a session does not take the images.
    """
    candidate, reference = in_same_terms(candidate, reference)
    rounding = _rounding_of(reference, tolerance)
    batch = candidate.batch or reference.batch
    agreements: list[Agreement] = []
    noise: Array | None = None
    for group in _judged_together(probes):
        found = _run_both(candidate, reference, group, batch)
        for outputs in found:
            listener.advance(len(outputs.probe.images))
        judged, spread = judge(found, tolerance, rounding, noise)
        noise = spread if noise is None else noise
        agreements += judged
    if not agreements:
        raise InputError("There are no images to compare on.")
    return tuple(agreements)


def _judged_together(probes: Iterable[Probe]) -> Iterator[list[Probe]]:
    """Neighbouring probes of one kind; from disk there may be any number, which is taken in parts."""
    for _, same in groupby(probes, key=lambda probe: probe.kind):
        part: list[Probe] = []
        for probe in same:
            part.append(probe)
            if probe.kind == GIVEN and sum(len(p.images) for p in part) >= _JUDGED_TOGETHER:
                yield part
                part = []
        if part:
            yield part


def _run_both(candidate: Session, reference: Session, probes: Sequence[Probe], batch: int | None) -> list[Outputs]:
    found = []
    for probe in probes:
        got, expected = _run(candidate, probe.images, batch), _run(reference, probe.images, batch)
        if got.shape != expected.shape:
            raise InputError(
                f"{candidate.name} returns shape {got.shape}, {reference.name} {expected.shape}: "
                "they are not the same network."
            )
        found.append(Outputs(probe, completed(got, expected, candidate), completed(expected, got, reference)))
    return found


def _run(session: Session, images: Images, batch: int | None) -> Images:
    """Outputs for all of `images`; for a fixed `batch` in parts of that size, the last filled up."""
    if batch is None:
        return session.run(images)
    parts = []
    for start in range(0, len(images), batch):
        part = images[start : start + batch]
        missing = batch - len(part)
        filled = np.concatenate([part, np.repeat(part[-1:], missing, axis=0)]) if missing else part
        parts.append(session.run(filled)[: len(part)])
    return np.concatenate(parts)


def _rounding_of(reference: Session, tolerance: Tolerance) -> Rounding | None:
    if not isinstance(reference, Rounded):
        return None
    return lambda found: reference.rounding(found.probe.images, found.expected, tolerance.roundoff)
