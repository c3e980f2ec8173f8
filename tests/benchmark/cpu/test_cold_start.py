"""Cold starts of real processes: load, first inference and memory, and what a failure says."""

from __future__ import annotations

import errno
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest

import kdna_deploy as kd
from kdna_deploy.benchmark.cpu import cold_start, fresh_process
from kdna_deploy.benchmark.cpu.cold_start import ColdRequest, ColdStart, measure_cold_starts
from kdna_deploy.benchmark.cpu.device import Cpu
from kdna_deploy.benchmark.device import BenchOptions
from kdna_deploy.benchmark.protocol import Settings
from kdna_deploy.benchmark.run import bench
from kdna_deploy.errors import RuntimeFailure
from kdna_deploy.runtimes.ort import SessionNeeds
from kdna_deploy.runtimes.table import Source, runtimes_on
from tests.benchmark.heard import Heard
from tests.converted_files import converted_sample, require
from tests.network.test_stages import narrow, saved
from tests.samples import RESNET, exported_sample, sample_path
from tests.targets.tensorrt.onnx_files import PIXELS, SMALL, write_small

SHAPE = (1, 3, 64, 64)
FIRST = ColdStart(1.0, 1.0, 1.0, 1, 1)
FEW = Settings(1, 0.0)


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("cold") / "net.onnx"
    exported_sample(path, simplify=False)
    return path


@pytest.fixture
def one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cold_start, "PROCESSES", 1)


def check(start: ColdStart) -> None:
    assert min(start.import_ms, start.load_ms, start.first_ms) > 0
    assert start.peak_bytes >= start.resident_bytes > 1_000_000
    assert isinstance(start.resident_bytes, int) and isinstance(start.peak_bytes, int)
    if sys.platform == "linux":
        assert start.private_bytes > 0 and start.shared_bytes > 0
        assert start.private_bytes + start.shared_bytes == pytest.approx(start.resident_bytes, abs=8192)
    assert start.together_bytes is None  # no prepared file among them


@pytest.mark.slow
def test_a_fresh_process_of_each_runtime_tells_times_and_memory(net: Path, one_process: None) -> None:
    requests = [
        ColdRequest("net", "onnxruntime", Source(net), 1, SHAPE, SessionNeeds(("ConstantFolding",))),
        ColdRequest("trained", "pytorch", Source(sample_path(RESNET), arch="resnet18"), 1, SHAPE),
    ]
    heard = Heard()
    deployed, trained = measure_cold_starts(requests, heard)
    check(deployed)
    check(trained)
    assert heard.expected == [(2, "processes")] and heard.parts == [0.5, 1.0]
    # Each process imports its own runtime alone; torch takes several times the memory.
    assert deployed.resident_bytes < trained.resident_bytes


@pytest.mark.slow
def test_openvino_starts_in_a_fresh_process(net: Path, one_process: None) -> None:
    pytest.importorskip("openvino")
    for start in measure_cold_starts([ColdRequest("net", "openvino", Source(net), 1, SHAPE)]):
        check(start)


@pytest.mark.slow
@pytest.mark.parametrize("runtime", ["ncnn", "mnn"])
def test_a_file_of_its_own_format_starts_in_a_fresh_process(runtime: str, one_process: None) -> None:
    path = converted_sample(runtime).path
    for start in measure_cold_starts([ColdRequest("net", runtime, Source(path), 1, SHAPE)]):
        check(start)


@pytest.mark.slow
@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_a_file_that_takes_pixels_is_started_with_pixels(runtime: str, one_process: None, tmp_path: Path) -> None:
    pytest.importorskip(runtime)
    net = write_small(tmp_path / "net.onnx", interface=PIXELS)
    for start in measure_cold_starts([ColdRequest("net", runtime, Source(net), 1, (2, *SMALL))]):
        check(start)


@pytest.mark.slow
def test_of_a_file_of_any_size_the_axes_are_in_its_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    c, h, w = SMALL
    model = onnx.load(write_small(tmp_path / "net.onnx", interface=PIXELS))
    for axis in model.graph.input[0].type.tensor_type.shape.dim[1:3]:
        axis.dim_param = "any"
    for name in ("net", "base"):
        onnx.save_model(model, tmp_path / f"{name}.onnx")
    started: list[tuple[int, ...]] = []
    monkeypatch.setattr("kdna_deploy.benchmark.cpu.device.measure_peak", lambda *_: None)
    monkeypatch.setattr(
        "kdna_deploy.benchmark.cpu.device.measure_cold_starts",
        lambda requests, _: started.extend(request.shape for request in requests) or [FIRST for _ in requests],
    )
    bench([tmp_path / "net.onnx"], BenchOptions(Cpu(cold_start=True), baseline=tmp_path / "base.onnx", settings=FEW))
    assert started == [(1, h, w, c)] * 2


