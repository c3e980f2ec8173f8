"""The table of runtimes on the GPU: what each lacks here, and on a GPU that each computes the network."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import get_args

import numpy as np
import onnxruntime
import pytest
import torch

from kdna_deploy.cli.options import bench as options
from kdna_deploy.errors import InputError, RuntimeFailure, UsageError
from kdna_deploy.graph.file import save_fused
from kdna_deploy.runtimes import ort_cuda as ort_cuda_session
from kdna_deploy.runtimes import pytorch_cuda as torch_cuda_session
from kdna_deploy.runtimes.nvidia import session as tensorrt_session
from kdna_deploy.runtimes.nvidia.batches import Batches
from kdna_deploy.runtimes.nvidia.cuda import cause, failures, torch_cuda
from kdna_deploy.runtimes.nvidia.library import LIBRARIES
from kdna_deploy.runtimes.ort_cuda import PROVIDER, OrtCudaSession, no_cuda_provider
from kdna_deploy.runtimes.pytorch_cuda import Program, arithmetic, program
from kdna_deploy.runtimes.table import PRECISIONS, OnGpu, Precision, Source, runtime, runtimes_on
from kdna_deploy.targets.onnx.half.export import export_half
from kdna_deploy.targets.onnx.options import OnnxOptions
from kdna_deploy.targets.source import Request, open_fused_source
from kdna_deploy.targets.tensorrt.build import BuildOptions
from kdna_deploy.targets.tensorrt.export import EngineOptions, export_engine
from tests.samples import RESNET, SIZE, exported_sample, fused_sample, sample_path

BATCH = 8
IMAGES = np.random.default_rng(0).standard_normal((BATCH, 3, *SIZE), dtype=np.float32)
# Relative to the largest logit, after eighteen layers: float32; 11 bits of mantissa.
TOLERANCES: dict[Precision, float] = {"fp32": 1e-4, "tf32": 1e-2, "fp16": 2e-2}
WITHOUT_CUDA = pytest.mark.skipif(torch.cuda.is_available(), reason="PyTorch can use a GPU")
GPU_RUNTIMES = runtimes_on("gpu")
FUSED = [name for name, entry in GPU_RUNTIMES.items() if entry.artifact == "fused"]


def expected() -> np.ndarray:
    with torch.no_grad():
        return fused_sample(RESNET).network.module(torch.from_numpy(IMAGES)).numpy()


def departs(logits: np.ndarray) -> float:
    return float(np.abs(logits - expected()).max() / np.abs(expected()).max())


@pytest.mark.slow
def test_the_command_line_offers_the_same_precisions() -> None:
    assert tuple(one.value for one in options.Precision) == PRECISIONS


def test_engines_alone_compute_in_int8_and_have_a_library() -> None:
    for name, entry in GPU_RUNTIMES.items():
        assert ("int8" in entry.precisions) == (entry.artifact == "engine") == (name in LIBRARIES)
        assert set(entry.precisions) <= set(get_args(Precision))


def test_an_unknown_name_is_refused_with_the_known_ones() -> None:
    with pytest.raises(UsageError, match="There is no runtime 'onnxruntime' on the GPU; choose from tensorrt, "):
        runtime("onnxruntime", "gpu")


@WITHOUT_CUDA
@pytest.mark.parametrize("name", [name for name, entry in GPU_RUNTIMES.items() if name not in LIBRARIES])
def test_without_cuda_every_runtime_says_in_one_sentence_how_to_get_it(name: str) -> None:
    sentence = runtime(name, "gpu").missing
    assert sentence is not None and "; run: " in sentence and "\n" not in sentence


@pytest.mark.slow
@pytest.mark.skipif(PROVIDER in onnxruntime.get_available_providers(), reason="ONNX Runtime has CUDA")
def test_onnx_runtime_without_its_cuda_provider_is_refused_and_never_runs_on_the_cpu(tmp_path: Path) -> None:
    exported_sample(tmp_path / "net.onnx", target="tensorrt", simplify=False)
    with pytest.raises(RuntimeFailure) as caught:
        OrtCudaSession(tmp_path / "net.onnx", BATCH)
    assert str(caught.value) == no_cuda_provider()
    assert "has no CUDA provider; run: pip uninstall -y onnxruntime && pip install onnxruntime-gpu" in str(caught.value)


@WITHOUT_CUDA
def test_pytorch_without_cuda_is_refused_in_one_sentence() -> None:
    with pytest.raises(
        RuntimeFailure, match=r"^PyTorch \S+ cannot use the GPU, .*; install a build of PyTorch with CUDA"
    ):
        torch_cuda()


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_a_program_computes_the_network_in_its_precision_and_leaves_the_graph_alone(precision: Precision) -> None:
    module = fused_sample(RESNET).graph.module
    made = program(module, precision, device="cpu")  # type: ignore[arg-type]
    kind = torch.float16 if precision == "fp16" else torch.float32
    parameters = [*made.call.parameters(), *made.call.buffers()]  # type: ignore[attr-defined]
    assert {tensor.dtype for tensor in parameters} == {kind}
    kernels = [tensor for tensor in parameters if tensor.ndim == 4]
    assert all(kernel.is_contiguous(memory_format=torch.channels_last) for kernel in kernels)
    with arithmetic(precision):  # type: ignore[arg-type]
        logits = made.call(torch.from_numpy(IMAGES).to(kind)).float().numpy()
    assert departs(logits) <= TOLERANCES[precision]
    assert {tensor.dtype for tensor in (*module.parameters(), *module.buffers())} == {torch.float32}


@pytest.mark.slow
def test_fresh_weights_lie_elsewhere_and_what_is_compiled_stays() -> None:
    made = program(torch.nn.Conv2d(3, 3, 1), "fp32", device="cpu")
    again = made.fresh()
    assert again.call.weight.data_ptr() != made.call.weight.data_ptr()  # type: ignore[attr-defined]
    assert torch.equal(again.call.weight, made.call.weight)  # type: ignore[attr-defined]
    compiled = program(torch.nn.Conv2d(3, 3, 1), "fp32", device="cpu", compiled=True)
    assert compiled.fresh() is compiled


@pytest.mark.parametrize("precision", ["fp32", "tf32", "fp16"])
def test_the_rounding_of_float32_is_set_within_the_block_and_put_back(precision: Precision) -> None:
    def settings() -> tuple[object, ...]:
        convolution, product = torch.backends.cudnn.conv.fp32_precision, torch.backends.cuda.matmul.fp32_precision
        return convolution, product, torch.backends.cudnn.benchmark, torch.is_grad_enabled()

    with arithmetic(precision):  # type: ignore[arg-type]
        inside = settings()
    before = settings()
    with pytest.raises(ValueError), arithmetic(precision):  # type: ignore[arg-type]
        raise ValueError
    assert settings() == before
    rounding = "tf32" if precision == "tf32" else "ieee"
    assert inside[1:] == (rounding, True, False)
    assert (inside[0] == "tf32") is (precision == "tf32")


def test_what_a_library_says_becomes_one_sentence_and_ours_pass() -> None:
    error = RuntimeError("[ONNXRuntimeError] : 1 : FAIL : no memory.\nat some place")
    assert cause(error) == "no memory"
    with (
        pytest.raises(RuntimeFailure, match=r"^ONNX Runtime cannot run 'net': no memory\.$"),
        failures("ONNX Runtime", "net"),
    ):
        raise error
    with pytest.raises(InputError, match="as it is"), failures("ONNX Runtime", "net"):
        raise InputError("as it is")


class Opened:
    """A session of a class, by the names of its arguments."""

    def __init__(self, session: type, received: list[dict[str, object]]) -> None:
        self._signature = inspect.signature(session)
        self._received = received

    def __call__(self, *arguments: object, **named: object) -> None:
        bound = self._signature.bind(*arguments, **named)
        bound.apply_defaults()
        self._received.append(dict(bound.arguments))


@pytest.mark.slow
@pytest.mark.parametrize("name", GPU_RUNTIMES)
@pytest.mark.parametrize(("streams", "graphs"), [(1, True), (3, False)])
def test_streams_graphs_and_batch_reach_the_session_of_every_runtime(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, streams: int, graphs: bool
) -> None:
    received: list[dict[str, object]] = []
    programs: list[tuple[str, bool]] = []

    def programmed(module: torch.nn.Module, precision: Precision, compiled: bool = False) -> Program:
        programs.append((precision, compiled))
        return program(module, precision, device="cpu")  # type: ignore[arg-type]

    for module in (tensorrt_session, ort_cuda_session, torch_cuda_session):
        for session in ("TensorRtSession", "OrtCudaSession", "TorchCudaSession"):
            if hasattr(module, session):
                monkeypatch.setattr(module, session, Opened(getattr(module, session), received))
    monkeypatch.setattr(torch_cuda_session, "program", programmed)
    path = tmp_path / "net.pt2"
    if GPU_RUNTIMES[name].artifact == "fused":
        save_fused(fused_sample(RESNET).graph, fused_sample(RESNET).provenance, path)
    opening = GPU_RUNTIMES[name].prepare(Source(path), OnGpu(7, "fp16", streams, graphs))
    opening()
    opening()
    always = {"pytorch-cuda": False, "pytorch-cuda-graph": True}
    assert [(one["streams"], one["cuda_graphs"]) for one in received] == [(streams, always.get(name, graphs))] * 2
    assert [one.get("batch", 7) for one in received] == [7, 7]
    if GPU_RUNTIMES[name].artifact == "fused":
        assert programs == [("fp16", name == "torch-compile")]
    if GPU_RUNTIMES[name].artifact == "onnx":
        assert received[0]["precision"] == "fp16"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample network for TensorRT in float32 and float16, and fused."""
    path = tmp_path_factory.mktemp("gpu-table")
    exported_sample(path / "fp32.onnx", target="tensorrt", simplify=False)
    source = open_fused_source(sample_path(RESNET), Request(size=SIZE))
    export_half(source, path / "fp16.onnx", OnnxOptions(target="tensorrt", simplify=False))
    save_fused(source.graph, source.provenance, path / "net.pt2")
    return path


