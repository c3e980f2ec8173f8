"""Statistics of latency samples.

ratio = median(candidate) / median(baseline)        interval: bootstrap over paired rounds
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Samples = NDArray[np.float64]

_RESAMPLES = 2000


@dataclass(frozen=True)
class Summary:
    """Latency in milliseconds."""

    median: float
    mean: float
    p90: float
    minimum: float


@dataclass(frozen=True)
class Ratio:
    """Ratio of two medians, with its 95 % bootstrap interval."""

    value: float
    low: float
    high: float


def summarise(samples: Samples) -> Summary:
    """Summary of samples in milliseconds."""
    return Summary(
        median=float(np.median(samples)),
        mean=float(samples.mean()),
        p90=float(np.percentile(samples, 90)),
        minimum=float(samples.min()),
    )


def paired_ratio(candidate: Samples, baseline: Samples, seed: int = 0) -> Ratio:
    """Ratio of the medians. Sample i of both was taken in round i, and whole rounds are resampled.

    Raises:
        ValueError: the two have different lengths.
    """
    if len(candidate) != len(baseline):
        raise ValueError("paired samples must have the same length")
    random = np.random.default_rng(seed)
    resampled = (random.integers(0, len(candidate), len(candidate)) for _ in range(_RESAMPLES))
    ratios = [np.median(candidate[rounds]) / np.median(baseline[rounds]) for rounds in resampled]
    low, high = np.percentile(ratios, [2.5, 97.5])
    return Ratio(float(np.median(candidate) / np.median(baseline)), float(low), float(high))


def is_steady(samples: list[float], window: int = 5, tolerance: float = 0.05) -> bool:
    """Whether the median of the last `window` samples is within `tolerance` of that of the `window` before."""
    if len(samples) < 2 * window:
        return False
    before, after = np.median(samples[-2 * window : -window]), np.median(samples[-window:])
    return bool(abs(after - before) <= tolerance * before)
