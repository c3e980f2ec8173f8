"""Statistics on samples whose answer is known: ratios, intervals, noise floors and verdicts."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdna_deploy.benchmark import statistics
from kdna_deploy.benchmark.statistics import (
    FEWEST_ROUNDS,
    Ratio,
    Samples,
    is_steady,
    noise_floor,
    paired_ratio,
    summarise,
    unpaired_ratio,
)

RUNS = 3


def blocks_of(blocks: int, rounds: int) -> np.ndarray:
    """The block of each round."""
    return np.repeat(np.arange(blocks), rounds)


def constant(milliseconds: float, rounds: int) -> Samples:
    return Samples(np.full((rounds, RUNS), milliseconds), blocks_of(1, rounds))


def noisy(scale: float, seed: int, blocks: int = 5, rounds: int = 12, placement: float = 0.0) -> Samples:
    """Latencies of about `scale` milliseconds, skewed like real ones; a block's sessions add `placement`, relative."""
    random = np.random.default_rng(seed)
    of_block = blocks_of(blocks, rounds)
    noise = 1 + random.gamma(2.0, 0.02, (blocks * rounds, RUNS))
    effect = np.exp(placement * random.standard_normal(blocks))[of_block]
    return Samples(scale * effect[:, None] * noise, of_block)


def scaled(samples: Samples, factor: float | np.ndarray) -> Samples:
    """Every round of `samples` times a factor of its own, or a common one."""
    return replace(samples, values=samples.values * np.reshape(factor, (-1, 1)))


def disturbed(samples: Samples, seed: int, part: float = 0.1, factor: float = 50.0) -> Samples:
    """With a part of the rounds much slower."""
    hit = np.random.default_rng(seed).choice(samples.rounds, round(part * samples.rounds), replace=False)
    slow = np.ones(samples.rounds)
    slow[hit] = factor
    return scaled(samples, slow)


def without_blocks(samples: Samples) -> Samples:
    """As if every round had had sessions of its own, so that rounds pass for independent."""
    return replace(samples, blocks=np.arange(samples.rounds))


def width(ratio: Ratio) -> float:
    assert ratio.low is not None
    assert ratio.high is not None
    return ratio.high - ratio.low


def contains(ratio: Ratio, value: float) -> bool:
    assert ratio.interval is not None
    low, high = ratio.interval
    return low <= value <= high


# Summaries


def test_a_summary_of_one_to_ten_is_known() -> None:
    summary = summarise(np.arange(10.0, 0.0, -1.0).reshape(5, 2))
    assert summary.median == 5.5
    assert summary.mean == 5.5
    assert summary.p90 == pytest.approx(9.1)
    assert summary.p99 == pytest.approx(9.91)
    assert summary.minimum == 1.0
    assert summary.runs == 10


def test_the_tail_of_nought_to_a_hundred_is_its_percentiles() -> None:
    summary = summarise(np.random.default_rng(0).permutation(np.arange(101.0)))
    assert (summary.minimum, summary.median, summary.p90, summary.p99) == (0.0, 50.0, 90.0, 99.0)


def test_one_outlier_moves_the_mean_and_the_tail_and_not_the_median() -> None:
    summary = summarise(np.array([1.0] * 99 + [1001.0]))
    assert summary.median == 1.0
    assert summary.mean == 11.0
    assert summary.p90 == 1.0
    assert summary.p99 > 1.0


# Paired ratios


def test_equal_samples_have_a_ratio_of_exactly_one_and_nothing_can_be_told() -> None:
    samples = noisy(3.0, seed=0)
    ratio = paired_ratio(samples, samples)
    assert (ratio.value, ratio.low, ratio.high) == (1.0, 1.0, 1.0)
    assert ratio.verdict == "cannot tell"


@pytest.mark.parametrize(("factor", "verdict"), [(2.0, "slower"), (0.5, "faster")])
def test_a_constant_factor_is_the_ratio_and_both_ends_of_its_interval(factor: float, verdict: str) -> None:
    samples = noisy(3.0, seed=0)
    ratio = paired_ratio(scaled(samples, factor), samples)
    assert [ratio.value, ratio.low, ratio.high] == pytest.approx([factor] * 3)
    assert ratio.verdict == verdict


@pytest.mark.parametrize("seed", range(4))
def test_equal_distributions_cannot_be_told_apart(seed: int) -> None:
    ratio = paired_ratio(noisy(3.0, 2 * seed), noisy(3.0, 2 * seed + 1))
    assert ratio.value == pytest.approx(1.0, abs=0.01)
    assert contains(ratio, 1.0)
    assert ratio.verdict == "cannot tell"