def artifact(folder: Path, name: str, precision: Precision) -> Path:
    entry = runtime(name, "gpu")
    graph = folder / ("fp16.onnx" if precision == "fp16" else "fp32.onnx")
    if name not in LIBRARIES:
        return folder / "net.pt2" if entry.artifact == "fused" else graph
    path = folder / f"{name}-{precision}.engine"
    if not path.exists():
        build = BuildOptions(Batches(BATCH, BATCH, BATCH), tf32=precision == "tf32")
        export_engine(graph, path, EngineOptions(name, build))
    return path


@pytest.mark.gpu
@pytest.mark.parametrize("cuda_graphs", [False, True])
@pytest.mark.parametrize("precision", TOLERANCES)
@pytest.mark.parametrize("name", GPU_RUNTIMES)
def test_every_runtime_computes_the_network_in_every_precision(
    folder: Path, name: str, precision: Precision, cuda_graphs: bool
) -> None:
    entry = runtime(name, "gpu")
    if entry.missing:
        pytest.skip(entry.missing)
    options = OnGpu(BATCH, precision, streams=2, cuda_graphs=cuda_graphs)
    opener = entry.prepare(Source(artifact(folder, name, precision)), options)
    session = opener()
    assert departs(session.run(IMAGES)) <= TOLERANCES[precision]
    session.load_on_device(IMAGES)
    for host_copies in (False, True):
        assert session.time_on_device(5, host_copies) > 0
    assert departs(session.run(IMAGES)) <= TOLERANCES[precision]
    assert session.options["precision"] in (precision, "fp32")  # TF32 is no precision of an engine
    assert session.options["tf32"] == int(precision == "tf32") or entry.library is not None
    assert departs(opener().run(IMAGES)) <= TOLERANCES[precision]


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["onnxruntime-cuda", "pytorch-cuda"])
def test_another_batch_than_it_was_opened_for_is_refused(folder: Path, name: str) -> None:
    entry = runtime(name, "gpu")
    if entry.missing:
        pytest.skip(entry.missing)
    session = entry.prepare(Source(artifact(folder, name, "fp32")), OnGpu(BATCH, "fp32"))()
    with pytest.raises(InputError, match="was opened for images 8×3×64×64 and cannot run on 2×3×64×64"):
        session.run(IMAGES[:2])


