"""From groups to rows: measured on real sessions whose device is the CPU, and on a GPU from a checkpoint on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from kdna_deploy.bench.cpu.latency import LatencySettings
from kdna_deploy.bench.gpu import throughput
from kdna_deploy.bench.gpu.files import EngineAlone, Reports
from kdna_deploy.bench.gpu.plan import GpuCandidate, GpuGroup, GpuOptions
from kdna_deploy.bench.gpu.run import bench_gpu, measure
from kdna_deploy.bench.saved import read_run
from kdna_deploy.bench.statistics import FEWEST_ROUNDS, paired_ratio
from kdna_deploy.bench.subject import Subject
from kdna_deploy.errors import ArtifactError, RuntimeFailure, UsageError
from kdna_deploy.reports.gpu_data import written
from kdna_deploy.runtimes.nvidia.gpu import Gpu
from kdna_deploy.runtimes.session import DeviceSession
from tests.bench.gpu.on_host import SHAPE, OnHost, write_network
from tests.gpu import no_gpu
from tests.samples import RESNET, sample_path

GPU = Gpu("the host", "0.0")
OPTIONS = GpuOptions(batch=2, settings=LatencySettings(iterations=30, min_time=0.0))


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(throughput, "SPAN_MS", 2.0)
    monkeypatch.setattr(throughput, "WARM_UP_S", 0.01)


def subject(name: str) -> Subject:
    return Subject(name, 1000, 2000, SHAPE, "fused", EngineAlone(Path(name)))


def on_host(name: str, path: Path, opener: Callable[[], DeviceSession] | None = None) -> GpuCandidate:
    opened = opener or (lambda: OnHost(path))
    return GpuCandidate(subject(name), "pytorch-cuda", "fp32", opened, file_bytes=path.stat().st_size)


def unavailable(name: str) -> GpuCandidate:
    return GpuCandidate(subject(name), "tensorrt", "fp32", unavailable="TensorRT is not installed; run: pip install it")


@pytest.fixture
def group(tmp_path: Path) -> GpuGroup:
    plain, net = write_network(tmp_path / "plain.onnx", 1), write_network(tmp_path / "net.onnx", 8)
    return GpuGroup((on_host("plain", plain), on_host("net", net)))


def test_a_group_gives_rows_a_ratio_and_a_noise_floor(group: GpuGroup, tmp_path: Path) -> None:
    fractions: list[float] = []
    steps: list[str] = []
    result = measure([group], OPTIONS, GPU, Reports(steps.append, fractions.append))
    plain, net = result.rows
    assert not result.partial
    assert (plain.name, net.name) == ("plain, pytorch-cuda, fp32", "net, pytorch-cuda, fp32")
    assert plain.baseline is plain.ratio is plain.kept is None
    assert net.baseline == plain.name
    assert plain.spans is not None and net.spans is not None and plain.spans.rounds >= FEWEST_ROUNDS
    (floor,) = result.floors
    assert floor.value is not None
    assert net.ratio == paired_ratio(net.spans, plain.spans, floor.value)
    assert net.kept is not None and net.kept.value < 1
    assert plain.throughput == pytest.approx(2000 / np.median(plain.spans.values))
    assert steps == ["measure net, pytorch-cuda, fp32 beside plain, pytorch-cuda, fp32"]
    assert fractions == sorted(fractions) and fractions[-1] == 1.0
    path = tmp_path / "run.json"
    path.write_text(written(result, path), encoding="utf-8")
    assert [row.runtime for row in read_run(path).rows] == ["pytorch-cuda, fp32"] * 2


def test_what_is_not_available_stays_as_a_row_with_the_reason(group: GpuGroup) -> None:
    other = GpuGroup((unavailable("plain"), unavailable("net")))
    result = measure([group, other], OPTIONS, GPU, Reports())
    assert [row.throughput is None for row in result.rows] == [False, False, True, True]
    assert result.rows[3].unavailable.startswith("TensorRT is not installed")
    assert f"net, tensorrt, fp32: {result.rows[3].unavailable}" in result.notes
    assert not result.partial


def test_nothing_to_measure_is_an_error_with_the_first_reason() -> None:
    with pytest.raises(RuntimeFailure, match=r"^TensorRT is not installed; run: pip install it\.$"):
        measure([GpuGroup((unavailable("plain"),))], OPTIONS, GPU, Reports())


def test_a_group_that_fails_loses_its_own_figures_alone(group: GpuGroup, tmp_path: Path) -> None:
    def fail() -> DeviceSession:
        raise RuntimeFailure("the GPU has no memory left.")

    failing = GpuGroup((on_host("plain", tmp_path / "plain.onnx", fail),))
    result = measure([failing, group], OPTIONS, GPU, Reports())
    assert [row.unavailable for row in result.rows] == ["the GPU has no memory left.", "", ""]
    assert result.rows[2].ratio is not None and not result.partial


def test_an_interruption_keeps_what_was_measured(group: GpuGroup) -> None:
    def interrupt(done: float) -> None:
        if done > 0.4:  # in the second of three groups
            raise KeyboardInterrupt

    second = GpuGroup(tuple(replace(one, precision="fp16") for one in group.candidates))
    result = measure([group, second, second], OPTIONS, GPU, Reports(fraction=interrupt))
    assert result.partial
    assert result.notes[0] == "interrupted: these figures are partial"
    assert [row.throughput is not None for row in result.rows[:2]] == [True, True]
    assert result.rows[-1].unavailable == "not measured: interrupted"


def test_without_a_gpu_nothing_is_built() -> None:
    if no_gpu() is None:
        pytest.skip("there is a GPU")
    with pytest.raises(RuntimeFailure, match=r"`bench\(gpu=True\)` measures on an NVIDIA GPU, and there is none here"):
        bench_gpu([Path("no-such-file.onnx")], GpuOptions())
    with pytest.raises(UsageError, match="There is no runtime 'openvino' on the GPU"):
        bench_gpu([], GpuOptions(runtimes=("openvino",)))


def test_an_engine_alone_says_what_other_runtimes_need() -> None:
    with pytest.raises(ArtifactError, match="is an engine; for other runtimes name the ONNX file or the checkpoint"):
        EngineAlone(Path("net.engine")).source("onnx")


@pytest.mark.gpu
@pytest.mark.parametrize("streams", [1, 2])
@pytest.mark.parametrize("host_copies", [False, True])
def test_a_checkpoint_is_measured_on_every_runtime_that_is_there(streams: int, host_copies: bool) -> None:
    options = replace(
        OPTIONS, batch=8, size=(64, 64), precisions=("fp32", "fp16"), streams=streams, host_copies=host_copies
    )
    result = bench_gpu([sample_path(RESNET)], options)
    measured = [row for row in result.rows if row.throughput]
    assert {row.runtime for row in measured} >= {"pytorch-cuda", "pytorch-cuda-graph"}
    assert {row.precision for row in measured} == {"fp32", "fp16"}
    assert not [row.unavailable for row in result.rows if row.unavailable]
    for row in measured:
        assert row.throughput and row.latency and row.throughput > 100
        assert row.runtime_options["streams"] == streams
        if row.baseline:
            assert row.ratio is not None and 0.2 < row.ratio.value < 5


@pytest.mark.gpu
def test_copies_from_the_host_take_time() -> None:
    options = replace(OPTIONS, batch=64, size=(64, 64), runtimes=("pytorch-cuda-graph",), precisions=("fp16",))
    without = bench_gpu([sample_path(RESNET)], options)
    with_copies = bench_gpu([sample_path(RESNET)], replace(options, host_copies=True))
    assert with_copies.rows[0].throughput and without.rows[0].throughput
    assert with_copies.rows[0].throughput < without.rows[0].throughput
