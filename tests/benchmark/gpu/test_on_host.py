"""`bench --gpu` from a file to its figures, the host being the device: options reach the session or the clock."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from kdna_deploy.benchmark.device import BenchOptions, Candidate, Group, Variant
from kdna_deploy.benchmark.gpu import device, nvml, throughput
from kdna_deploy.benchmark.gpu.device import Gpu
from kdna_deploy.benchmark.gpu.files import EngineAlone, GpuFiles
from kdna_deploy.benchmark.plan import candidate
from kdna_deploy.benchmark.protocol import Settings
from kdna_deploy.benchmark.run import measure
from kdna_deploy.benchmark.subject import Subject
from kdna_deploy.runtimes.nvidia.gpu import Gpu as Found
from kdna_deploy.runtimes.table import RUNTIMES, OnGpu
from tests.benchmark.gpu.on_host import SHAPE, HostMonitor, HostRuntime, write_network

OPTIONS = BenchOptions(Gpu(), batch=2, settings=Settings(iterations=3, min_time=0.0))


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(throughput, "SPAN_MS", 2.0)
    monkeypatch.setattr(throughput, "WARM_UP_S", 0.01)
    monkeypatch.setattr("kdna_deploy.runtimes.nvidia.gpu.first_gpu", lambda: Found("the host", "0.0"))


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> HostRuntime:
    made = HostRuntime()
    monkeypatch.setitem(RUNTIMES, "on-host", made.entry)
    return made


def tried(path: Path, options: BenchOptions = OPTIONS, precision: str = "fp32") -> Candidate:
    """The network at `path` on the host, as the plan would have it."""
    network = Subject(path.name, 1000, 2000, SHAPE, "onnx", EngineAlone(path))
    files = GpuFiles(network, options.batch, path.parent / "made", path)
    variant = Variant("on-host", precision, f"on-host, {precision}")  # type: ignore[arg-type]
    return candidate(replace(network, artifacts=files), variant, options)


@pytest.mark.parametrize(
    ("changed", "asked"),
    [
        ({}, OnGpu(2, "fp32", 1, True)),
        ({"device": Gpu(streams=3)}, OnGpu(2, "fp32", 3, True)),
        ({"device": Gpu(cuda_graphs=False)}, OnGpu(2, "fp32", 1, False)),
        ({"batch": 5}, OnGpu(5, "fp32", 1, True)),
    ],
)
def test_batch_streams_and_graphs_reach_the_runtime(
    host: HostRuntime, tmp_path: Path, changed: dict[str, object], asked: OnGpu
) -> None:
    path = write_network(tmp_path / "net.onnx")
    found = tried(path, replace(OPTIONS, **changed))  # type: ignore[arg-type]
    assert found.unavailable == "" and found.opener is not None
    assert host.asked == [asked]
    assert found.file_bytes == path.stat().st_size
    row = measure([Group((found,))], replace(OPTIONS, **changed)).rows[0]  # type: ignore[arg-type]
    assert (row.runtime_version, row.runtime_options) == (host.opened[0].runtime, host.opened[0].options)
    assert all(session._closed for session in host.opened)


def test_the_precision_reaches_the_runtime_and_one_that_it_has_not_is_said(host: HostRuntime, tmp_path: Path) -> None:
    path = write_network(tmp_path / "net.onnx")
    assert tried(path, precision="tf32").unavailable == ""
    assert host.asked == [OnGpu(2, "tf32", 1, True)]
    assert tried(path, precision="int8").unavailable == "the host does not compute in int8"


@pytest.mark.parametrize("largest", [float("nan"), float("inf"), 1e38])
def test_logits_that_are_not_finite_are_not_measured(host: HostRuntime, tmp_path: Path, largest: float) -> None:
    found = tried(write_network(tmp_path / "net.onnx", largest=largest))
    assert found.opener is None
    assert found.unavailable == (
        "net.onnx, on-host, fp32 gives outputs that are not finite; measure it in another precision."
    )


@pytest.mark.parametrize("host_copies", [False, True])
def test_copies_from_and_to_the_host_are_timed_on_request(host: HostRuntime, tmp_path: Path, host_copies: bool) -> None:
    group = Group((tried(write_network(tmp_path / "net.onnx")),))
    result = measure([group], replace(OPTIONS, device=Gpu(host_copies=host_copies)))
    assert result.options.record["host_copies"] is host_copies
    timed = [copied for session in host.opened[1:] for copied in session.copied]
    assert timed and set(timed) == {host_copies}


def test_the_state_is_that_of_the_gpu_before_while_and_after_it_was_measured(
    host: HostRuntime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device, "Monitor", HostMonitor)
    monkeypatch.setattr(nvml, "_EVERY_S", 0.001)
    group = Group((tried(write_network(tmp_path / "net.onnx")),))
    state = measure([group], OPTIONS).findings.state
    assert state is not None and state.before is not None and state.after is not None
    assert state.before.sm_mhz == 1
    assert state.sm_mhz[0] == 2 and state.sm_mhz[2] == state.samples + 1
    assert state.after.sm_mhz == state.samples + 2


def test_without_a_sample_while_it_ran_the_gpu_right_after_it_counts(
    host: HostRuntime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device, "Monitor", HostMonitor)
    monkeypatch.setattr(nvml, "_EVERY_S", 60.0)
    group = Group((tried(write_network(tmp_path / "net.onnx")),))
    state = measure([group], OPTIONS).findings.state
    assert state is not None and (state.samples, state.sm_mhz) == (1, (2, 2, 2))