@pytest.mark.gpu
def test_more_work_takes_more_time_and_streams_do_not_lose_any(folder: Path) -> None:
    entry = runtime("pytorch-cuda-graph", "gpu")
    one, two = (entry.prepare(Source(folder / "net.pt2"), OnGpu(BATCH, "fp32", streams))() for streams in (1, 2))
    for session in (one, two):
        session.load_on_device(IMAGES)
        session.time_on_device(50)
    assert two.time_on_device(200) <= 1.5 * one.time_on_device(200)


def held_on_the_gpu() -> int:
    """Bytes that PyTorch holds, without the scratch memory that cuBLAS keeps for each stream it has ever met."""
    torch._C._cuda_clearCublasWorkspaces()
    return torch.cuda.memory_allocated()


@pytest.mark.gpu
@pytest.mark.parametrize("name", GPU_RUNTIMES)
def test_a_closed_session_refuses_to_run_and_gives_its_memory_back(folder: Path, name: str) -> None:
    entry = runtime(name, "gpu")
    if entry.missing:
        pytest.skip(entry.missing)
    opener = entry.prepare(Source(artifact(folder, name, "fp32")), OnGpu(BATCH, "fp32"))
    with opener() as session:  # libraries allocate what they keep
        session.run(IMAGES)
    before = held_on_the_gpu()
    with opener() as session:
        session.load_on_device(IMAGES)
        session.time_on_device(3, host_copies=True)
    assert held_on_the_gpu() <= before
    for use in (lambda: session.run(IMAGES), lambda: session.load_on_device(IMAGES), lambda: session.time_on_device(1)):
        with pytest.raises(UsageError, match="is closed; open it again"):
            use()
