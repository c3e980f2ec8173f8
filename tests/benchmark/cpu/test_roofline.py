"""The roofline: what the peak is taken from, and the arithmetic of floor and share."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from kdna_deploy.benchmark.cpu import roofline
from kdna_deploy.benchmark.cpu.roofline import Kernel, Peak, measure_peak
from kdna_deploy.runtimes.ort import OrtSession
from kdna_deploy.runtimes.session import Session
from kdna_deploy.runtimes.table import RUNTIMES, OnCpu, Opener, Runtime, Source
from kdna_deploy.targets.onnx.cost import count_onnx
from tests.benchmark.heard import Heard

MODELS = list(roofline._models())


@pytest.fixture
def peak(monkeypatch: pytest.MonkeyPatch) -> Peak:
    monkeypatch.setattr(roofline, "_SECONDS", 0.001)
    return measure_peak(1)


@pytest.mark.slow
def test_the_peak_is_the_best_of_every_kernel_on_every_exact_runtime(peak: Peak) -> None:
    runtimes = [name for name in ("onnxruntime", "openvino") if not RUNTIMES[name].missing]
    assert len(peak.tried) == len(MODELS) * len(runtimes)
    assert len({kernel.name for kernel in peak.tried}) == len(peak.tried)
    assert all(kernel.gflops > 0 for kernel in peak.tried)
    assert peak.best in peak.tried
    assert peak.best.gflops == max(kernel.gflops for kernel in peak.tried)


@pytest.mark.slow
def test_progress_is_told_for_every_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(roofline, "_SECONDS", 0.001)
    heard = Heard()
    measured = measure_peak(1, (), heard)
    kernels = len(measured.tried)
    assert heard.expected == [(kernels, "kernels")]
    assert heard.parts == [number / kernels for number in range(1, kernels + 1)]


@pytest.mark.slow
def test_every_kernel_runs_on_the_threads_and_cores_of_the_measurement(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[tuple[int, tuple[int, ...]]] = []

    def recorded(entry: Runtime) -> Runtime:
        def prepare(source: Source, how: OnCpu) -> Opener:
            def opening(cores: tuple[int, ...] = ()) -> Session:
                opened.append((how.threads, cores))
                return entry.prepare(source, how)(cores)

            return opening

        return replace(entry, prepare=prepare)

    monkeypatch.setattr(roofline, "_SECONDS", 0.001)
    monkeypatch.setattr(roofline, "RUNTIMES", {name: recorded(entry) for name, entry in RUNTIMES.items()})
    cores = tuple(range(2))
    tried = measure_peak(2, cores).tried
    assert opened == [(2, cores)] * len(tried)


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model[0].replace("×", "x").replace(" ", "-"))
def test_kernels_have_the_macs_that_they_are_credited_with(
    model: tuple[str, int, tuple[int, ...], onnx.ModelProto], tmp_path: Path
) -> None:
    _, macs, shape, graph = model
    if graph.graph.node[0].op_type == "Conv":
        onnx.save_model(graph, tmp_path / "kernel.onnx")
        assert macs == count_onnx(tmp_path / "kernel.onnx").macs
    else:
        rows, inner = shape[2:]
        assert macs == rows * inner * graph.graph.initializer[0].dims[1]


def test_values_stay_in_range_through_a_chain_of_convolutions(tmp_path: Path) -> None:
    for number, (_, _, shape, graph) in enumerate(MODELS):
        onnx.save_model(graph, tmp_path / f"{number}.onnx")
        images = np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
        result = OrtSession(tmp_path / f"{number}.onnx", threads=1).run(images)
        # Neither denormal numbers nor infinities, which a core may be slow at.
        assert 1e-3 < np.abs(result).mean() < 1e3


def test_the_floor_is_two_operations_a_mac_at_the_peak() -> None:
    peak = Peak(Kernel("k", 100.0), ())
    assert peak.floor_ms(1_000_000_000) == pytest.approx(20.0)  # 2 GFLOP at 100 GFLOP/s


def test_the_share_is_the_floor_over_the_latency() -> None:
    peak = Peak(Kernel("k", 100.0), ())
    assert peak.share(1_000_000_000, 40.0) == pytest.approx(0.5)
    assert peak.share(1_000_000_000, 20.0) == pytest.approx(1.0)
