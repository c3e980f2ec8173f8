"""The protocol: candidates interleaved round by round in one process. It does not know what it times.

    run    = blocks; before each, every session is opened anew and warms up until its running median is steady
    block  = rounds; each takes the candidates in another random order
    round  = one turn of every candidate
    turn   = what is not timed, then `RUNS` timed pieces, and `RUNS` single inferences where a piece is more than one

What is not timed brings the candidate's weights back into the caches from which its predecessor drove them, as they are
when a model serves image after image. A random order gives no candidate a fixed neighbour (an order that merely turns
round lets the first and the last run twice in a row). New sessions for every block lie elsewhere in memory, which moves
a latency by about one per cent: measured once, that would pass for a difference between models.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from kdna_deploy.benchmark.statistics import Samples
from kdna_deploy.progress import SILENT, Listener

BLOCKS = 10
RUNS = 3
WARM_UP_RUNS = 50


@dataclass(frozen=True)
class Settings:
    """How long to measure: at least `iterations` timed pieces of each candidate, and `min_time` seconds in all."""

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


PAPER_SETTINGS = Settings(iterations=1000, min_time=0.0)


@dataclass(frozen=True)
class Taken:
    """What was measured of a candidate: the pieces that ratios are of, and single inferences, which may be the same."""

    samples: Samples
    singles: Samples


@dataclass(frozen=True)
class Measured:
    """What was taken of each candidate. Where the user interrupted, `complete` is false, the last round left out."""

    taken: tuple[Taken, ...]
    complete: bool

    @property
    def samples(self) -> tuple[Samples, ...]:
        """Of each candidate, what ratios are of."""
        return tuple(one.samples for one in self.taken)


class Runner(Protocol):
    """An opened candidate: warmed up once a block, it then takes turns with the others."""

    def warm_up(self) -> None: ...

    def turn(self) -> list[float]:
        """Milliseconds, always as many: `RUNS` pieces, the last `RUNS` being single inferences."""


Opened = Callable[[], AbstractContextManager[Runner]]


def interleave(candidates: Sequence[Opened], settings: Settings, listener: Listener = SILENT) -> Measured:
    """Take the turns of every candidate, round by round and block by block, as told above.

    An interruption (KeyboardInterrupt) ends the measurement early.
    """
    order = np.random.default_rng(0)
    rounds: list[list[list[float]]] = []
    blocks: list[int] = []
    complete, told = False, 0.0
    listener.expect(1, "")
    try:
        for block in range(settings.blocks):
            with ExitStack() as opened:
                runners = _open(candidates, order, opened)
                begin, first = time.perf_counter(), len(rounds)
                while (done := _fraction(len(rounds) - first, begin, settings)) < 1.0:
                    now = (block + done) / settings.blocks
                    listener.advance(now - told)
                    told = now
                    rounds.append(_round(runners, order))
                    blocks.append(block)
                del runners
        listener.advance(1 - told)
        complete = True
    except KeyboardInterrupt:
        pass
    values = np.asarray(rounds, np.float64).reshape(len(rounds), len(candidates), -1 if rounds else RUNS)
    return Measured(tuple(_taken(values[:, i], blocks) for i in range(len(candidates))), complete)


def _open(candidates: Sequence[Opened], order: np.random.Generator, opened: ExitStack) -> list[Runner]:
    """Open the sessions in a random order, for what is opened first finds the emptier memory; warm them up."""
    found = {int(index): opened.enter_context(candidates[index]()) for index in order.permutation(len(candidates))}
    runners = [found[index] for index in range(len(candidates))]
    for runner in runners:
        runner.warm_up()
    return runners


def _round(runners: list[Runner], order: np.random.Generator) -> list[list[float]]:
    """Milliseconds [candidates, of a turn]."""
    turns = {int(index): runners[index].turn() for index in order.permutation(len(runners))}
    return [turns[index] for index in range(len(runners))]


def _taken(turns: np.ndarray, blocks: list[int]) -> Taken:
    numbers = np.asarray(blocks, np.int64)
    return Taken(Samples(turns[:, :RUNS], numbers), Samples(turns[:, -RUNS:], numbers))


def _fraction(rounds: int, begin: float, settings: Settings) -> float:
    """Of a block."""
    needed = settings.min_time / settings.blocks
    elapsed = (time.perf_counter() - begin) / needed if needed > 0 else 1.0
    return min(rounds / settings.rounds, elapsed, 1.0)
