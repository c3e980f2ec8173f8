"""A saved run read back: what was written is there again, and what is damaged or foreign is refused with a sentence."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kdna_deploy.benchmark.cpu.cold_start import ColdStart
from kdna_deploy.benchmark.cpu.device import Cpu
from kdna_deploy.benchmark.cpu.findings import CpuFigures, CpuFindings
from kdna_deploy.benchmark.cpu.profile import Explanation, Profile
from kdna_deploy.benchmark.cpu.roofline import Kernel, Peak
from kdna_deploy.benchmark.device import BenchOptions
from kdna_deploy.benchmark.environment import Environment
from kdna_deploy.benchmark.protocol import Settings
from kdna_deploy.benchmark.result import BenchResult, Floor, Row
from kdna_deploy.benchmark.saved import SCHEMA_VERSION, SavedRun, check_comparable, incomparable, read_run
from kdna_deploy.benchmark.statistics import Ratio, Samples, summarise
from kdna_deploy.errors import ArtifactError, UsageError
from kdna_deploy.reports.bench_data import bench_data, written

MACHINE = Environment(
    cpu="AMD EPYC",
    flags=("avx2", "fma"),
    cores=2,
    memory_gib=15.6,
    governor=None,
    load=0.1,
    cgroup_cpus=None,
    cgroup_memory_gib=8.0,
    system="Linux 6.1",
    python="3.11.2",
    versions={"onnxruntime": "1.20.0", "torch": "2.9.0"},
)
COLD = ColdStart(import_ms=210.4, load_ms=88.1, first_ms=31.7, resident_bytes=143_200_000, peak_bytes=161_900_000)
PEAK = Peak(Kernel("1×1 convolutions of 256 channels at 28×28, onnxruntime 1.20.0", 81.25), (Kernel("other", 40.0),))
SETTINGS = Settings(iterations=36, min_time=0.5)


def samples(milliseconds: float, seed: int = 0, blocks: int = 3, rounds: int = 4) -> Samples:
    noise = 1 + np.random.default_rng(seed).gamma(2.0, 0.02, (blocks * rounds, 3))
    return Samples((milliseconds * noise).round(6), np.repeat(np.arange(blocks), rounds))


def measured(
    name: str,
    milliseconds: float = 10.0,
    runtime: str = "onnxruntime",
    share: float | None = 0.61,
    cold: ColdStart | None = COLD,
    **fields: Any,
) -> Row:
    """A row with samples of about so many milliseconds."""
    own = samples(milliseconds)
    row = Row(
        name=name,
        model=name,
        runtime=runtime,
        precision="fp32",
        figures=CpuFigures(share, cold),
        parameters=9_240_000,
        macs=2_277_000_000,
        runtime_version="onnxruntime 1.20.0",
        runtime_options={"intra_op_num_threads": 1, "execution_mode": "sequential"},
        file_bytes=45_100_000,
        latency=summarise(own.values),
        samples=own,
        image_shape=(3, 224, 224),
    )
    return replace(row, **fields)


def unavailable(name: str, reason: str = "OpenVINO is not installed; run: pip install", **fields: Any) -> Row:
    row = Row(
        name, name, "openvino", "fp32", CpuFigures(), parameters=9_240_000, macs=2_277_000_000, unavailable=reason
    )
    return replace(row, **fields)


def result_of(
    *rows: Row,
    cores: tuple[int, ...] = (1,),
    peak: Peak | None = PEAK,
    profiles: tuple[Profile, ...] = (),
    explanations: tuple[Explanation, ...] = (),
    **fields: Any,
) -> BenchResult:
    """A complete result of `rows`; the first is their baseline."""
    itself = Ratio(1.002, 0.99, 1.015)
    result = BenchResult(
        rows=rows,
        floors=(Floor(rows[0].name, itself, 0.015),),
        findings=CpuFindings(cores, peak, profiles, explanations),
        options=BenchOptions(Cpu(), settings=SETTINGS),
        environment=MACHINE,
        notes=("this machine is noisy",),
        partial=False,
    )
    return replace(result, **fields)


PAIR = result_of(
    measured("plain"), measured("net.onnx", 12.0, baseline="plain", ratio=Ratio(1.2, 1.18, 1.22, floor=0.015))
)


def save(result: BenchResult, folder: Path) -> Path:
    path = folder / "run.json"
    path.write_text(written(result, path), encoding="utf-8")
    return path


def changed(folder: Path, change: Callable[[dict[str, Any]], None], result: BenchResult = PAIR) -> Path:
    """A saved run after `change` to its document."""
    document = json.loads(json.dumps(bench_data(result)))
    change(document)
    path = folder / "changed.json"
    path.write_text(json.dumps(document), encoding="utf-8")
    return path


# Round trip


def test_names_samples_and_blocks_come_back_as_they_were(tmp_path: Path) -> None:
    run = read_run(save(PAIR, tmp_path))
    assert [(row.name, row.runtime) for row in run.rows] == [("plain", "onnxruntime"), ("net.onnx", "onnxruntime")]
    for saved, row in zip(run.rows, PAIR.rows, strict=True):
        assert saved.samples is not None
        assert row.samples is not None
        np.testing.assert_array_equal(saved.samples.values, row.samples.values)
        np.testing.assert_array_equal(saved.samples.blocks, row.samples.blocks)
        assert summarise(saved.samples.values) == row.latency


def test_options_machine_floors_and_peak_come_back_as_they_were(tmp_path: Path) -> None:
    path = save(PAIR, tmp_path)
    run = read_run(path)
    assert run.path == path
    assert run.options == PAIR.options.record
    assert run.machine == MACHINE.record
    assert run.floors == (0.015,)
    assert run.peak_gflops == 81.25


def test_a_row_comes_back_with_its_ratio(tmp_path: Path) -> None:
    plain, net = read_run(save(PAIR, tmp_path)).rows
    assert plain.ratio is None
    assert net.ratio is not None
    assert (net.ratio.baseline, net.ratio.value, net.ratio.paired) == ("plain", 1.2, True)
    assert net.ratio.low == pytest.approx(1.18 / 1.015)


def test_a_ratio_to_an_earlier_run_comes_back_as_one_that_is_not_paired(tmp_path: Path) -> None:
    """Two ratios of that kind must not be compared as if the drift between the runs were not in them."""
    ratio = Ratio(1.2, 1.18, 1.22, paired=False)
    result = result_of(measured("net.onnx"), measured("other.onnx", baseline="net.onnx in then.json", ratio=ratio))
    _, row = read_run(save(result, tmp_path)).rows
    assert row.ratio is not None
    assert (row.ratio.baseline, row.ratio.paired) == ("net.onnx in then.json", False)


def test_what_was_not_measured_comes_back_without_samples(tmp_path: Path) -> None:
    few = Floor("plain", Ratio(1.0, None, None), None)
    result = result_of(measured("plain"), unavailable("net.onnx", baseline="plain"), floors=(few,), peak=None)
    run = read_run(save(replace(result, partial=True), tmp_path))
    assert [row.samples is None for row in run.rows] == [False, True]
    assert run.floors == (None,)
    assert run.peak_gflops is None


def test_fields_that_a_later_version_adds_do_no_harm(tmp_path: Path) -> None:
    def add(document: dict[str, Any]) -> None:
        document["weather"] = "fine"
        document["rows"][0]["colour"] = "green"

    assert len(read_run(changed(tmp_path, add)).rows) == 2


# Damage


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"^There is no file '.*run\.json'\.$"):
        read_run(tmp_path / "run.json")


def test_a_folder_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="There is no file"):
        read_run(tmp_path)


@pytest.mark.parametrize(
    "content",
    [
        *(b"", b"no JSON", b'{"schema_version": 2, "kind": "bench"', b"\xff\xfe\x00", b"[]", b"3", b"null", b'"bench"'),
        *(b"{}", b'{"kind": "bench"}', b'{"schema_version": 2}', b'[{"kind": "bench"}]'),
    ],
)
def test_what_is_no_document_of_a_run_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "run.json"
    path.write_bytes(content)
    with pytest.raises(ArtifactError, match=r"^'.*run\.json' is not a run that `bench\(save=\.\.\.\)` wrote\.$"):
        read_run(path)


@pytest.mark.parametrize("kind", ["verify", "bench-comparison", None, 2])
def test_a_document_of_another_kind_is_refused(tmp_path: Path, kind: object) -> None:
    with pytest.raises(ArtifactError, match=r"changed\.json"):
        read_run(changed(tmp_path, lambda document: document.update(kind=kind)))


def test_a_document_of_another_kind_is_said_to_be_no_run(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"is not a run that `bench\(save=\.\.\.\)` wrote"):
        read_run(changed(tmp_path, lambda document: document.update(kind="verify")))


@pytest.mark.parametrize("version", [1, SCHEMA_VERSION + 1, "2", None])
def test_another_schema_is_refused_with_both_versions(tmp_path: Path, version: object) -> None:
    with pytest.raises(ArtifactError, match=rf"has schema {version}, and .* reads {SCHEMA_VERSION}; measure it again"):
        read_run(changed(tmp_path, lambda document: document.update(schema_version=version)))


def _without(*path: str | int) -> Callable[[dict[str, Any]], None]:
    """Removes the field at `path`."""

    def change(document: dict[str, Any]) -> None:
        inner: Any = document
        for step in path[:-1]:
            inner = inner[step]
        del inner[path[-1]]

    return change


def _with(value: object, *path: str | int) -> Callable[[dict[str, Any]], None]:
    """Puts `value` at `path`."""

    def change(document: dict[str, Any]) -> None:
        inner: Any = document
        for step in path[:-1]:
            inner = inner[step]
        inner[path[-1]] = value

    return change


DAMAGES = {
    "no rows": _without("rows"),
    "no options": _without("options"),
    "no environment": _without("environment"),
    "no floors": _without("noise_floors"),
    "no peak": _without("peak"),
    "no best kernel": _without("peak", "best"),
    "no rate": _without("peak", "best", "gflops"),
    "no value of a floor": _without("noise_floors", 0, "value"),
    "no name": _without("rows", 0, "name"),
    "an image shape in text": _with("224", "rows", 0, "image_shape"),
    "an image without height": _with([3, 0, 224], "rows", 1, "image_shape"),
    "no runtime": _without("rows", 1, "runtime"),
    "no samples": _without("rows", 1, "samples_ms"),
    "no blocks": _without("rows", 1, "blocks"),
    "rows are a number": _with(3, "rows"),
    "a row is text": _with("net.onnx", "rows", 0),
    "floors are null": _with(None, "noise_floors"),
    "fewer blocks than rounds": _with([0, 0], "rows", 0, "blocks"),
    "nested blocks": _with([[0]] * 12, "rows", 0, "blocks"),
    "blocks are text": _with(["a"] * 12, "rows", 0, "blocks"),
    "samples are text": _with([["fast"] * 3] * 12, "rows", 0, "samples_ms"),
    "rounds of unequal length": _with([[1.0, 2.0], [1.0]], "rows", 0, "samples_ms"),
    "samples without rounds": _with([1.0] * 12, "rows", 0, "samples_ms"),
    "samples are an object": _with({"first": 1.0}, "rows", 0, "samples_ms"),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_a_damaged_run_is_refused(tmp_path: Path, damage: Callable[[dict[str, Any]], None]) -> None:
    with pytest.raises(ArtifactError, match=r"^'.*changed\.json' is damaged; measure it again\.$"):
        read_run(changed(tmp_path, damage))


@pytest.mark.parametrize(
    "damage",
    [
        _without("rows", 1, "ratio", "low"),
        _with("large", "rows", 1, "ratio"),
        _with("large", "rows", 1, "ratio", "low"),
        _with(0.0, "rows", 1, "ratio", "value"),
        _with([], "environment"),
        _with(None, "options"),
        _with([[]] * 12, "rows", 0, "samples_ms"),
        _with([[None] * 3] * 12, "rows", 0, "samples_ms"),
        _with([10**30] * 12, "rows", 0, "blocks"),
    ],
    ids=[
        *("a ratio without an end", "a ratio is text", "an end is text", "a ratio of nought", "no machine"),
        *("no options", "rounds without runs", "runs without a time", "a block beyond all"),
    ],
)
def test_a_run_with_damage_that_only_a_comparison_meets_is_refused(
    tmp_path: Path, damage: Callable[[dict[str, Any]], None]
) -> None:
    with pytest.raises(ArtifactError, match="is damaged"):
        read_run(changed(tmp_path, damage))


# As a baseline


def saved_run(tmp_path: Path, result: BenchResult = PAIR) -> SavedRun:
    return read_run(save(result, tmp_path))


def test_a_row_is_found_by_name_and_runtime(tmp_path: Path) -> None:
    twice = result_of(measured("net.onnx", 10.0), measured("net.onnx", 8.0, runtime="openvino"))
    run = saved_run(tmp_path, twice)
    assert [run.row("net.onnx", name) for name in ("onnxruntime", "openvino")] == list(run.rows)


@pytest.mark.parametrize(
    ("name", "runtime"), [("other.onnx", "onnxruntime"), ("net.onnx", "pytorch"), ("unmeasured", "openvino")]
)
def test_a_model_that_the_run_did_not_measure_is_refused(tmp_path: Path, name: str, runtime: str) -> None:
    run = saved_run(tmp_path, result_of(*PAIR.rows, unavailable("unmeasured")))
    with pytest.raises(UsageError, match=rf"run\.json' did not measure {name} on {runtime}; it has plain, net\.onnx"):
        run.row(name, runtime)


def test_a_row_on_images_of_another_shape_is_refused(tmp_path: Path) -> None:
    run = saved_run(tmp_path)
    assert run.row("net.onnx", "onnxruntime", (3, 224, 224)) == run.row("net.onnx", "onnxruntime") == run.rows[1]
    with pytest.raises(UsageError) as refused:
        run.row("net.onnx", "onnxruntime", (3, 320, 256))
    assert str(refused.value) == (
        f"'{run.path}' measured net.onnx on images of 3×224×224, and not of 3×320×256; choose that size with "
        "`input_size`, or measure that run again."
    )


def test_a_run_that_was_saved_before_rows_told_the_shape_is_compared_as_before(tmp_path: Path) -> None:
    run = read_run(changed(tmp_path, _without("rows", 1, "image_shape")))
    assert run.row("net.onnx", "onnxruntime", (3, 320, 256)) == run.rows[1]
    assert [row.image_shape for row in run.rows] == [(3, 224, 224), ()]


def test_the_refusal_lists_only_what_was_measured(tmp_path: Path) -> None:
    run = saved_run(tmp_path, result_of(*PAIR.rows, unavailable("unmeasured")))
    with pytest.raises(UsageError, match=r"it has plain, net\.onnx\.$"):
        run.row("unmeasured", "openvino")


def test_the_same_machine_and_options_are_comparable(tmp_path: Path) -> None:
    run = saved_run(tmp_path)
    check_comparable(run, MACHINE.record, PAIR.options.record)
    assert incomparable(run, MACHINE.record, PAIR.options.record) == []


@pytest.mark.parametrize(
    "harmless",
    [
        {"load": 1.9},
        {"memory_gib": 31.2},
        {"python": "3.13.1"},
        {"system": "Linux 6.2"},
        {"versions": {"onnxruntime": "1.21.0"}},
    ],
)
def test_load_memory_and_versions_may_differ(tmp_path: Path, harmless: dict[str, Any]) -> None:
    check_comparable(saved_run(tmp_path), {**MACHINE.record, **harmless}, PAIR.options.record)


def test_how_long_was_measured_may_differ(tmp_path: Path) -> None:
    longer = replace(PAIR.options, settings=Settings(1000, 9.0), runtimes=("openvino",), baseline="pytorch")
    check_comparable(saved_run(tmp_path), MACHINE.record, longer.record)


@pytest.mark.parametrize(
    ("other", "told"),
    [
        ({"cpu": "Xeon"}, r"cpu \(AMD EPYC against Xeon\)"),
        ({"flags": ["avx2"]}, r"flags \(.*'fma'.* against \['avx2'\]\)"),
        ({"cores": 64}, r"cores \(2 against 64\)"),
        ({"governor": "powersave"}, r"governor \(None against powersave\)"),
        ({"cgroup_cpus": 0.5}, r"cgroup_cpus \(None against 0\.5\)"),
    ],
)
def test_another_machine_is_refused_with_what_differs(tmp_path: Path, other: dict[str, Any], told: str) -> None:
    with pytest.raises(UsageError, match=rf"run\.json' cannot be the baseline, for it differs .* in: {told}\.$"):
        check_comparable(saved_run(tmp_path), {**MACHINE.record, **other}, PAIR.options.record)


@pytest.mark.parametrize(
    ("other", "told"),
    [
        (BenchOptions(Cpu(threads=2)), r"threads \(1 against 2\)"),
        (BenchOptions(Cpu(), batch=8), r"batch \(1 against 8\)"),
        (BenchOptions(Cpu(), protocol="paper"), r"protocol \(interleaved against paper\)"),
    ],
)
def test_other_options_are_refused_with_what_differs(tmp_path: Path, other: BenchOptions, told: str) -> None:
    with pytest.raises(UsageError, match=rf"in: {told}\.$"):
        check_comparable(saved_run(tmp_path), MACHINE.record, other.record)


def test_everything_that_differs_is_named(tmp_path: Path) -> None:
    found = incomparable(
        saved_run(tmp_path), {**MACHINE.record, "cpu": "Xeon", "cores": 4}, BenchOptions(Cpu(), batch=2).record
    )
    assert found == ["cpu (AMD EPYC against Xeon)", "cores (2 against 4)", "batch (1 against 2)"]
