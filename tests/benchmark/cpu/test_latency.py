"""The protocol: who runs when, and which sample belongs to which round. Time is a clock that sessions advance."""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from itertools import pairwise

import numpy as np
import pytest

from kdna_deploy.benchmark.cpu.affinity import pinned
from kdna_deploy.benchmark.cpu.latency import LatencyRunner, measure_latency
from kdna_deploy.benchmark.protocol import BLOCKS, RUNS, Measured, Settings, interleave
from kdna_deploy.images.batch import Images
from kdna_deploy.progress import SILENT, Listener
from kdna_deploy.runtimes.session import Closing
from tests.benchmark.heard import Heard

CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
WARM_UP = 10  # calls until a session of constant latency counts as steady
MOST_WARM_UP = 50
TURN = 1 + RUNS  # one inference that is not timed
ONE_ROUND = Settings(iterations=1, min_time=0.0)
# Block and call within the block → milliseconds.
Duration = Callable[[int, int], float]


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
    for module in ("cpu.latency", "protocol"):
        monkeypatch.setattr(f"kdna_deploy.benchmark.{module}.time", clock)
    return clock


class Recorder(Closing):
    """A session that tells its theatre of every call."""

    runtime = "none"
    batch = None
    image_shape = None
    options: Mapping[str, str | int] = {}

    def __init__(self, name: str, theatre: Theatre, block: int) -> None:
        self.name, self.theatre, self.block = name, theatre, block
        self.calls = 0

    def run(self, images: Images) -> Images:
        self.theatre.ran(self, images)
        self.calls += 1
        return images

    def _release(self) -> None:
        self.theatre.open -= 1


class Theatre:
    """Candidates, and a log of what is opened (``+a``) and run (``a``)."""

    def __init__(self, clock: Clock, **durations: Duration) -> None:
        self.clock, self.durations = clock, durations
        self.log: list[str] = []
        self.seen: dict[str, list[Images]] = {name: [] for name in durations}
        self.alive: weakref.WeakSet[Recorder] = weakref.WeakSet()
        self.alive_at_opening: list[int] = []
        self.open, self.open_at_opening = 0, []
        self.interrupt_at: int | None = None

    @property
    def openers(self) -> list[Callable[[], Recorder]]:
        return [lambda name=name: self._open(name) for name in self.durations]

    def measure(self, settings: Settings, listener: Listener = SILENT) -> Measured:
        images = [np.full((1, 1), float(number)) for number in range(len(self.durations))]
        return measure_latency(self.openers, images, settings, listener)

    def _open(self, name: str) -> Recorder:
        self.alive_at_opening.append(len(self.alive))
        self.open_at_opening.append(self.open)
        self._note(f"+{name}")
        self.open += 1
        session = Recorder(name, self, self.log.count(f"+{name}") - 1)
        self.alive.add(session)
        return session

    def ran(self, session: Recorder, images: Images) -> None:
        self._note(session.name)
        self.seen[session.name].append(images)
        self.clock.advance(self.durations[session.name](session.block, session.calls))

    def _note(self, what: str) -> None:
        if len(self.log) == self.interrupt_at:
            raise KeyboardInterrupt
        self.log.append(what)

    def blocks(self) -> list[list[str]]:
        """The log, cut before each opening that follows a run."""
        cuts = [i for i, (before, after) in enumerate(pairwise(self.log), 1) if after[0] == "+" and before[0] != "+"]
        return [self.log[begin:end] for begin, end in zip([0, *cuts], [*cuts, len(self.log)], strict=True)]

    def orders(self) -> list[str]:
        """The order of the candidates in each round; every turn is checked to be whole."""
        found = []
        for block in self.blocks():
            n = len(self.durations)
            runs = block[n * (1 + WARM_UP) :]
            turns = [runs[i : i + TURN] for i in range(0, len(runs), TURN)]
            assert all(turn == [turn[0]] * TURN for turn in turns)
            found += ["".join(turn[0] for turn in turns[i : i + n]) for i in range(0, len(turns), n)]
        return found


def constant(milliseconds: float) -> Duration:
    return lambda block, call: milliseconds


def telling(scale: float) -> Duration:
    """Timed run r of turn t in block b takes `scale` · (1000 + 100 b + 10 t + r); an untimed one much longer."""

    def duration(block: int, call: int) -> float:
        turn, run = divmod(call - WARM_UP, TURN)
        if call < WARM_UP:
            return scale
        return scale * (1000 + 100 * block + 10 * turn + run) if run else 1e6

    return duration


def told(blocks: int, rounds: int) -> np.ndarray:
    """What `telling(1)` sessions leave."""
    return np.array(
        [[1000 + 100 * b + 10 * t + r for r in range(1, TURN)] for b in range(blocks) for t in range(rounds)]
    )


# Who runs when


