"""Two runs side by side: the change of a ratio, its interval and its verdict, from figures that are known."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdna_deploy.benchmark.compare import ComparedRow, Comparison, compare_runs
from kdna_deploy.benchmark.cpu.device import Cpu
from kdna_deploy.benchmark.device import BenchOptions
from kdna_deploy.benchmark.saved import SavedRatio, SavedRow, SavedRun, read_run
from kdna_deploy.benchmark.statistics import Estimate, Ratio, Samples, summarise
from tests.benchmark.test_saved import MACHINE, measured, result_of, samples, save, unavailable

Ends = tuple[float, float | None, float | None]


def saved_row(
    name: str, ratio: Ends | None = None, runtime: str = "onnxruntime", own: Samples | None = None
) -> SavedRow:
    return SavedRow(name, name, runtime, own or samples(10.0), to_plain(*ratio) if ratio else None)


def to_plain(value: float, low: float | None, high: float | None) -> SavedRatio:
    return SavedRatio("plain", value, low, high, paired=True)


def run_of(*rows: SavedRow, name: str = "run.json", **machine: Any) -> SavedRun:
    return SavedRun(Path(name), rows, BenchOptions(Cpu()).record, {**MACHINE.record, **machine}, (0.01,), 80.0)


def compared(first: Ends | None, second: Ends | None) -> ComparedRow:
    """The row of a model with these ratios in two runs."""
    (row,) = compare_runs(run_of(saved_row("net", first)), run_of(saved_row("net", second))).rows
    return row


def change(first: Ends, second: Ends) -> Estimate:
    found = compared(first, second).change
    assert found is not None
    return found


# The change and its interval


def test_the_change_is_the_quotient_of_the_two_ratios() -> None:
    row = compared((1.2, 1.1, 1.3), (1.5, 1.4, 1.6))
    assert row.first_ratio == to_plain(1.2, 1.1, 1.3)
    assert row.second_ratio == to_plain(1.5, 1.4, 1.6)
    assert row.change is not None
    assert row.change.value == pytest.approx(1.25)


def test_the_interval_adds_the_errors_of_the_logarithms_as_independent() -> None:
    found = change(
        (1.2, 1.2 * math.exp(-0.03), 1.2 * math.exp(0.05)), (1.5, 1.5 * math.exp(-0.12), 1.5 * math.exp(0.04))
    )
    assert found.low == pytest.approx(1.25 * math.exp(-0.13))  # 5, 12, 13: B's lower end with A's upper
    assert found.high == pytest.approx(1.25 * math.exp(0.05))  # 3, 4, 5: B's upper end with A's lower


def test_exact_ratios_have_an_exact_change() -> None:
    assert change((1.2, 1.2, 1.2), (1.2, 1.2, 1.2)) == Estimate(1.0, 1.0, 1.0)


@pytest.mark.parametrize("missing", [(1.2, None, None), (1.2, 1.1, None), (1.2, None, 1.3)])
def test_a_ratio_without_an_interval_leaves_the_change_without_one(missing: Ends) -> None:
    known: Ends = (1.5, 1.4, 1.6)
    assert change(missing, known) == Estimate(pytest.approx(1.25), None, None)
    assert change(known, missing) == Estimate(pytest.approx(0.8), None, None)


def _interval(values: tuple[float, float, float]) -> tuple[float, float, float]:
    low, value, high = sorted(values)
    return value, low, high


estimates = st.tuples(*[st.floats(0.5, 2.0)] * 3).map(_interval)


@pytest.mark.slow
@given(estimates, estimates)
def test_the_interval_holds_the_change_and_is_no_narrower_than_that_of_either_ratio(first: Ends, second: Ends) -> None:
    found = change(first, second)
    assert found.low is not None
    assert found.high is not None
    assert found.low <= found.value * (1 + 1e-9)
    assert found.value <= found.high * (1 + 1e-9)
    for _, low, high in (first, second):
        assert low is not None
        assert high is not None
        assert found.high / found.low >= high / low * (1 - 1e-9)


@pytest.mark.slow
@given(estimates, estimates)
def test_exchanging_the_runs_turns_the_change_round(first: Ends, second: Ends) -> None:
    there, back = change(first, second), change(second, first)
    assert there.low is not None
    assert there.high is not None
    assert [back.value, back.low, back.high] == pytest.approx([1 / there.value, 1 / there.high, 1 / there.low])


# Verdicts


@pytest.mark.parametrize(
    ("first", "second", "verdict"),
    [
        ((1.2, 1.19, 1.21), (1.5, 1.49, 1.51), "slower"),
        ((1.5, 1.49, 1.51), (1.2, 1.19, 1.21), "faster"),
        ((1.2, 1.19, 1.21), (1.2, 1.19, 1.21), "cannot tell"),
        ((1.2, 1.0, 1.4), (1.3, 1.1, 1.5), "cannot tell"),
        ((1.2, 1.2, 1.2), (1.2, 1.2, 1.2), "cannot tell"),
        ((1.2, None, None), (1.5, 1.49, 1.51), "cannot tell"),
        (None, (1.5, 1.49, 1.51), "other baseline"),
        (None, None, "baseline"),
    ],
)
def test_a_verdict_follows_from_the_interval_of_the_change(
    first: Ends | None, second: Ends | None, verdict: str
) -> None:
    assert compared(first, second).verdict == verdict


def test_latencies_are_shown_and_judged_by_nobody() -> None:
    quick, slow = samples(10.0), samples(30.0)
    ratio: Ends = (1.2, 1.19, 1.21)
    comparison = compare_runs(run_of(saved_row("net", ratio, own=quick)), run_of(saved_row("net", ratio, own=slow)))
    (row,) = comparison.rows
    assert (row.first, row.second) == (summarise(quick.values), summarise(slow.values))
    assert row.verdict == "cannot tell"


# Rows


def test_models_are_matched_by_name_and_runtime_in_the_order_in_which_they_are_met() -> None:
    first = run_of(saved_row("plain"), saved_row("net", (1.2, 1.1, 1.3)), saved_row("old", (1.2, 1.1, 1.3)))
    second = run_of(
        saved_row("new", (1.2, 1.1, 1.3)),
        saved_row("net", (1.2, 1.1, 1.3), runtime="openvino"),
        saved_row("net", (1.5, 1.4, 1.6)),
        saved_row("plain"),
    )
    rows = compare_runs(first, second).rows
    assert [(row.model, row.runtime, row.verdict) for row in rows] == [
        ("plain", "onnxruntime", "baseline"),
        ("net", "onnxruntime", "slower"),
        ("old", "onnxruntime", "only in one"),
        ("new", "onnxruntime", "only in one"),
        ("net", "openvino", "only in one"),
    ]
    assert rows[2].second is None
    assert rows[3].first is None
    assert rows[3].change is None


def test_a_model_that_one_run_could_not_measure_is_only_in_the_other() -> None:
    missing = replace(saved_row("net"), samples=None)
    (row,) = compare_runs(run_of(missing), run_of(saved_row("net", (1.5, 1.4, 1.6)))).rows
    assert row.first is None
    assert row.second is not None
    assert row.verdict == "only in one"


# Machines and options


def test_runs_of_one_machine_with_the_same_options_have_no_differences() -> None:
    first, second = run_of(saved_row("net"), name="a.json"), run_of(saved_row("net"), name="b.json", load=1.5)
    comparison = compare_runs(first, second)
    assert comparison.differences == ()
    assert (comparison.first, comparison.second) == (first, second)


def test_what_differs_between_machines_and_options_is_listed() -> None:
    second = replace(run_of(saved_row("net"), cpu="Xeon"), options=BenchOptions(Cpu(threads=4)).record)
    comparison = compare_runs(run_of(saved_row("net")), second)
    assert comparison.differences == ("cpu (AMD EPYC against Xeon)", "threads (1 against 4)")


def test_models_on_images_of_other_shapes_are_listed_and_not_judged() -> None:
    slow, fast = (to_plain(value, value - 0.01, value + 0.01) for value in (1.5, 1.2))
    row = replace(saved_row("net"), image_shape=(3, 64, 64))
    first = run_of(*(replace(row, runtime=name, ratio=fast) for name in ("onnxruntime", "pt2")), saved_row("old"))
    larger = replace(row, ratio=slow, image_shape=(3, 96, 64))
    found = compare_runs(first, run_of(*(replace(larger, runtime=one.runtime) for one in first.rows[:2])))
    assert found.differences == ("images of net (3×64×64 against 3×96×64)",)
    assert [(one.verdict, one.change) for one in found.rows[:2]] == [("other baseline", None)] * 2
    # A run that was saved before rows told it.
    (known, *_) = compare_runs(first, run_of(replace(larger, image_shape=()))).rows
    assert known.verdict == "slower"


# From files


def _from_files(folder: Path, first: Ratio | None, second: Ratio | None) -> Comparison:
    runs = []
    for name, ratio in (("a", first), ("b", second)):
        net = measured("net.onnx", 12.0, baseline="plain", ratio=ratio) if ratio else unavailable("net.onnx")
        (folder / name).mkdir()
        runs.append(read_run(save(result_of(measured("plain"), net), folder / name)))
    return compare_runs(*runs)


def test_the_ratios_of_saved_runs_are_compared_with_their_noise_floors(tmp_path: Path) -> None:
    _, net = _from_files(tmp_path, Ratio(1.2, 1.2, 1.2, floor=0.03), Ratio(1.5, 1.5, 1.5, floor=0.04)).rows
    assert net.change is not None
    reach = math.hypot(math.log(1.03), math.log(1.04))
    assert [net.change.value, net.change.low, net.change.high] == pytest.approx(
        [1.25, 1.25 * math.exp(-reach), 1.25 * math.exp(reach)]
    )
    assert net.verdict == "slower"


def test_saved_runs_of_too_few_rounds_tell_nothing(tmp_path: Path) -> None:
    plain, net = _from_files(tmp_path, Ratio(1.2, None, None), Ratio(1.5, 1.4, 1.6)).rows
    assert plain.verdict == "baseline"
    assert net.change == Estimate(pytest.approx(1.25), None, None)
    assert net.verdict == "cannot tell"


def test_ratios_that_were_taken_to_another_run_are_not_judged(tmp_path: Path) -> None:
    slow, fast = (Ratio(value, value - 0.01, value + 0.01, paired=False) for value in (1.5, 1.2))
    _, net = _from_files(tmp_path, fast, slow).rows
    assert net.verdict not in ("slower", "faster")


def test_ratios_to_different_baselines_are_not_judged(tmp_path: Path) -> None:
    runs = []
    for name, value in (("plain", 1.2), ("other.onnx", 1.5)):
        (tmp_path / name).mkdir()
        net = measured("net.onnx", 12.0, baseline=name, ratio=Ratio(value, value - 0.01, value + 0.01))
        runs.append(read_run(save(result_of(measured(name), net), tmp_path / name)))
    found = compare_runs(*runs)
    assert found.rows[1].model == "net.onnx"
    assert found.differences or found.rows[1].verdict not in ("slower", "faster")
