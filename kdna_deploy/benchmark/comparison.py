"""Two saved runs side by side: which model became slower against its own baseline.

    change = (ratio to the baseline in B) / (ratio to the baseline in A)

Each ratio was measured in one run, interleaved, so the change is free of the machine's drift between the runs, which a
quotient of latencies is not: the latencies are shown, and judged by nobody. The interval of the change adds those of
the two ratios, noise floors included, as independent errors of their logarithms.

Does not apply across machines and options, whose differences are listed, and to a baseline itself, which has no ratio.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from kdna_deploy.benchmark.saved import SavedRow, SavedRun, incomparable
from kdna_deploy.benchmark.statistics import Summary, summarise


@dataclass(frozen=True)
class Estimate:
    """A ratio with its 95 % interval; None where it has none."""

    value: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class ComparedRow:
    """A model in two runs; None where one of them lacks it or has no ratio for it."""

    name: str
    runtime: str
    first: Summary | None
    second: Summary | None
    first_ratio: Estimate | None
    second_ratio: Estimate | None
    change: Estimate | None

    @property
    def verdict(self) -> str:
        """What became of the model."""
        if self.first is None or self.second is None:
            return "only in one"
        if self.change is None:
            return "baseline"
        if self.change.low is not None and self.change.low > 1:
            return "slower"
        if self.change.high is not None and self.change.high < 1:
            return "faster"
        return "cannot tell"


@dataclass(frozen=True)
class Comparison:
    """Two runs; `differences` says why their latencies are not comparable, and is empty where they are."""

    first: SavedRun
    second: SavedRun
    rows: tuple[ComparedRow, ...]
    differences: tuple[str, ...]


def compare_runs(first: SavedRun, second: SavedRun) -> Comparison:
    """Compare run `second` with run `first`, model by model."""
    ones, others = _by_key(first), _by_key(second)
    rows = tuple(_row(key, ones.get(key), others.get(key)) for key in dict.fromkeys((*ones, *others)))
    return Comparison(first, second, rows, tuple(incomparable(first, second.machine, second.options)))


def _by_key(run: SavedRun) -> dict[tuple[str, str], SavedRow]:
    return {(row.name, row.runtime): row for row in run.rows}


def _row(key: tuple[str, str], one: SavedRow | None, other: SavedRow | None) -> ComparedRow:
    first, second = _ratio(one), _ratio(other)
    return ComparedRow(*key, _summary(one), _summary(other), first, second, _change(first, second))


def _summary(row: SavedRow | None) -> Summary | None:
    return summarise(row.samples.values) if row and row.samples else None


def _ratio(row: SavedRow | None) -> Estimate | None:
    stored: dict[str, Any] | None = row.record.get("ratio") if row else None
    return Estimate(stored["value"], stored["low"], stored["high"]) if stored else None


def _change(first: Estimate | None, second: Estimate | None) -> Estimate | None:
    if first is None or second is None:
        return None
    value = second.value / first.value
    if first.low is None or first.high is None or second.low is None or second.high is None:
        return Estimate(value, None, None)
    below = math.hypot(math.log(second.value / second.low), math.log(first.high / first.value))
    above = math.hypot(math.log(second.high / second.value), math.log(first.value / first.low))
    return Estimate(value, value * math.exp(-below), value * math.exp(above))
