"""Throughput of several inferences at once: that they are at once, on real runtimes, beside the baseline."""

from __future__ import annotations

import itertools
import json
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from kdna_deploy.benchmark.cpu import streams
from kdna_deploy.benchmark.cpu.affinity import allowed_cores, pinned
from kdna_deploy.benchmark.cpu.device import Cpu
from kdna_deploy.benchmark.cpu.findings import CpuFigures, CpuFindings
from kdna_deploy.benchmark.cpu.streams import StreamsRunner, span_of
from kdna_deploy.benchmark.device import BenchOptions
from kdna_deploy.benchmark.protocol import RUNS, Settings
from kdna_deploy.benchmark.result import BenchResult
from kdna_deploy.benchmark.run import bench
from kdna_deploy.errors import InputError
from kdna_deploy.images.batch import Images
from kdna_deploy.reports.bench import bench_report
from kdna_deploy.reports.bench_data import bench_data
from kdna_deploy.runtimes.table import RUNTIMES, OnCpu, Source
from tests import warm_process
from tests.benchmark.cpu.test_affinity import TASKS, one_convolution
from tests.benchmark.heard import InterruptAt

IMAGE = np.ones((1, 3, 64, 64), np.float32)
INSTALLED = [name for name in ("onnxruntime", "openvino") if not RUNTIMES[name].missing]
FEW = Settings(iterations=RUNS, min_time=0.0)  # one round


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(3) as made:
        yield made


def test_every_stream_runs_at_once_and_a_span_has_as_many_inferences_as_it_says(pool: ThreadPoolExecutor) -> None:
    together = threading.Barrier(3)
    calls = itertools.count()

    def run(images: Images) -> Images:
        next(calls)
        together.wait(timeout=20)  # ends only when all three streams are within an inference
        return images

    runner = StreamsRunner([run] * 3, IMAGE, pool, span=6)
    turn = runner.turn()
    assert len(turn) == RUNS and next(calls) == 3 + RUNS * 6


def test_an_error_in_a_stream_ends_the_measurement(pool: ThreadPoolExecutor) -> None:
    def broken(images: Images) -> Images:
        raise InputError("out of order")

    with pytest.raises(InputError, match="out of order"):
        StreamsRunner([broken, lambda images: images], IMAGE, pool).warm_up()


@pytest.mark.parametrize(
    ("milliseconds", "number", "span"),
    [(100.0, 1, 1), (100.0, 4, 4), (10.0, 1, 5), (10.0, 2, 6), (1.0, 4, 52)],
)
def test_a_span_takes_50_ms_and_is_shared_out_evenly(milliseconds: float, number: int, span: int) -> None:
    assert span_of(milliseconds, number) == span


@pytest.mark.skipif(len(allowed_cores()) < 2, reason="needs two cores")
def test_streams_stay_on_the_cores_that_they_were_given(pool: ThreadPoolExecutor) -> None:
    seen: list[set[int]] = []

    def run(images: Images) -> Images:
        seen.append(os.sched_getaffinity(0))
        return images

    pool.submit(os.getpid).result()  # a thread that is there before
    with pinned(1) as cores:
        StreamsRunner([run] * 2, IMAGE, pool, cores, span=4).turn()
    assert seen and all(found == set(cores) for found in seen)


@pytest.mark.skipif("openvino" not in INSTALLED, reason="needs OpenVINO")
def test_openvinos_streams_answer_each_its_own_question(tmp_path: Path, pool: ThreadPoolExecutor) -> None:
    one_convolution(tmp_path / "net.onnx")
    rng = np.random.default_rng(0)
    asked = [rng.standard_normal(IMAGE.shape, dtype=np.float32) for _ in range(12)]
    source = Source(tmp_path / "net.onnx")
    with RUNTIMES["openvino"].prepare(source, OnCpu(2, streams=2))() as session:
        assert session.options["PERFORMANCE_HINT"] == "THROUGHPUT" and session.options["NUM_STREAMS"] == 2
        answers = list(pool.map(session.run, asked))
    with RUNTIMES["onnxruntime"].prepare(source, OnCpu())() as alone:
        for images, answer in zip(asked, answers, strict=True):
            assert np.allclose(answer, alone.run(images), rtol=1e-5, atol=1e-4)  # sums of 27 products in another order


@pytest.mark.slow
@pytest.mark.skipif("openvino" not in INSTALLED or len(allowed_cores()) < 2, reason="needs OpenVINO and two cores")
def test_openvinos_streams_have_all_their_cores_after_a_latency_on_one(tmp_path: Path) -> None:
    one_convolution(tmp_path / "net.onnx")
    with ProcessPoolExecutor(1, warm_process.context()) as fresh:
        cores, found = fresh.submit(_cores_of_streams, tmp_path / "net.onnx").result()
    assert len(cores) == 2 and set(found) == {cores}


def _cores_of_streams(path: Path) -> tuple[tuple[int, ...], list[tuple[int, ...]]]:
    """As a run does it: tried, then measured on one core, then streams; the cores of each thread that computed."""
    prepare, source = RUNTIMES["openvino"].prepare, Source(path)
    with Cpu(streams=2).trying() as cores, prepare(source, OnCpu())(cores) as session:
        session.run(IMAGE)
    allowed = allowed_cores()
    with pinned(1) as cores, prepare(source, OnCpu())(cores) as session:
        session.run(IMAGE)
        with pinned(2, allowed) as both, prepare(source, OnCpu(2, streams=2))(both) as several:
            begun = {task.name for task in TASKS.iterdir()}
            with ThreadPoolExecutor(2) as pool:
                StreamsRunner([several.run] * 2, IMAGE, pool, both, span=200).turn()
                own = [int(task.name) for task in TASKS.iterdir() if task.name not in begun]
                found = [tuple(sorted(os.sched_getaffinity(thread))) for thread in own]
    return both, found


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("streams")
    for name in ("net", "base"):
        one_convolution(folder / f"{name}.onnx", batch="n")
    return folder / "net.onnx", folder / "base.onnx"


