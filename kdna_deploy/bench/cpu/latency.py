"""The latency protocol: candidates interleaved round by round in one process, on pinned cores.

    run    = blocks; before each, every session is opened anew and warms up until its running median is steady
    block  = rounds; each takes the candidates in another random order
    round  = one turn of every candidate
    turn   = one inference that is not timed, then `RUNS` that are

The untimed inference brings the candidate's weights back into the caches from which its predecessor drove them, as they
are when a model serves image after image. A random order gives no candidate a fixed neighbour (an order that merely
turns round lets the first and the last run twice in a row). New sessions for every block lie elsewhere in memory,
which moves a latency by about one per cent: measured once, that would pass for a difference between models.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import numpy as np

from kdna_deploy.bench.statistics import Samples, is_steady
from kdna_deploy.images.batch import Images
from kdna_deploy.runtimes.session import Session

BLOCKS = 10
RUNS = 3
WARM_UP_RUNS = 50


@dataclass(frozen=True)
class LatencySettings:
    """How long to measure: at least `iterations` timed inferences of each candidate, and `min_time` seconds in all."""

    iterations: int = 100
    min_time: float = 3.0

    @property
    def blocks(self) -> int:
        """As many as the iterations suffice for, at most `BLOCKS`."""
        return min(BLOCKS, max(1, self.iterations // RUNS))

    @property
    def rounds(self) -> int:
        """Of a block, at least."""
        return -(-self.iterations // (self.blocks * RUNS))


@dataclass(frozen=True)
class Measured:
    """Samples of each candidate. Where the user interrupted, `complete` is false and the last round left out."""

    samples: tuple[Samples, ...]
    complete: bool


Opener = Callable[[], Session]


class Runner(Protocol):
    """An opened candidate: what `interleave` warms up once a block, and then takes turns with."""

    def warm_up(self) -> None: ...

    def turn(self) -> list[float]:
        """Milliseconds, always as many."""


def measure_latency(
    openers: Sequence[Opener],
    images: Sequence[Images],
    settings: LatencySettings,
    on_progress: Callable[[float], None] = lambda _: None,
) -> Measured:
    """Measure the sessions that `openers` open, each on its own `images`.

    `on_progress` is told the fraction done. An interruption (KeyboardInterrupt) ends the measurement early.
    """
    runners = [partial(_opened, opener, batch) for opener, batch in zip(openers, images, strict=True)]
    return interleave(runners, settings, on_progress)


def interleave(
    openers: Sequence[Callable[[], Runner]],
    settings: LatencySettings,
    on_progress: Callable[[float], None] = lambda _: None,
) -> Measured:
    """Take the turns of every candidate, round by round and block by block, as told above."""
    order = np.random.default_rng(0)
    rounds: list[list[list[float]]] = []
    blocks: list[int] = []
    try:
        for block in range(settings.blocks):
            runners = _open(openers, order)
            begin, first = time.perf_counter(), len(rounds)
            while (done := _fraction(len(rounds) - first, begin, settings)) < 1.0:
                on_progress((block + done) / settings.blocks)
                rounds.append(_round(runners, order))
                blocks.append(block)
            del runners
        on_progress(1.0)
    except KeyboardInterrupt:
        return Measured(_samples(rounds, blocks, len(openers)), complete=False)
    return Measured(_samples(rounds, blocks, len(openers)), complete=True)


def _open(openers: Sequence[Callable[[], Runner]], order: np.random.Generator) -> list[Runner]:
    """Open the sessions in a random order, for what is opened first finds the emptier memory; warm them up."""
    opened = {int(index): openers[index]() for index in order.permutation(len(openers))}
    runners = [opened[index] for index in range(len(openers))]
    for runner in runners:
        runner.warm_up()
    return runners


def _round(runners: list[Runner], order: np.random.Generator) -> list[list[float]]:
    """Milliseconds [candidates, of a turn]."""
    turns = {int(index): runners[index].turn() for index in order.permutation(len(runners))}
    return [turns[index] for index in range(len(runners))]


def _samples(rounds: list[list[list[float]]], blocks: list[int], candidates: int) -> tuple[Samples, ...]:
    values = np.asarray(rounds, np.float64).reshape(len(rounds), candidates, -1 if rounds else RUNS)
    return tuple(Samples(values[:, index], np.asarray(blocks, np.int64)) for index in range(candidates))


def _fraction(rounds: int, begin: float, settings: LatencySettings) -> float:
    """Of a block."""
    needed = settings.min_time / settings.blocks
    elapsed = (time.perf_counter() - begin) / needed if needed > 0 else 1.0
    return min(rounds / settings.rounds, elapsed, 1.0)


def _opened(opener: Opener, images: Images) -> Runner:
    return _SessionRunner(opener(), images)


@dataclass(frozen=True)
class _SessionRunner:
    """A session with its images on the CPU, timed by the host's clock."""

    session: Session
    images: Images

    def warm_up(self) -> None:
        seen: list[float] = []
        while not is_steady(seen) and len(seen) < WARM_UP_RUNS:
            seen.append(self._time())

    def turn(self) -> list[float]:
        self.session.run(self.images)
        return [self._time() for _ in range(RUNS)]

    def _time(self) -> float:
        begin = time.perf_counter_ns()
        self.session.run(self.images)
        return (time.perf_counter_ns() - begin) / 1e6
