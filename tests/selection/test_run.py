"""A sweep on its way: what fails, is interrupted or runs out of time leaves the rest as it is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kdna_deploy.errors import ExportError, ParityError, RuntimeFailure
from kdna_deploy.progress import Listener
from kdna_deploy.selection.candidate import REFERENCE, Candidate
from kdna_deploy.selection.pace import Pace
from kdna_deploy.selection.result import Baseline, Interval
from kdna_deploy.selection.run import Going
from kdna_deploy.selection.store import Evaluated, Made, Store, Timed
from tests.selection.test_pace import Clock, Heard

SHARED = replace(REFERENCE, children="share")
HALF = replace(REFERENCE, weights="fp16")
PREPARED = replace(REFERENCE, prepared=True)
OPENVINO = replace(REFERENCE, runtime="openvino")
ALL = (REFERENCE, SHARED, HALF, PREPARED)
TIMED = Timed(1.0, Interval(1, 1, 1), Baseline("plain", 6, 1.0), opening_ms=1.0)
UNOPENED = replace(TIMED, opening_ms=None)


class Works:
    """Makes files and measures them, each step of one in a second; `at` is called with its kind and file before."""

    checkpoint = Path("net.pt")
    images_told: Mapping[str, Any] = {"images": 1}
    machine_told: Mapping[str, Any] = {"machine": 1}

    def __init__(self, clock: Clock, at: Callable[[str, str], None] = lambda kind, name: None) -> None:
        self.clock, self.at, self.done = clock, at, list[tuple[str, str]]()

    def _do(self, kind: str, path: Path) -> None:
        self.at(kind, path.name)
        self.clock.now += 1
        self.done.append((kind, path.name))

    def make(self, candidate: Candidate, output: Path, portable: Path, listener: Listener) -> Made:
        self._do("make", output)
        output.write_bytes(b"a file")
        return Made(6, "judged")

    def evaluated(self, path: Path, against: Path, state: Path, listener: Listener) -> Evaluated:
        self._do("evaluate", path)
        return Evaluated(10, 1.0, 1.0, 1.0)

    def timed(self, paths: Sequence[Path], reference: Path, listener: Listener) -> Mapping[str, Timed | str]:
        for path in paths:
            self._do("time", path)
        return {path.name: TIMED for path in paths}

    def place_openvino(self, path: Path) -> None:
        self.at("place", path.name)


def going(store: Store, works: Any, heard: Heard | None = None, minutes: float | None = None) -> Going:
    heard = heard or Heard()
    return Going("net", store, works, works, heard, Pace(heard, minutes, works.clock))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.opened(tmp_path, {})


def raises(error: BaseException, *at: str) -> Callable[[str, str], None]:
    def raise_it(*now: str) -> None:
        if now == at:
            raise error

    return raise_it


@pytest.mark.parametrize("error", [ExportError("it departs."), RuntimeFailure("it is not there.")])
def test_what_cannot_be_made_costs_the_others_nothing_and_no_time_is_told_for_it(
    store: Store, error: Exception
) -> None:
    heard = Heard()
    works = Works(Clock(), raises(error, "make", SHARED.file("net")))
    first = going(store, works, heard)
    assert first.go(ALL)
    assert {name for _, name in works.done} == {one.file("net") for one in (REFERENCE, HALF, PREPARED)}
    assert heard.seconds[-1] == 0
    again = Works(Clock())
    assert going(store, again).go(ALL)
    kept = isinstance(error, ExportError)  # of the file; the other is of this machine, and may be put right
    assert again.done == ([] if kept else [(kind, SHARED.file("net")) for kind in ("make", "evaluate", "time")])


def test_the_file_that_all_are_compared_with_must_be_made(store: Store) -> None:
    with pytest.raises(ExportError):
        going(store, Works(Clock(), raises(ExportError("x."), "make", REFERENCE.file("net")))).go(ALL)


@pytest.mark.parametrize("kind", ["make", "evaluate", "time"])
def test_an_interruption_keeps_what_is_there_and_the_next_call_does_the_rest(store: Store, kind: str) -> None:
    stopped = Works(Clock(), raises(KeyboardInterrupt(), kind, HALF.file("net")))
    assert not going(store, stopped).go(ALL)
    again = Works(Clock())
    last = going(store, again)
    assert last.go(ALL) and all(last.timed(one) and last.evaluated(one) for one in ALL)
    once = [step for step in (*stopped.done, *again.done) if step[0] != "time"]
    assert len(once) == len(set(once)) == 4 + 3  # a prepared file has its portable one's accuracy


def test_when_the_time_is_up_what_was_evaluated_is_timed(store: Store) -> None:
    works = Works(Clock())
    stopped = going(store, works, minutes=2.5 / 60)  # amid the third step
    assert stopped.go(ALL)
    made = [name for kind, name in works.done if kind == "make"]
    assert made == [REFERENCE.file("net"), SHARED.file("net")]
    assert [name for kind, name in works.done if kind == "time"] == [REFERENCE.file("net")]


@pytest.mark.parametrize(("kind", "error"), [("make", ExportError("x.")), ("evaluate", ParityError("NaN."))])
def test_a_prepared_file_whose_portable_one_failed_has_failed_in_every_call(
    store: Store, kind: str, error: Exception
) -> None:
    half = replace(HALF, prepared=True)
    for _ in range(2):
        works = Works(Clock(), raises(error, kind, HALF.file("net")))
        told = going(store, works)
        assert told.go((*ALL, half)) and told.records[half].made is None
        assert told.troubles[half] == "its portable file could not be made or evaluated"


def test_an_openvino_that_cannot_be_imported_costs_the_others_nothing(store: Store) -> None:
    works = Works(Clock(), raises(RuntimeFailure("a library is missing."), "place", REFERENCE.file("net")))
    told = going(store, works)
    assert told.go((OPENVINO, *ALL)) and all(told.timed(one) for one in ALL)
    assert told.troubles == {OPENVINO: "a library is missing."}


def test_times_without_those_of_a_fresh_process_are_shown_and_measured_again(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Works, "timed", lambda self, paths, *_: {path.name: UNOPENED for path in paths})
    first = going(store, Works(Clock()))
    assert first.go(ALL) and all(first.timed(one) == UNOPENED for one in ALL)
    monkeypatch.undo()
    works = Works(Clock())
    again = going(store, works)
    assert again.go(ALL) and all(again.timed(one) == TIMED for one in ALL)
    assert {kind for kind, _ in works.done} == {"time"}
