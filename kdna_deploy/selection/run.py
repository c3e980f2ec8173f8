"""Candidates → what is known of each: made, evaluated and timed group by group, and only where that is missing.

    group       for each of its candidates: make → evaluate; then all of them together: time
    limit       when the time is up no further file is made or evaluated; those that were are timed
    Ctrl-C      what has been done is kept, and the next call goes on

So that an interruption leaves whole rows, a group is finished before the next begins.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from pathlib import Path
from typing import Protocol

from kdna_deploy.errors import AccuracyError, ExportError, ParityError, RuntimeFailure
from kdna_deploy.progress import Listener, Part
from kdna_deploy.selection.candidate import REFERENCE, Candidate
from kdna_deploy.selection.measuring import Measuring
from kdna_deploy.selection.pace import Pace
from kdna_deploy.selection.store import Evaluated, Made, Record, Store, Timed, digest, digests_of

Group = tuple[str, tuple[Candidate, ...]]


class Workshop(Protocol):
    """What makes files."""

    def make(self, candidate: Candidate, output: Path, portable: Path, listener: Listener) -> Made:
        """Write `output`, judged; a prepared one is made of `portable`.

        Raises:
            KdnaError: it cannot be made, or is not what it must be. Nothing is written.
        """


@dataclass
class Going:
    """A sweep on its way.

    Attributes:
        stem: that files are named after.
        records: what is known of every candidate.
        troubles: why something could not be done this time.
        done: how many files were made, evaluated and timed in this call.
    """

    stem: str
    store: Store
    workshop: Workshop
    measuring: Measuring
    listener: Listener
    pace: Pace
    records: dict[Candidate, Record] = field(default_factory=dict)
    troubles: dict[Candidate, str] = field(default_factory=dict)
    done: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self._images, self._machine = digest(self.measuring.images_told), digest(self.measuring.machine_told)
        self._part = Part(self.listener)
        self._openvino_placed = False

    def path(self, candidate: Candidate) -> Path:
        return self.store.path(candidate.file(self.stem))

    def evaluated(self, candidate: Candidate) -> Evaluated | None:
        """Its accuracy on these images; a prepared file has that of the portable one, with which it agrees."""
        return self.records[candidate.portable if candidate.prepared else candidate].evaluated.get(self._images)

    def timed(self, candidate: Candidate) -> Timed | None:
        """Its times on this machine."""
        return self.records[candidate].timed.get(self._machine)

    def go(self, candidates: Sequence[Candidate]) -> bool:
        """Do what is missing; false where the user interrupted."""
        self.records = {one: self.store.read(one.file(self.stem)) for one in candidates}
        alive = [one for one in candidates if not ((made := self.records[one].made) and made.failed)]
        groups = [(name, tuple(members)) for name, members in groupby(alive, key=lambda one: one.group)]
        self._expect(groups)
        try:
            for group in groups:
                self._do(group)
        except KeyboardInterrupt:
            self.listener.step("interrupted")
            return False
        return True

    def _expect(self, groups: Iterable[Group]) -> None:
        """Plan what is missing."""
        steps: list[str] = []
        for name, members in groups:
            for one in members:
                todo = {
                    "make": self.records[one].made is None,
                    "evaluate": not one.prepared and self.evaluated(one) is None,
                }
                kinds = [kind for kind, missing in todo.items() if missing]
                steps += [f"{kind} {one.name}" for kind in kinds]
                for kind in (*kinds, *(["time"] if self.timed(one) is None else [])):
                    self.pace.expect(kind, one)
            steps += [f"time {name}"] if any(self.timed(one) is None for one in members) else []
        self.listener.plan(steps)

    def _do(self, group: Group) -> None:
        name, members = group
        missing = []
        for one in members:
            if not (self._make(one) and self._evaluate(one)):
                self.pace.drop(one)  # so that no time is told for what will not be done
            elif self.timed(one) is None:
                missing.append(one)
        if missing:
            self._time(name, missing)

    def _make(self, candidate: Candidate) -> bool:
        """Whether the file is there, made where it was not."""
        known = self.records[candidate]
        if known.made is None:
            if self._portable_failed(candidate) or self.pace.up or not self._placed(candidate):
                return False
            if candidate.prepared and not self._is_made(candidate.portable):
                return False
            self.listener.step(f"make {candidate.name}")
            with self.pace.step("make", candidate):
                self._keep(candidate, Record(self._made(candidate)))
        return self._is_made(candidate)

    def _is_made(self, candidate: Candidate) -> bool:
        made = self.records[candidate].made if candidate in self.records else None
        return made is not None and not made.failed

    def _made(self, candidate: Candidate) -> Made | None:
        try:
            made = self.workshop.make(candidate, self.path(candidate), self.path(candidate.portable), self._part)
        except (ParityError, AccuracyError, ExportError) as error:
            if candidate == REFERENCE:  # what all others are compared with
                raise
            return Made(failed=str(error))
        except RuntimeFailure as error:  # of this machine, which may be put right
            self.troubles[candidate] = str(error)
            return None
        self.done["made"] += 1
        return replace(made, files=digests_of(self.path(candidate)))

    def _evaluate(self, candidate: Candidate) -> bool:
        """Whether its accuracy is known, evaluated where it was not."""
        if self.evaluated(candidate) is None:
            if self._portable_failed(candidate) or self.pace.up or candidate.prepared or not self._placed(candidate):
                return False
            self.listener.step(f"evaluate {candidate.name}")
            against = self.measuring.checkpoint if candidate == REFERENCE else self.path(REFERENCE)
            state = self.store.path(f"{candidate.file(self.stem)}.{self._images[:12]}.evaluation")
            try:
                with self.pace.step("evaluate", candidate):
                    found = self.measuring.evaluated(self.path(candidate), against, state, self._part)
            except ParityError as error:  # it answers with NaN
                self.troubles[candidate] = str(error)
                return False
            known = self.records[candidate]
            self._keep(candidate, replace(known, evaluated={**known.evaluated, self._images: found}))
            self.done["evaluated"] += 1
        return True

    def _time(self, name: str, candidates: Sequence[Candidate]) -> None:
        self.listener.step(f"time {name}")
        paths = {self.path(one): one for one in candidates}
        with self.pace.step("time", *candidates):
            found = self.measuring.timed(tuple(paths), self.path(REFERENCE), self._part)
        for path, candidate in paths.items():
            figures = found[path.name]
            if isinstance(figures, str):
                self.troubles[candidate] = figures
                continue
            known = self.records[candidate]
            timed = replace(known, timed={**known.timed, self._machine: figures})
            if figures.opening_ms is None:  # a fresh process failed: shown, and measured again by the next call
                self.records[candidate] = timed
            else:
                self._keep(candidate, timed)
            self.done["timed"] += 1

    def _portable_failed(self, candidate: Candidate) -> bool:
        """Whether a prepared file is not to be had, for its portable one is not; it has that trouble as well."""
        if not candidate.prepared:
            return False
        made = self.records[candidate.portable].made if candidate.portable in self.records else None
        if candidate.portable not in self.troubles and not (made and made.failed):
            return False
        self.troubles[candidate] = "its portable file could not be made or evaluated"
        return True

    def _placed(self, candidate: Candidate) -> bool:
        """OpenVINO keeps to the cores that it sees first: let these be the ones that are measured on."""
        if candidate.runtime == "openvino" and not self._openvino_placed:
            try:
                self.measuring.place_openvino(self.path(REFERENCE))
            except RuntimeFailure as error:  # it cannot be imported, say: the others can still be measured
                self.troubles[candidate] = str(error)
                return False
            self._openvino_placed = True
        return True

    def _keep(self, candidate: Candidate, known: Record) -> None:
        self.records[candidate] = known
        if known.made is not None:
            self.store.write(candidate.file(self.stem), known)