def test_every_block_opens_the_sessions_anew_and_warms_them_up_before_its_rounds(clock: Clock) -> None:
    theatre = Theatre(clock, a=constant(1), b=constant(2))
    theatre.measure(Settings(iterations=2 * RUNS, min_time=0.0))
    blocks = theatre.blocks()
    assert len(blocks) == 2
    for block in blocks:
        assert sorted(block[:2]) == ["+a", "+b"]
        assert block[2 : 2 + 2 * WARM_UP] == ["a"] * WARM_UP + ["b"] * WARM_UP
        assert sorted(block[2 + 2 * WARM_UP :]) == ["a"] * TURN + ["b"] * TURN


def test_the_sessions_of_a_block_are_gone_before_the_next_are_opened(clock: Clock) -> None:
    theatre = Theatre(clock, a=constant(1), b=constant(1))
    theatre.measure(Settings(iterations=3 * RUNS, min_time=0.0))
    assert theatre.alive_at_opening == theatre.open_at_opening == [0, 1] * 3
    assert theatre.open == 0


def test_a_round_takes_every_candidate_once_in_a_random_order(clock: Clock) -> None:
    theatre = Theatre(clock, a=constant(1), b=constant(1), c=constant(1))
    theatre.measure(Settings(iterations=60 * RUNS, min_time=0.0))
    orders = theatre.orders()
    assert len(orders) == 60
    assert {"".join(sorted(order)) for order in orders} == {"abc"}
    assert len(set(orders)) == 6
    assert len(set(pairwise(orders))) > 20  # and no order decides the next one


def test_sessions_are_opened_in_a_random_order(clock: Clock) -> None:
    theatre = Theatre(clock, a=constant(1), b=constant(1), c=constant(1))
    theatre.measure(Settings(iterations=BLOCKS * RUNS, min_time=0.0))
    assert len({tuple(block[:3]) for block in theatre.blocks()}) > 2


def test_the_same_measurement_has_the_same_order(clock: Clock) -> None:
    logs = []
    for _ in range(2):
        theatre = Theatre(clock, a=constant(1), b=constant(1), c=constant(1))
        theatre.measure(Settings(iterations=60, min_time=0.0))
        logs.append(theatre.log)
    assert logs[0] == logs[1]


def test_every_session_runs_on_its_own_images(clock: Clock) -> None:
    theatre = Theatre(clock, a=constant(1), b=constant(1))
    theatre.measure(Settings(iterations=30, min_time=0.0))
    assert {float(images.item()) for images in theatre.seen["a"]} == {0.0}
    assert {float(images.item()) for images in theatre.seen["b"]} == {1.0}


def test_openers_and_images_must_match_in_number(clock: Clock) -> None:
    theatre = Theatre(clock, a=constant(1), b=constant(1))
    with pytest.raises(ValueError, match="shorter"):
        measure_latency(theatre.openers, [np.zeros((1, 1))], ONE_ROUND)
    with pytest.raises(ValueError, match="longer"):
        measure_latency(theatre.openers, [np.zeros((1, 1))] * 3, ONE_ROUND)


# Warming up


def test_warming_up_goes_on_while_a_session_gets_faster(clock: Clock) -> None:
    theatre = Theatre(clock, a=lambda block, call: 100.0 if call < 7 else 10.0)
    (samples,) = theatre.measure(ONE_ROUND).samples
    assert len(theatre.seen["a"]) > WARM_UP + TURN
    assert samples.values.tolist() == [[10.0] * RUNS]


def test_a_session_that_never_gets_steady_is_measured_in_the_end(clock: Clock) -> None:
    theatre = Theatre(clock, a=lambda block, call: 1.5 ** (call % MOST_WARM_UP))
    assert theatre.measure(ONE_ROUND).complete
    assert len(theatre.seen["a"]) == MOST_WARM_UP + TURN


# Which samples there are


def test_sample_i_of_every_candidate_comes_from_round_i_and_the_untimed_runs_leave_none(clock: Clock) -> None:
    theatre = Theatre(clock, a=telling(1), b=telling(2))
    measured = theatre.measure(Settings(iterations=31, min_time=0.0))  # 10 blocks of 2 rounds
    first, second = measured.samples
    assert measured.complete
    assert first.values.tolist() == told(BLOCKS, 2).tolist()
    assert second.values.tolist() == (2 * told(BLOCKS, 2)).tolist()


def test_every_round_is_labelled_with_its_block(clock: Clock) -> None:
    theatre = Theatre(clock, a=constant(1), b=constant(1))
    for samples in theatre.measure(Settings(iterations=31, min_time=0.0)).samples:
        assert samples.blocks.tolist() == np.repeat(np.arange(BLOCKS), 2).tolist()
        assert samples.rounds == 2 * BLOCKS


@pytest.mark.parametrize(
    ("iterations", "min_time", "blocks", "rounds"),
    [
        (1, 0.0, 1, 1),
        (3, 0.0, 1, 1),
        (4, 0.0, 1, 2),
        (7, 0.0, 2, 2),
        (30, 0.0, 10, 1),
        (31, 0.0, 10, 2),
        (100, 0.0, 10, 4),
        (1000, 0.0, 10, 34),
        (1, 0.7, 1, 4),
        (30, 3.9, 10, 2),
        (30, 4.1, 10, 3),
        (100, 4.1, 10, 4),
    ],
)
def test_measuring_ends_when_both_the_iterations_and_the_time_are_reached(
    clock: Clock, iterations: int, min_time: float, blocks: int, rounds: int
) -> None:
    theatre = Theatre(clock, a=constant(20), b=constant(30))  # a round takes 4 · 50 ms
    for samples in theatre.measure(Settings(iterations, min_time)).samples:
        assert samples.values.shape == (blocks * rounds, RUNS)
        assert samples.values.size >= iterations
        assert samples.blocks.tolist() == np.repeat(np.arange(blocks), rounds).tolist()