def measured(files: tuple[Path, Path], number: int, *runtimes: str, batch: int = 1) -> BenchResult:
    options = BenchOptions(Cpu(streams=number), batch, tuple(runtimes), files[1], FEW)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(streams, "SPAN_MS", 1.0)
        return bench([files[0]], options)


@pytest.fixture(scope="module")
def result(files: tuple[Path, Path], short_bench: None) -> BenchResult:
    return measured(files, 2, *INSTALLED)


@pytest.mark.slow
def test_every_number_of_streams_and_every_batch_is_measured_beside_the_baseline(result: BenchResult) -> None:
    assert isinstance(result.findings, CpuFindings)
    found = result.findings.streams
    names = [f"{name}.onnx, {runtime}" for runtime in INSTALLED for name in ("base", "net")]
    names = [f"{name}.onnx" for name in ("base", "net")] if len(INSTALLED) == 1 else names
    grid = itertools.product((1, 2), (1, 8), names)
    assert [(one.streams, one.batch, one.name) for one in found] == list(grid)
    for one in found:
        assert one.images_per_second == pytest.approx(1000 * one.batch / np.median(one.samples.values))
        assert one.samples.values.shape == (1, RUNS)
    for base, net in zip(found[::2], found[1::2], strict=True):
        assert base.kept is None and net.kept is not None
        assert net.kept.value == pytest.approx(np.median(base.samples.values) / np.median(net.samples.values))
        assert (net.kept.low, net.floor) == (None, None)  # one round tells no interval
    row = next(row for row in result.rows if row.name == names[1])
    assert isinstance(row.figures, CpuFigures) and row.figures.streams
    assert (row.figures.streams.streams, row.figures.streams.batch) == (2, 8)
    assert row.figures.metrics["throughput"] == row.figures.streams.images_per_second


@pytest.mark.slow
def test_the_report_and_the_document_have_all_of_it(result: BenchResult) -> None:
    assert isinstance(result.findings, CpuFindings)
    text = str(bench_report(result).parts)
    assert "Throughput of streams" in text and "images/s" in text
    document = json.loads(json.dumps(bench_data(result)))["cpu_streams"]
    assert [one["throughput"] for one in document] == [one.images_per_second for one in result.findings.streams]
    fields = {"name", "streams", "batch", "throughput", "kept", "noise_floor", "samples_ms", "blocks"}
    assert set(document[0]) == fields | {"runtime_options"}


@pytest.mark.slow
@pytest.mark.usefixtures("short_bench")
def test_more_streams_than_cores_are_measured_and_said(files: tuple[Path, Path]) -> None:
    cores = len(allowed_cores()) or os.cpu_count() or 1
    found = measured(files, cores + 1, "onnxruntime", batch=2)
    assert isinstance(found.findings, CpuFindings)
    assert {one.streams for one in found.findings.streams} == {1, cores + 1}
    assert {one.batch for one in found.findings.streams} == {1, 2}  # the batch that was asked for in the place of 8
    assert [note for note in found.notes if note.startswith(f"{cores + 1} streams share {cores} cores")]


@pytest.mark.slow
@pytest.mark.usefixtures("short_bench")
def test_what_cannot_be_measured_is_said(files: tuple[Path, Path], tmp_path: Path) -> None:
    for name in ("net", "base"):
        one_convolution(tmp_path / f"{name}.onnx")  # of a fixed batch
    found = measured((tmp_path / "net.onnx", tmp_path / "base.onnx"), 1, "onnxruntime")
    assert isinstance(found.findings, CpuFindings)
    assert {one.batch for one in found.findings.streams} == {1}
    assert any(note.startswith("throughput of batch 8 is not measured of files that take") for note in found.notes)


@pytest.mark.slow
@pytest.mark.usefixtures("short_bench")
def test_files_with_stage_outputs_are_measured_too(tmp_path: Path) -> None:
    for name in ("net", "base"):
        one_convolution(tmp_path / f"{name}.onnx", batch="n", output="C2")
    found = measured((tmp_path / "net.onnx", tmp_path / "base.onnx"), 1, "onnxruntime")
    assert isinstance(found.findings, CpuFindings)
    assert [one.batch for one in found.findings.streams] == [1, 1, 8, 8]


@pytest.mark.slow
@pytest.mark.usefixtures("short_bench")
def test_what_goes_wrong_in_streams_keeps_the_latencies(
    files: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> Iterator[object]:
        raise InputError("out of memory")
        yield

    monkeypatch.setattr("kdna_deploy.benchmark.cpu.device.measure_streams", fails)
    found = measured(files, 1, "onnxruntime")
    assert not found.partial and all(row.latency for row in found.rows)
    assert "out of memory" in found.notes


@pytest.mark.slow
@pytest.mark.usefixtures("short_bench")
def test_an_interruption_keeps_the_latencies(files: tuple[Path, Path]) -> None:
    options = BenchOptions(Cpu(streams=1), baseline=files[1], settings=FEW)
    found = bench([files[0]], options, InterruptAt("1 stream, batch 1"))
    assert found.partial and all(row.latency for row in found.rows)