@pytest.mark.slow
@pytest.mark.parametrize(("true_ratio", "placement"), [(1.0, 0.0), (1.05, 0.02), (0.8, 0.01)])
def test_the_interval_contains_the_true_ratio_about_as_often_as_it_says(
    true_ratio: float, placement: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(statistics, "_RESAMPLES", 300)
    ratios = [
        paired_ratio(
            noisy(true_ratio, 2 * seed, 10, 4, placement),
            noisy(1.0, 2 * seed + 1, 10, 4, placement),
        )
        for seed in range(40)
    ]
    assert all(ratio.low <= ratio.value <= ratio.high for ratio in ratios)
    assert sum(contains(ratio, true_ratio) for ratio in ratios) >= 35  # 38 are to be expected
    assert max(map(width, ratios)) < 0.05 + 3 * placement  # and not by being wide


@pytest.mark.slow
def test_more_rounds_narrow_the_interval() -> None:
    few = paired_ratio(noisy(1.1, 0, 5, 8), noisy(1.0, 1, 5, 8))
    many = paired_ratio(noisy(1.1, 0, 5, 320), noisy(1.0, 1, 5, 320))
    assert width(many) < width(few) / 3


@pytest.mark.slow
def test_one_session_that_lies_badly_widens_the_interval() -> None:
    candidate, baseline = noisy(1.1, 0, placement=0.05), noisy(1.0, 1)
    blocks = paired_ratio(candidate, baseline)
    independent = paired_ratio(without_blocks(candidate), without_blocks(baseline))
    assert blocks.value == independent.value
    assert width(blocks) > 3 * width(independent)


def test_rounds_of_the_only_block_are_resampled_too() -> None:
    ratio = paired_ratio(noisy(1.1, 0, 1, 40), noisy(1.0, 1, 1, 40))
    assert 0.001 < width(ratio) < 0.05


def test_blocks_of_unequal_length_count_by_their_rounds() -> None:
    blocks = np.array([0] * 30 + [1] * 10)
    turns = np.where(blocks == 0, 1.0, 2.0)[:, None] * np.ones(RUNS)
    ratio = paired_ratio(Samples(turns, blocks), Samples(np.ones_like(turns), blocks))
    assert (ratio.value, ratio.low, ratio.high) == (1.0, 1.0, 2.0)


@pytest.mark.slow
def test_outliers_in_a_tenth_of_the_rounds_hardly_move_the_ratio() -> None:
    clean = noisy(1.1, 0), noisy(1.0, 1)
    after = paired_ratio(disturbed(clean[0], 2), disturbed(clean[1], 3))
    assert after.value == pytest.approx(paired_ratio(*clean).value, rel=0.01)
    assert width(after) < 0.05
    by_means = paired_ratio(disturbed(clean[0], 2), clean[1], statistic="mean")
    assert by_means.value > 2


def test_one_run_out_of_three_that_is_disturbed_leaves_the_turn_alone() -> None:
    values = np.tile([1.0, 50.0, 1.0], (12, 1))
    assert paired_ratio(Samples(values, blocks_of(1, 12)), constant(1.0, 12)).value == 1.0


@pytest.mark.slow
def test_a_slowing_clock_leaves_the_paired_ratio_alone_and_moves_a_quotient_of_medians() -> None:
    half = 50
    clock = np.repeat([1.0, 1.3], half)  # 30 % slower from half-time on
    baseline = scaled(constant(1.0, 2 * half), clock)
    hiccups = np.ones(2 * half)
    hiccups[:5] = 3.0  # a few disturbed rounds push the candidate's overall median into the slow half
    candidate = scaled(baseline, 1.1 * hiccups)
    paired = paired_ratio(candidate, baseline)
    assert paired.value == pytest.approx(1.1)
    assert [paired.low, paired.high] == pytest.approx([1.1, 1.1])
    assert unpaired_ratio(candidate, baseline).value > 1.2


@pytest.mark.slow
def test_pairing_takes_a_common_drift_out_of_the_interval() -> None:
    drift = np.linspace(1.0, 1.3, 60)
    candidate, baseline = scaled(noisy(1.1, 0), drift), scaled(noisy(1.0, 1), drift)
    paired = paired_ratio(candidate, baseline)
    assert contains(paired, 1.1)
    assert width(paired) < width(unpaired_ratio(candidate, baseline)) / 3


@pytest.mark.slow
def test_the_same_samples_give_the_same_interval() -> None:
    samples = noisy(1.1, 0), noisy(1.0, 1)
    assert paired_ratio(*samples) == paired_ratio(*samples)
    assert paired_ratio(*samples) != paired_ratio(*samples, seed=1)


def test_too_few_rounds_have_a_ratio_without_an_interval() -> None:
    few = FEWEST_ROUNDS - 1
    ratio = paired_ratio(constant(2.0, few), constant(1.0, few))
    assert ratio.value == 2.0
    assert (ratio.low, ratio.high, ratio.interval) == (None, None, None)
    assert ratio.verdict == "cannot tell"
    assert paired_ratio(constant(2.0, FEWEST_ROUNDS), constant(1.0, FEWEST_ROUNDS)).verdict == "slower"


@pytest.mark.parametrize(
    "baseline", [constant(1.0, 11), Samples(np.ones((12, RUNS)), blocks_of(2, 6))], ids=["fewer", "other blocks"]
)
def test_samples_of_different_rounds_are_not_paired(baseline: Samples) -> None:
    with pytest.raises(ValueError, match="same rounds"):
        paired_ratio(constant(1.0, 12), baseline)


def test_the_mean_statistic_is_the_quotient_of_the_means_over_all_runs() -> None:
    values = np.tile([1.0, 1.0, 7.0], (12, 1))
    candidate, baseline = Samples(values, blocks_of(1, 12)), constant(2.0, 12)
    ratio = paired_ratio(candidate, baseline, statistic="mean")
    assert [ratio.value, ratio.low, ratio.high] == pytest.approx([1.5] * 3)
    assert paired_ratio(candidate, baseline).value == 0.5


def test_the_mean_statistic_is_no_mean_of_quotients() -> None:
    candidate, baseline = constant(3.0, 12), scaled(constant(1.0, 12), np.tile([1.0, 3.0], 6))
    assert paired_ratio(candidate, baseline, statistic="mean").value == 1.5  # of quotients it would be 2


def test_means_are_taken_over_the_same_resampled_rounds() -> None:
    drift = np.linspace(1.0, 3.0, 40)
    candidate, baseline = scaled(constant(1.1, 40), drift), scaled(constant(1.0, 40), drift)
    ratio = paired_ratio(candidate, baseline, statistic="mean")
    assert [ratio.value, ratio.low, ratio.high] == pytest.approx([1.1] * 3)


@given(st.floats(0.1, 10), st.floats(0.1, 10), st.integers(1, FEWEST_ROUNDS - 1), st.integers(0, 99))
def test_the_ratio_scales_with_the_candidate_and_inversely_with_the_baseline(
    one: float, other: float, rounds: int, seed: int
) -> None:
    candidate, baseline = noisy(1.0, seed, 1, rounds), noisy(1.0, seed + 1, 1, rounds)
    plain = paired_ratio(candidate, baseline).value
    assert paired_ratio(scaled(candidate, one), scaled(baseline, other)).value == pytest.approx(plain * one / other)


# Samples of two runs


def test_samples_of_two_runs_are_compared_by_their_medians_without_a_verdict() -> None:
    ratio = unpaired_ratio(constant(3.0, 20), constant(2.0, 12))
    assert (ratio.value, ratio.low, ratio.high) == (1.5, 1.5, 1.5)
    assert not ratio.paired
    assert ratio.verdict == "other run"


@pytest.mark.slow
def test_the_interval_of_two_runs_holds_the_spread_of_both() -> None:
    samples = noisy(1.0, 0)
    steady = constant(float(np.median(samples.values)), samples.rounds)
    both, one, other = (unpaired_ratio(*pair) for pair in ((samples, samples), (samples, steady), (steady, samples)))
    assert both.value == one.value == other.value == 1.0
    assert width(one) > 0.01
    assert width(other) > 0.01
    assert width(both) > 1.2 * max(width(one), width(other))  # each is resampled by itself
    assert both == unpaired_ratio(samples, samples)


def test_two_runs_are_compared_by_means_when_asked_to() -> None:
    values = np.tile([1.0, 1.0, 7.0], (12, 1))
    ratio = unpaired_ratio(Samples(values, blocks_of(1, 12)), constant(2.0, 15), statistic="mean")
    assert [ratio.value, ratio.low, ratio.high] == pytest.approx([1.5] * 3)


@pytest.mark.parametrize(("one", "other"), [(FEWEST_ROUNDS - 1, 50), (50, FEWEST_ROUNDS - 1)])
def test_the_shorter_of_two_runs_decides_whether_there_is_an_interval(one: int, other: int) -> None:
    ratio = unpaired_ratio(constant(3.0, one), constant(2.0, other), floor=0.1)
    assert ratio.interval is None
    assert ratio.floor == 0.1
    assert ratio.verdict == "other run"


# The noise floor and verdicts


@pytest.mark.parametrize(
    ("low", "high", "floor"),
    [(0.98, 1.03, 0.03), (0.95, 1.02, 1 / 0.95 - 1), (1.02, 1.04, 0.04), (0.8, 0.9, 0.25), (1.0, 1.0, 0.0)],
)
def test_the_noise_floor_is_how_far_the_interval_reaches_from_one(low: float, high: float, floor: float) -> None:
    assert noise_floor(Ratio(1.0, low, high)) == pytest.approx(floor)


def test_the_noise_floor_is_not_known_without_an_interval() -> None:
    assert noise_floor(Ratio(1.2, None, None)) is None


def test_the_floor_widens_the_interval_on_both_sides_and_leaves_the_bootstrap_alone() -> None:
    ratio = Ratio(1.2, 1.1, 1.3, floor=0.05)
    assert ratio.interval == pytest.approx((1.1 / 1.05, 1.3 * 1.05))
    assert (ratio.low, ratio.high) == (1.1, 1.3)
    assert Ratio(1.2, 1.1, 1.3).interval == (1.1, 1.3)


@pytest.mark.parametrize("compare", [paired_ratio, unpaired_ratio])
def test_a_comparison_carries_the_floor_into_its_interval(compare: object) -> None:
    assert callable(compare)
    ratio = compare(constant(1.2, 12), constant(1.0, 12), 0.25)
    assert ratio.floor == 0.25
    assert [ratio.low, ratio.high] == pytest.approx([1.2, 1.2])
    assert ratio.interval == pytest.approx((1.2 / 1.25, 1.2 * 1.25))


@pytest.mark.parametrize(
    ("low", "high", "floor", "verdict"),
    [
        (1.01, 1.2, 0.0, "slower"),
        (0.8, 0.99, 0.0, "faster"),
        (0.9, 1.1, 0.0, "cannot tell"),
        (1.0, 1.2, 0.0, "cannot tell"),
        (0.8, 1.0, 0.0, "cannot tell"),
        (1.01, 1.2, 0.02, "cannot tell"),  # it is no more than a baseline differs from itself
        (0.8, 0.99, 0.02, "cannot tell"),
        (1.05, 1.2, 0.02, "slower"),
        (0.8, 0.95, 0.02, "faster"),
    ],
)
def test_the_verdict_tells_only_what_lies_beyond_the_widened_interval(
    low: float, high: float, floor: float, verdict: str
) -> None:
    assert Ratio((low * high) ** 0.5, low, high, floor).verdict == verdict


def test_a_ratio_to_another_run_has_no_verdict_however_large() -> None:
    assert Ratio(9.0, 8.0, 10.0, paired=False).verdict == "other run"


intervals = st.tuples(st.floats(0.2, 5.0), st.floats(0.2, 5.0)).map(sorted)


@given(intervals)
def test_a_baseline_differs_from_itself_by_no_more_than_its_own_floor(ends: list[float]) -> None:
    low, high = ends
    floor = noise_floor(Ratio(math.sqrt(low * high), low, high))
    assert floor is not None
    widened = Ratio(math.sqrt(low * high), low, high, floor * (1 + 1e-9))
    assert widened.verdict == "cannot tell"


@given(intervals, st.floats(0.0, 1.0))
def test_the_verdict_on_a_reciprocal_is_the_opposite(ends: list[float], floor: float) -> None:
    low, high = ends
    opposite = {"slower": "faster", "faster": "slower", "cannot tell": "cannot tell"}
    one = Ratio(math.sqrt(low * high), low, high, floor)
    other = Ratio(1 / one.value, 1 / high, 1 / low, floor)
    on_edge = any(math.isclose(end, 1.0) for end in one.interval or ())
    assert on_edge or other.verdict == opposite[one.verdict]


# Warm-up


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


def test_window_and_tolerance_of_steadiness_can_be_chosen() -> None:
    assert is_steady([1.0, 1.0, 1.2, 1.2], window=2, tolerance=0.2 + 1e-9)
    assert not is_steady([1.0, 1.0, 1.2, 1.2], window=2, tolerance=0.19)
