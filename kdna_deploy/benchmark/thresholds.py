"""Gates for continuous integration: ``--fail-if "ratio>1.35"``.

    METRIC OPERATOR NUMBER     for every measured model that has the metric; a ratio belongs to what has a baseline

`ratio` is the point estimate; `ratio.low` and `ratio.high` are the ends of its interval. ``ratio.low>1.35`` fails only
when the slowdown is beyond doubt, ``ratio.high>1.35`` already when it cannot be excluded. `throughput` (images a
second) and `kept` (per cent of the baseline's) belong to runs on the GPU, and to streams on the CPU.

What has other figures, an evaluation say, brings its own table of metrics.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kdna_deploy.errors import UsageError

if TYPE_CHECKING:  # a threshold is parsed before anything heavy is imported
    from kdna_deploy.benchmark.result import Row


def _latency(name: str) -> Callable[[Row], float | None]:
    return lambda row: getattr(row.latency, name) if row.latency else None


def _end(index: int) -> Callable[[Row], float | None]:
    return lambda row: row.ratio.interval[index] if row.ratio and row.ratio.interval else None


def _of_device(name: str) -> Callable[[Row], float | None]:
    return lambda row: row.figures.metrics.get(name)


_OF_DEVICES = (
    *("load", "first", "resident", "peak", "private", "shared", "together", "share"),
    *("throughput", "kept"),
)
METRICS: dict[str, Callable[[Row], float | None]] = {
    "ratio": lambda row: row.ratio.value if row.ratio else None,
    "ratio.low": _end(0),
    "ratio.high": _end(1),
    "median": _latency("median"),
    "mean": _latency("mean"),
    "p90": _latency("p90"),
    "p99": _latency("p99"),
    "min": _latency("minimum"),
    "file": lambda row: row.file_bytes / 1e6 if row.file_bytes else None,
    # On the CPU alone, and on a GPU alone.
    **{name: _of_device(name) for name in _OF_DEVICES},
}
Metrics = Mapping[str, Callable[[Any], float | None]]  # of what has a `name`
_OPERATORS = {">": operator.gt, ">=": operator.ge, "<": operator.lt, "<=": operator.le}
_SYNTAX = re.compile(r"\s*([a-z0-9.]+)\s*(>=|<=|>|<)\s*([0-9]{1,15}(?:\.[0-9]{1,15})?)\s*")


@dataclass(frozen=True)
class Threshold:
    """A parsed condition; latencies are in milliseconds, sizes in megabytes, `kept` in per cent."""

    metric: str
    comparison: str
    limit: float

    def __str__(self) -> str:
        return f"{self.metric}{self.comparison}{self.limit:g}"


@dataclass(frozen=True)
class Crossing:
    """A model for which a condition holds. `value` is None where the metric could not be measured at all."""

    threshold: Threshold
    model: str
    value: float | None


def parse_threshold(text: str, metrics: Metrics = METRICS, example: str = "ratio>1.35") -> Threshold:
    """``ratio>1.35`` → a threshold on one of `metrics`.

    Raises:
        UsageError: it is none.
    """
    match = _SYNTAX.fullmatch(text)
    if match is None or match[1] not in metrics:
        raise UsageError(
            f"`fail_if` '{text}' is not METRIC OPERATOR NUMBER, such as '{example}'; "
            f"metrics: {', '.join(metrics)}; operators: {' '.join(_OPERATORS)}."
        )
    return Threshold(match[1], match[2], float(match[3]))


def crossings(threshold: Threshold, rows: Sequence[Any], metrics: Metrics = METRICS) -> list[Crossing]:
    """The rows for which `threshold` holds.

    A metric that no row has is a crossing too, and so is the lack of rows: a gate must not pass unseen.
    """
    if not rows:
        return [Crossing(threshold, "nothing that is compared", None)]
    measured = [(row, metrics[threshold.metric](row)) for row in rows]
    known = [(row, value) for row, value in measured if value is not None]
    if not known:
        return [Crossing(threshold, row.name, None) for row in rows]
    holds = _OPERATORS[threshold.comparison]
    return [Crossing(threshold, row.name, value) for row, value in known if holds(value, threshold.limit)]


def crossed(thresholds: Sequence[Threshold], rows: Sequence[Any], metrics: Metrics = METRICS) -> tuple[str, ...]:
    """A sentence for each of `thresholds` that holds for any of `rows`."""
    found = ((threshold, crossings(threshold, rows, metrics)) for threshold in thresholds)
    return tuple(f"`fail_if` '{threshold}': {_told(crossing)}." for threshold, crossing in found if crossing)


def _told(found: Sequence[Crossing]) -> str:
    return ", ".join(
        f"{c.model} has no such figure" if c.value is None else f"{c.model} has {c.value:.4g}" for c in found
    )
