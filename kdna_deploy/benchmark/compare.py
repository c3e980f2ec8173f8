"""Two saved runs side by side: which model became slower against its own baseline.

    change = (ratio to the baseline in B) / (ratio to the baseline in A)

Each ratio was measured in one run, interleaved, so the change is free of the machine's drift between the runs, which a
quotient of latencies is not: the latencies are shown, and judged by nobody. The interval of the change adds those of
the two ratios, noise floors included, as independent errors of their logarithms.

Does not apply across machines, options and sizes of images, whose differences are listed; to a baseline itself, which
has no ratio; and to ratios whose baselines differ, as they do on images of other sizes, or were taken from a saved run,
which hold the machine's drift.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from kdna_deploy.benchmark.saved import SavedRatio, SavedRow, SavedRun, incomparable, other_images, shown_shape
from kdna_deploy.benchmark.statistics import Estimate, Summary, summarise

_Rows = dict[tuple[str, str], SavedRow]


@dataclass(frozen=True)
class ComparedRow:
    """A model in two runs; None where one of them lacks it or has no ratio for it."""

    model: str
    runtime: str
    first: Summary | None
    second: Summary | None
    first_ratio: SavedRatio | None
    second_ratio: SavedRatio | None
    change: Estimate | None

    @property
    def verdict(self) -> str:
        """What became of the model."""
        if self.first is None or self.second is None:
            return "only in one"
        if self.first_ratio is None and self.second_ratio is None:
            return "baseline"
        if self.change is None:
            return "other baseline"
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
    found = incomparable(first, second.machine, second.options)
    return Comparison(first, second, rows, (*found, *dict.fromkeys(_of_images(ones, others))))


def _by_key(run: SavedRun) -> _Rows:
    return {(row.model, row.runtime): row for row in run.rows}


def _of_images(ones: _Rows, others: _Rows) -> Iterator[str]:
    """Models that were measured on images of other shapes, a phrase each."""
    for key, one in ones.items():
        other = others.get(key)
        if other and other_images(one.image_shape, other.image_shape):
            yield f"images of {one.model} ({shown_shape(one.image_shape)} against {shown_shape(other.image_shape)})"


def _row(key: tuple[str, str], one: SavedRow | None, other: SavedRow | None) -> ComparedRow:
    first, second = (row.ratio if row else None for row in (one, other))
    same = one and other and not other_images(one.image_shape, other.image_shape)
    change = _change(first, second) if same and first and second and _same_baseline(first, second) else None
    return ComparedRow(*key, _summary(one), _summary(other), first, second, change)


def _summary(row: SavedRow | None) -> Summary | None:
    return summarise(row.samples.values) if row and row.samples else None


def _same_baseline(first: SavedRatio, second: SavedRatio) -> bool:
    return first.paired and second.paired and first.baseline == second.baseline


def _change(first: SavedRatio, second: SavedRatio) -> Estimate:
    value = second.value / first.value
    if first.low is None or first.high is None or second.low is None or second.high is None:
        return Estimate(value, None, None)
    below = math.hypot(math.log(second.value / second.low), math.log(first.high / first.value))
    above = math.hypot(math.log(second.high / second.value), math.log(first.value / first.low))
    return Estimate(value, value * math.exp(-below), value * math.exp(above))