@pytest.fixture(scope="module")
def stages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An ncnn file of a backbone that returns two of its stages."""
    require("ncnn")
    folder = tmp_path_factory.mktemp("stages")
    checkpoint = saved(narrow("resnet18", "C3,C5").build(), folder / "net.pt")
    return kd.export(checkpoint, folder / "net.ncnn.param", ncnn=True, outputs="C3,C5", input_size=32).path


@pytest.mark.slow
def test_all_outputs_of_an_ncnn_file_are_computed(stages: Path) -> None:
    """ncnn computes what is extracted alone."""
    from kdna_deploy.runtimes.ncnn import NcnnSession

    shape = (1, 3, 32, 32)
    with NcnnSession(stages, threads=1) as session:
        expected = session.run_all(np.zeros(shape, np.float32))
    request = {"path": str(stages), "threads": 1, "shape": shape, "outputs": 2}
    found = fresh_process._LOADERS["ncnn"](request, lambda _: None)()
    assert [one.shape for one in found] == [one.shape[1:] for one in expected]
    assert all(np.array_equal(one, many[0]) for one, many in zip(found, expected, strict=True))


@pytest.mark.slow
def test_bench_asks_for_all_of_them(stages: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def measured(requests: Sequence[ColdRequest], listener: object) -> list[ColdStart]:
        asked.extend(json.loads(cold_start._command(request)[-1])["outputs"] for request in requests)
        raise RuntimeFailure("Asked.")

    monkeypatch.setattr("kdna_deploy.benchmark.cpu.device.measure_cold_starts", measured)
    classifier = converted_sample("ncnn").path
    kd.bench(stages, baseline=classifier, iterations=1, min_time=0)
    assert sorted(asked) == [1, 2]


def test_every_runtime_can_be_started_in_a_fresh_process() -> None:
    assert fresh_process._LOADERS.keys() == runtimes_on("cpu").keys()


def test_figures_are_medians_over_processes_that_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    loads = {"a": iter([9.0, 1.0, 2.0]), "b": iter([4.0, 30.0, 5.0])}

    def fresh(request: ColdRequest) -> ColdStart:
        asked.append(request.name)
        load = next(loads[request.name])
        return ColdStart(load + 1, load, load + 2, int(load) * 100, int(load) * 200, int(load) * 30)

    monkeypatch.setattr(cold_start, "_fresh", fresh)
    heard = Heard()
    requests = [ColdRequest(name, "onnxruntime", Source(Path(name)), 1, SHAPE) for name in "ab"]
    assert measure_cold_starts(requests, heard) == [
        ColdStart(3.0, 2.0, 4.0, 200, 400, 60),
        ColdStart(6.0, 5.0, 7.0, 500, 1000, 150),
    ]
    assert asked == ["a", "b"] * 3
    assert heard.parts == pytest.approx([number / 6 for number in range(1, 7)])


def test_a_file_that_cannot_be_opened_is_a_failure_with_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "text.onnx"
    path.write_text("text")
    with pytest.raises(RuntimeFailure) as caught:
        measure_cold_starts([ColdRequest("text.onnx", "onnxruntime", Source(path), 1, SHAPE)])
    sentence = str(caught.value)
    assert sentence.startswith("A fresh process could not open text.onnx: ")
    assert sentence.endswith("; `cold_start=False` leaves this measurement out.")
    assert "\n" not in sentence and "Traceback" not in sentence


@pytest.mark.parametrize("name", ["run", "Popen"])
def test_a_process_that_cannot_be_started_is_such_a_failure(
    name: str, net: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where their number is limited: of one that opens the file, or of several at once."""

    def refused(*_: object, **__: object) -> None:
        raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")

    monkeypatch.setattr(cold_start.subprocess, name, refused)
    request = ColdRequest("net.onnx", "onnxruntime", Source(net), 1, SHAPE)
    with pytest.raises(RuntimeFailure, match=r"^A fresh process could not open net.onnx: "):
        cold_start._fresh(request) if name == "run" else cold_start._together(request)


def test_a_process_that_has_ended_is_such_a_failure(net: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    monkeypatch.setattr(cold_start, "_ROLLUP", str(tmp_path / "empty"))
    monkeypatch.setattr(cold_start, "TOGETHER", 1)
    with pytest.raises(RuntimeFailure, match="there is no room for"):
        cold_start._together(ColdRequest("net.onnx", "onnxruntime", Source(net), 1, SHAPE))
