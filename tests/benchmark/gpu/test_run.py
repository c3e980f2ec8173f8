"""From groups to rows: measured on real sessions whose device is the CPU, and on a GPU from a checkpoint on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kdna_deploy.benchmark.device import BenchOptions, Candidate, Group, Variant
from kdna_deploy.benchmark.gpu import throughput
from kdna_deploy.benchmark.gpu.device import Gpu
from kdna_deploy.benchmark.gpu.files import EngineAlone
from kdna_deploy.benchmark.protocol import Settings
from kdna_deploy.benchmark.run import bench, measure
from kdna_deploy.benchmark.saved import read_run
from kdna_deploy.benchmark.statistics import FEWEST_ROUNDS, kept, paired_ratio, summarise
from kdna_deploy.benchmark.subject import Subject
from kdna_deploy.errors import ArtifactError, RuntimeFailure, UsageError
from kdna_deploy.reports.bench_data import written
from kdna_deploy.runtimes.nvidia.gpu import Gpu as Found
from kdna_deploy.runtimes.session import DeviceSession
from kdna_deploy.runtimes.table import Precision
from tests.benchmark.gpu.on_host import SHAPE, OnHost, write_network
from tests.benchmark.heard import Heard
from tests.gpu import no_gpu
from tests.samples import RESNET, sample_path

pytestmark = pytest.mark.usefixtures("fused_once")

OPTIONS = BenchOptions(Gpu(), batch=2, settings=Settings(iterations=30, min_time=0.0))


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> None:
    """The host is the GPU."""
    monkeypatch.setattr("kdna_deploy.runtimes.nvidia.gpu.first_gpu", lambda: Found("the host", "0.0"))


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(throughput, "SPAN_MS", 2.0)
    monkeypatch.setattr(throughput, "WARM_UP_S", 0.01)


def subject(name: str) -> Subject:
    return Subject(name, 1000, 2000, SHAPE, "fused", EngineAlone(Path(name)))


def candidate(name: str, runtime: str, precision: Precision = "fp32", **fields: Any) -> Candidate:
    variant = Variant(runtime, precision, f"{runtime}, {precision}")
    return Candidate(f"{name}, {variant.label}", subject(name), variant, **fields)


def on_host(
    name: str, path: Path, opener: Callable[[], DeviceSession] | None = None, precision: Precision = "fp32"
) -> Candidate:
    opened = opener or (lambda: OnHost(path))
    size = path.stat().st_size
    return candidate(name, "pytorch-cuda", precision, opener=lambda cores=(): opened(), file_bytes=size)


def unavailable(name: str) -> Candidate:
    return candidate(name, "tensorrt", unavailable="TensorRT is not installed; run: pip install it")


@pytest.fixture
def group(tmp_path: Path, host: None) -> Group:
    plain, net = write_network(tmp_path / "plain.onnx", 1), write_network(tmp_path / "net.onnx", 8)
    return Group((on_host("plain", plain), on_host("net", net)))


@pytest.mark.slow
def test_a_group_gives_rows_a_ratio_and_a_noise_floor(group: Group, tmp_path: Path) -> None:
    heard = Heard()
    result = measure([group], OPTIONS, listener=heard)
    fractions = heard.parts
    plain, net = result.rows
    assert not result.partial
    assert (plain.name, net.name) == ("plain, pytorch-cuda, fp32", "net, pytorch-cuda, fp32")
    assert plain.baseline is plain.ratio is plain.figures.kept is None
    assert net.baseline == plain.name
    assert plain.samples is not None and net.samples is not None and plain.samples.rounds >= FEWEST_ROUNDS
    (floor,) = result.floors
    assert floor.value is not None
    assert net.ratio == paired_ratio(net.samples, plain.samples, floor.value)
    assert net.figures.kept == kept(net.ratio) and net.figures.kept.value < 1
    assert plain.figures.throughput == pytest.approx(2000 / np.median(plain.samples.values))
    assert plain.latency == summarise(plain.figures.singles.values)
    assert heard.steps == ["measure net, pytorch-cuda, fp32 beside plain, pytorch-cuda, fp32"]
    assert fractions == sorted(fractions) and fractions[-1] == pytest.approx(1.0)
    path = tmp_path / "run.json"
    path.write_text(written(result, path), encoding="utf-8")
    assert [row.runtime for row in read_run(path).rows] == ["pytorch-cuda, fp32"] * 2


@pytest.mark.slow
def test_what_is_not_available_stays_as_a_row_with_the_reason(group: Group) -> None:
    other = Group((unavailable("plain"), unavailable("net")))
    result = measure([group, other], OPTIONS)
    assert [row.figures.throughput is None for row in result.rows] == [False, False, True, True]
    assert result.rows[3].unavailable.startswith("TensorRT is not installed")
    assert f"net, tensorrt, fp32: {result.rows[3].unavailable}" in result.notes
    assert not result.partial


def test_nothing_to_measure_is_an_error_with_the_first_reason() -> None:
    with pytest.raises(RuntimeFailure, match=r"^TensorRT is not installed; run: pip install it\.$"):
        measure([Group((unavailable("plain"),))], OPTIONS)


@pytest.mark.slow
def test_a_group_that_fails_loses_its_own_figures_alone(group: Group, tmp_path: Path) -> None:
    def fail() -> DeviceSession:
        raise RuntimeFailure("the GPU has no memory left.")

    failing = Group((on_host("plain", tmp_path / "plain.onnx", fail),))
    result = measure([failing, group], OPTIONS)
    assert [row.unavailable for row in result.rows] == ["the GPU has no memory left.", "", ""]
    assert result.rows[2].ratio is not None and not result.partial


@pytest.mark.slow
def test_an_interruption_keeps_what_was_measured(group: Group, tmp_path: Path) -> None:
    def interrupt(done: float) -> None:
        if len(heard.steps) == 2 and done > 0.2:  # in the second of three groups
            raise KeyboardInterrupt

    heard = Heard(interrupt)
    names = [(one.subject.name, tmp_path / f"{one.subject.name}.onnx") for one in group.candidates]
    second = Group(tuple(on_host(name, path, precision="fp16") for name, path in names))
    result = measure([group, second, second], OPTIONS, listener=heard)
    assert result.partial
    assert result.notes[0] == "interrupted: these figures are partial"
    assert [row.figures.throughput is not None for row in result.rows[:2]] == [True, True]
    assert result.rows[-1].unavailable == "not measured: interrupted"


def test_without_a_gpu_nothing_is_built() -> None:
    if no_gpu() is None:
        pytest.skip("there is a GPU")
    with pytest.raises(RuntimeFailure, match=r"`bench\(gpu=True\)` measures on an NVIDIA GPU, and there is none here"):
        bench([Path("no-such-file.onnx")], BenchOptions(Gpu()))
    with pytest.raises(UsageError, match="There is no runtime 'openvino' on the GPU"):
        bench([], BenchOptions(Gpu(), runtimes=("openvino",)))


def test_an_engine_alone_says_what_other_runtimes_need() -> None:
    with pytest.raises(ArtifactError, match="is an engine; for other runtimes name the ONNX file or the checkpoint"):
        EngineAlone(Path("net.engine")).source("onnx")


@pytest.mark.gpu
@pytest.mark.parametrize("streams", [1, 2])
@pytest.mark.parametrize("host_copies", [False, True])
def test_a_checkpoint_is_measured_on_every_runtime_that_is_there(streams: int, host_copies: bool) -> None:
    device = Gpu(("fp32", "fp16"), streams=streams, host_copies=host_copies)
    result = bench([sample_path(RESNET)], replace(OPTIONS, device=device, batch=8, size=(64, 64)))
    measured = [row for row in result.rows if row.figures.throughput]
    assert {row.runtime for row in measured} >= {"pytorch-cuda", "pytorch-cuda-graph"}
    assert {row.precision for row in measured} == {"fp32", "fp16"}
    assert not [row.unavailable for row in result.rows if row.unavailable]
    for row in measured:
        assert row.latency and row.figures.throughput > 100
        assert row.runtime_options["streams"] == streams
        if row.baseline:
            assert row.ratio is not None and 0.2 < row.ratio.value < 5


@pytest.mark.gpu
def test_copies_from_the_host_take_time() -> None:
    options = replace(OPTIONS, device=Gpu(("fp16",)), batch=64, size=(64, 64), runtimes=("pytorch-cuda-graph",))
    without = bench([sample_path(RESNET)], options)
    with_copies = bench([sample_path(RESNET)], replace(options, device=Gpu(("fp16",), host_copies=True)))
    assert with_copies.rows[0].figures.throughput < without.rows[0].figures.throughput
