"""Statistics on samples whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest

from kdna_deploy.benchmark.statistics import Samples, is_steady, paired_ratio, summarise


def noisy(scale: float, seed: int, rounds: int = 120) -> Samples:
    """Latencies of about `scale` milliseconds, skewed like real ones."""
    return scale * (1 + np.random.default_rng(seed).gamma(2.0, 0.02, rounds))


def test_a_summary_of_one_to_ten_is_known() -> None:
    summary = summarise(np.arange(10.0, 0.0, -1.0))
    assert summary.median == 5.5
    assert summary.mean == 5.5
    assert summary.p90 == pytest.approx(9.1)
    assert summary.minimum == 1.0


def test_equal_samples_have_a_ratio_of_exactly_one() -> None:
    samples = noisy(3.0, seed=0)
    ratio = paired_ratio(samples, samples)
    assert (ratio.value, ratio.low, ratio.high) == (1.0, 1.0, 1.0)


def test_twice_the_latency_is_a_ratio_of_two() -> None:
    samples = noisy(3.0, seed=0)
    ratio = paired_ratio(2 * samples, samples)
    assert ratio.value == pytest.approx(2.0)
    assert ratio.low == pytest.approx(2.0)
    assert ratio.high == pytest.approx(2.0)


@pytest.mark.parametrize("true_ratio", [1.0, 1.05, 0.8])
def test_the_interval_contains_the_true_ratio_about_as_often_as_it_says(true_ratio: float) -> None:
    ratios = [paired_ratio(noisy(true_ratio, 2 * seed), noisy(1.0, 2 * seed + 1)) for seed in range(12)]
    assert all(ratio.low <= ratio.value <= ratio.high for ratio in ratios)
    assert sum(ratio.low <= true_ratio <= ratio.high for ratio in ratios) >= 10
    assert max(ratio.high - ratio.low for ratio in ratios) < 0.05


def test_more_rounds_narrow_the_interval() -> None:
    few = paired_ratio(noisy(1.1, 0, 50), noisy(1.0, 1, 50))
    many = paired_ratio(noisy(1.1, 0, 3200), noisy(1.0, 1, 3200))
    assert many.high - many.low < (few.high - few.low) / 4


def test_outliers_in_a_tenth_of_the_rounds_hardly_move_medians_and_ratio() -> None:
    clean = noisy(1.1, 0), noisy(1.0, 1)
    disturbed = [samples.copy() for samples in clean]
    for samples, seed in zip(disturbed, (2, 3), strict=True):
        samples[np.random.default_rng(seed).choice(len(samples), len(samples) // 10, replace=False)] *= 50
    before, after = paired_ratio(*clean), paired_ratio(*disturbed)
    assert after.value == pytest.approx(before.value, rel=0.01)
    assert after.high - after.low < 0.05
    assert summarise(disturbed[0]).median == pytest.approx(summarise(clean[0]).median, rel=0.01)
    assert summarise(disturbed[0]).mean > 2 * summarise(clean[0]).mean


def test_pairing_removes_a_drift_that_both_share() -> None:
    drift = np.linspace(1.0, 3.0, 400)  # the machine slows down threefold while it measures
    baseline, candidate = drift * noisy(1.0, 0, 400), drift * noisy(1.1, 1, 400)
    paired = paired_ratio(candidate, baseline)
    assert paired.low <= 1.1 <= paired.high
    shuffled = np.random.default_rng(2).permutation(candidate)
    unpaired = paired_ratio(shuffled, baseline)
    assert paired.high - paired.low < (unpaired.high - unpaired.low) / 3


def test_the_same_samples_give_the_same_interval() -> None:
    samples = noisy(1.1, 0), noisy(1.0, 1)
    assert paired_ratio(*samples) == paired_ratio(*samples)


def test_samples_of_different_lengths_are_not_paired() -> None:
    with pytest.raises(ValueError, match="same length"):
        paired_ratio(np.ones(3), np.ones(4))


@pytest.mark.parametrize(
    ("samples", "steady"),
    [
        ([], False),
        ([1.0] * 9, False),  # too few to tell
        ([1.0] * 10, True),
        ([1.0] * 5 + [1.04] * 5, True),
        ([1.0] * 5 + [1.06] * 5, False),
        ([1.06] * 5 + [1.0] * 5, False),
        ([9.0, 7.0, 5.0, 4.0, 3.0] + [2.0] * 5, False),  # still warming up
        ([9.0, 7.0, 5.0, 4.0, 3.0] + [2.0] * 10, True),  # and now no longer
        ([1.0, 1.0, 50.0, 1.0, 1.0, 1.0, 50.0, 1.0, 50.0, 1.0], True),  # outliers do not count
    ],
)
def test_samples_are_steady_when_the_last_two_medians_are_within_five_percent(
    samples: list[float], steady: bool
) -> None:
    assert is_steady(samples) is steady