# Progress


@pytest.mark.parametrize("settings", [Settings(61, 0.0), Settings(30, 7.0)])
def test_progress_rises_from_nothing_to_all(clock: Clock, settings: Settings) -> None:
    theatre = Theatre(clock, a=constant(20))
    heard = Heard()
    measured = theatre.measure(settings, heard)
    fractions = heard.parts
    assert heard.expected == [(1, "")]
    assert fractions[0] == 0.0
    assert fractions[-1] == pytest.approx(1.0)
    assert all(before < after for before, after in pairwise(fractions))
    assert len(fractions) == measured.samples[0].rounds + 1


def test_progress_counts_rounds_and_blocks(clock: Clock) -> None:
    theatre = Theatre(clock, a=constant(20))
    heard = Heard()
    theatre.measure(Settings(iterations=7, min_time=0.0), heard)  # 2 blocks of 2 rounds
    assert heard.parts == [0.0, 0.25, 0.5, 0.75, 1.0]


# Interruptions

_OPENED = 2 * (1 + WARM_UP)  # entries of the log until the first round of a block of two candidates begins
_ROUND = 2 * TURN
_BLOCK = _OPENED + 2 * _ROUND


@pytest.mark.parametrize(
    ("entry", "rounds"),
    [
        pytest.param(_OPENED, 0, id="the first run"),
        pytest.param(_OPENED + _ROUND, 1, id="the second round's first run"),
        pytest.param(_OPENED + 2 * _ROUND - 1, 1, id="the second round's last run"),
        pytest.param(0, 0, id="the first opening"),
        pytest.param(1, 0, id="the second opening"),
        pytest.param(7, 0, id="the first warm-up"),
        pytest.param(_BLOCK, 2, id="the next block's opening"),
        pytest.param(_BLOCK + 15, 2, id="the next block's warm-up"),
        pytest.param(_BLOCK + _OPENED + 3, 2, id="the next block's first round"),
        pytest.param(_BLOCK + _OPENED + _ROUND, 3, id="the next block's second round"),
    ],
)
def test_an_interruption_keeps_the_complete_rounds(clock: Clock, entry: int, rounds: int) -> None:
    theatre = Theatre(clock, a=telling(1), b=telling(2))
    theatre.interrupt_at = entry
    measured = theatre.measure(Settings(iterations=7, min_time=0.0))  # 2 blocks of 2 rounds
    assert not measured.complete
    assert len(measured.samples) == 2
    for scale, samples in enumerate(measured.samples, 1):
        assert samples.values.shape == (rounds, RUNS)
        assert samples.values.tolist() == (scale * told(2, 2)[:rounds]).tolist()
        assert samples.blocks.tolist() == [0, 0, 1, 1][:rounds]


def test_an_interruption_is_noticed_while_progress_is_told(clock: Clock) -> None:
    def impatient(fraction: float) -> None:
        if fraction >= 0.5:
            raise KeyboardInterrupt

    measured = Theatre(clock, a=constant(1)).measure(Settings(iterations=7, min_time=0.0), Heard(impatient))
    assert not measured.complete
    assert measured.samples[0].rounds == 2


def test_other_errors_of_a_session_are_not_swallowed(clock: Clock) -> None:
    def broken(block: int, call: int) -> float:
        if call == WARM_UP + 2:
            raise RuntimeError("out of order")
        return 1.0

    theatre = Theatre(clock, a=broken)
    with pytest.raises(RuntimeError, match="out of order"):
        theatre.measure(ONE_ROUND)
    assert theatre.open == 0


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity") or CORES < 2, reason="needs Linux and two cores")
def test_a_session_that_moves_the_thread_is_measured_on_the_pinned_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    """As OpenVINO may, which puts back the cores that it found when it came."""
    seen: list[set[int]] = []
    every = os.sched_getaffinity(0)

    class Moving(Recorder):
        def __init__(self) -> None:
            self.name = "moving"
            os.sched_setaffinity(0, every)

        def run(self, images: Images) -> Images:
            seen.append(os.sched_getaffinity(0))
            return images

        def _release(self) -> None:
            os.sched_setaffinity(0, every)

    @contextmanager
    def opened(cores: tuple[int, ...]) -> Iterator[LatencyRunner]:
        with Moving() as session:
            yield LatencyRunner(session, np.zeros((1, 1)), cores)

    with pinned(1) as cores:
        interleave([partial(opened, cores)] * 2, Settings(iterations=2 * RUNS, min_time=0.0))
    assert seen and all(found == set(cores) for found in seen)
    assert os.sched_getaffinity(0) == every
