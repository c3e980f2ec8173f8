"""The protocol: who runs when, and which sample belongs to which round. Time is a clock that sessions advance."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from kdna_deploy.benchmark.latency import LatencySettings, measure_latency
from kdna_deploy.runtimes.session import Images

WARM_UP = 10  # calls until a session of constant latency counts as steady
MOST_WARM_UP = 50


class Clock:
    """Stands in for the module `time`."""

    def __init__(self) -> None:
        self.now = 0

    def perf_counter_ns(self) -> int:
        return self.now

    def perf_counter(self) -> float:
        return self.now / 1e9

    def advance(self, milliseconds: float) -> None:
        self.now += round(milliseconds * 1e6)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("kdna_deploy.benchmark.latency.time", clock)
    return clock


class Recorder:
    """A session that notes its calls in `log`; call number n takes `duration(n)` milliseconds."""

    runtime = "none"
    batch = None
    image_shape = None

    def __init__(self, name: str, log: list[str], clock: Clock, duration: Callable[[int], float]) -> None:
        self.name, self.log, self.clock, self.duration = name, log, clock, duration
        self.calls = 0
        self.seen: list[Images] = []

    def run(self, images: Images) -> Images:
        self.log.append(self.name)
        self.seen.append(images)
        self.clock.advance(self.duration(self.calls))
        self.calls += 1
        return images


def constant(milliseconds: float) -> Callable[[int], float]:
    return lambda _: milliseconds


def growing_after_warm_up(milliseconds: float) -> Callable[[int], float]:
    """The sample of round r is r + 1 times `milliseconds`."""
    return lambda call: milliseconds * max(1, call - WARM_UP + 1)


def recorders(clock: Clock, **durations: Callable[[int], float]) -> tuple[list[str], list[Recorder]]:
    log: list[str] = []
    return log, [Recorder(name, log, clock, duration) for name, duration in durations.items()]


IMAGES = [np.zeros((1, 1)), np.ones((1, 1)), np.full((1, 1), 2.0)]


def test_rounds_interleave_the_sessions_and_every_second_one_runs_backwards(clock: Clock) -> None:
    log, sessions = recorders(clock, a=constant(1), b=constant(2), c=constant(3))
    measure_latency(sessions, IMAGES, LatencySettings(iterations=4, min_time=0.0))
    assert "".join(log[3 * WARM_UP :]) == "abc" + "cba" + "abc" + "cba"


def test_every_session_warms_up_before_the_first_round(clock: Clock) -> None:
    log, sessions = recorders(clock, a=constant(1), b=constant(2))
    measure_latency(sessions, IMAGES[:2], LatencySettings(iterations=1, min_time=0.0))
    assert "".join(log) == "a" * WARM_UP + "b" * WARM_UP + "ab"


def test_warming_up_goes_on_while_a_session_gets_faster(clock: Clock) -> None:
    _, (session,) = recorders(clock, a=lambda call: 100.0 if call < 7 else 10.0)
    (samples,) = measure_latency([session], IMAGES[:1], LatencySettings(iterations=5, min_time=0.0))
    assert session.calls > WARM_UP + 5
    assert samples.tolist() == [10.0] * 5


def test_a_session_that_never_gets_steady_is_measured_in_the_end(clock: Clock) -> None:
    _, (session,) = recorders(clock, a=lambda call: 1.5**call)
    measure_latency([session], IMAGES[:1], LatencySettings(iterations=3, min_time=0.0))
    assert session.calls == MOST_WARM_UP + 3


def test_sample_i_of_every_session_comes_from_round_i(clock: Clock) -> None:
    _, sessions = recorders(clock, a=growing_after_warm_up(1), b=growing_after_warm_up(10))
    first, second = measure_latency(sessions, IMAGES[:2], LatencySettings(iterations=5, min_time=0.0))
    assert first.tolist() == [1.0, 2.0, 3.0, 4.0, 5.0]
    assert second.tolist() == [10.0, 20.0, 30.0, 40.0, 50.0]


def test_every_session_runs_on_its_own_images(clock: Clock) -> None:
    _, sessions = recorders(clock, a=constant(1), b=constant(1))
    measure_latency(sessions, IMAGES[:2], LatencySettings(iterations=3, min_time=0.0))
    for session, images in zip(sessions, IMAGES[:2], strict=True):
        assert all(seen is images for seen in session.seen)


@pytest.mark.parametrize(
    ("iterations", "min_time", "rounds"),
    [(7, 0.0, 7), (7, 0.04, 7), (7, 0.98, 20), (1, 0.08, 2), (30, 0.98, 30)],
)
def test_measuring_ends_when_both_the_iterations_and_the_time_are_reached(
    clock: Clock, iterations: int, min_time: float, rounds: int
) -> None:
    _, sessions = recorders(clock, a=constant(20), b=constant(30))  # 50 ms a round
    samples = measure_latency(sessions, IMAGES[:2], LatencySettings(iterations, min_time))
    assert [len(s) for s in samples] == [rounds, rounds]


def test_progress_rises_from_nothing_to_all(clock: Clock) -> None:
    _, sessions = recorders(clock, a=constant(20))
    told: list[float] = []
    measure_latency(sessions, IMAGES[:1], LatencySettings(iterations=4, min_time=0.0), told.append)
    assert told == [0.0, 0.25, 0.5, 0.75, 1.0]


def test_sessions_and_images_must_match_in_number(clock: Clock) -> None:
    _, sessions = recorders(clock, a=constant(1), b=constant(1))
    with pytest.raises(ValueError, match="shorter"):
        measure_latency(sessions, IMAGES[:1], LatencySettings(iterations=1, min_time=0.0))
