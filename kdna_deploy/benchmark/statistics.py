"""Statistics of latency samples.

    ratio    = median over rounds of (median of the candidate's turn / median of the baseline's turn)
    interval : 95 % of ratios over resampled blocks, and rounds within them      (two-level bootstrap)
    floor    : how far from 1 the same interval reaches for the baseline measured against a second session of itself
    verdict  : the interval widened by the floor; where that spans 1, nothing can be told

A drift of the clock frequency reaches both turns of a round and so leaves its ratio alone, but would move a quotient of
two medians over the whole run. Rounds of one block share their sessions, so they are not independent: a session that
happens to lie badly in memory is slow in every one of them. Hence the first level. Fewer than `FEWEST_ROUNDS` rounds
give no interval.

Does not apply to the paper's protocol, which compares means over all runs, and to samples of two different runs, whose
rounds have nothing in common: there the ratio is the quotient of the two medians.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]
Statistic = Literal["median", "mean"]
Verdict = Literal["slower", "faster", "cannot tell", "other run"]

FEWEST_ROUNDS = 10
_RESAMPLES = 2000


@dataclass(frozen=True)
class Samples:
    """Latencies of one candidate in milliseconds.

    Attributes:
        values: [rounds, runs]: the runs of a round follow each other.
        blocks: [rounds], the block that each round belongs to: sessions are opened anew for every block.
    """

    values: Values
    blocks: NDArray[np.int64]

    @property
    def rounds(self) -> int:
        return len(self.values)


@dataclass(frozen=True)
class Summary:
    """Latency in milliseconds, over `runs` inferences."""

    median: float
    mean: float
    p90: float
    p99: float
    minimum: float
    runs: int


@dataclass(frozen=True)
class Ratio:
    """Ratio of a candidate to its baseline.

    Attributes:
        value: see the module's equation.
        low, high: its 95 % bootstrap interval; None where there were too few rounds for one.
        floor: the machine's noise floor, relative.
        paired: whether both were measured in one run. If not, the drift of the machine between the runs is in the
            ratio and not in its interval, so that there is no verdict.
    """

    value: float
    low: float | None
    high: float | None
    floor: float = 0.0
    paired: bool = True

    @property
    def interval(self) -> tuple[float, float] | None:
        """The bootstrap interval widened by the noise floor on both sides."""
        if self.low is None or self.high is None:
            return None
        return self.low / (1 + self.floor), self.high * (1 + self.floor)

    @property
    def verdict(self) -> Verdict:
        """What is known about the candidate."""
        if not self.paired:
            return "other run"
        if self.interval is None:
            return "cannot tell"
        low, high = self.interval
        if low > 1:
            return "slower"
        return "faster" if high < 1 else "cannot tell"


@dataclass(frozen=True)
class Estimate:
    """A figure with its 95 % interval, noise floor included; None where that is not known."""

    value: float
    low: float | None
    high: float | None


def kept(ratio: Ratio) -> Estimate:
    """The share of the baseline's throughput that a ratio of times leaves: its inverse."""
    low, high = ratio.interval or (None, None)
    return Estimate(1 / ratio.value, 1 / high if high else None, 1 / low if low else None)


def images_per_second(spans: Samples, batch: int) -> float:
    """Throughput of samples in milliseconds for each inference of `batch` images."""
    return 1000 * batch / float(np.median(spans.values))


def summarise(values: Values) -> Summary:
    """Summary of latencies in milliseconds, of any shape."""
    return Summary(
        median=float(np.median(values)),
        mean=float(values.mean()),
        p90=float(np.percentile(values, 90)),
        p99=float(np.percentile(values, 99)),
        minimum=float(values.min()),
        runs=values.size,
    )


def paired_ratio(
    candidate: Samples, baseline: Samples, floor: float = 0.0, statistic: Statistic = "median", seed: int = 0
) -> Ratio:
    """Ratio of two candidates of one run: round i of both was taken at the same time, and whole rounds are resampled.

    Raises:
        ValueError: their rounds differ.
    """
    if not np.array_equal(candidate.blocks, baseline.blocks):
        raise ValueError("paired samples must come from the same rounds")
    random = np.random.default_rng(seed)
    draw = _drawer(candidate.blocks, random)

    if statistic == "mean":

        def of(rounds: NDArray[np.int64]) -> float:
            return float(candidate.values[rounds].mean() / baseline.values[rounds].mean())
    else:
        turns = np.median(candidate.values, axis=1) / np.median(baseline.values, axis=1)

        def of(rounds: NDArray[np.int64]) -> float:
            return float(np.median(turns[rounds]))

    return _ratio(of(np.arange(candidate.rounds)), candidate.rounds, floor, lambda: of(draw()))


def unpaired_ratio(
    candidate: Samples, baseline: Samples, floor: float = 0.0, statistic: Statistic = "median", seed: int = 0
) -> Ratio:
    """Ratio of samples from two runs, each resampled by itself. Drift of the machine between the runs goes unseen."""
    random = np.random.default_rng(seed)
    draw_one, draw_other = _drawer(candidate.blocks, random), _drawer(baseline.blocks, random)
    middle = np.mean if statistic == "mean" else np.median

    def resampled() -> float:
        return float(middle(candidate.values[draw_one()]) / middle(baseline.values[draw_other()]))

    value = float(middle(candidate.values) / middle(baseline.values))
    return replace(_ratio(value, min(candidate.rounds, baseline.rounds), floor, resampled), paired=False)


def noise_floor(itself: Ratio) -> float | None:
    """How far from 1, relative, the ratio of a baseline to a second session of itself may lie; None if not known."""
    if itself.low is None or itself.high is None:
        return None
    return math.expm1(max(abs(math.log(itself.low)), abs(math.log(itself.high))))


def is_steady(samples: list[float], window: int = 5, tolerance: float = 0.05) -> bool:
    """Whether the median of the last `window` samples is within `tolerance` of that of the `window` before."""
    if len(samples) < 2 * window:
        return False
    before, after = np.median(samples[-2 * window : -window]), np.median(samples[-window:])
    return bool(abs(after - before) <= tolerance * before)


def _ratio(value: float, rounds: int, floor: float, resampled: Callable[[], float]) -> Ratio:
    if rounds < FEWEST_ROUNDS:
        return Ratio(value, None, None, floor)
    low, high = np.percentile([resampled() for _ in range(_RESAMPLES)], [2.5, 97.5])
    return Ratio(value, float(low), float(high), floor)


def _drawer(blocks: NDArray[np.int64], random: np.random.Generator) -> Callable[[], NDArray[np.int64]]:
    """A function that draws rounds: blocks with replacement, then as many rounds of each as it has."""
    members = [np.flatnonzero(blocks == block) for block in np.unique(blocks)]
    if len({len(rounds) for rounds in members}) == 1:  # at once: an interval takes two thousand draws
        table = np.stack(members)

        def draw_equal() -> NDArray[np.int64]:
            chosen = random.integers(0, len(table), (len(table), 1))
            drawn: NDArray[np.int64] = table[chosen, random.integers(0, table.shape[1], table.shape)].ravel()
            return drawn

        return draw_equal

    def draw() -> NDArray[np.int64]:
        chosen = random.integers(0, len(members), len(members))
        return np.concatenate([random.choice(members[block], len(members[block])) for block in chosen])

    return draw
