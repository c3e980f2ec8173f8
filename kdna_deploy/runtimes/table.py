"""The runtimes that can be measured, on the CPU and on a GPU, as entries of one table: what each opens, how to get it.

    prepare(file, how) → opener        once: what takes long, such as compiling
    opener(cores)      → session       for every session: a new one shares no memory with those before it

A further runtime is a further entry and a module with its `Session`. What an entry runs on is imported when it is
prepared: to read the names takes no PyTorch.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, get_args

from kdna_deploy.errors import UsageError
from kdna_deploy.extras import INSTALL_CONVERTER
from kdna_deploy.kinds import Kind
from kdna_deploy.network.configuration import Configuration
from kdna_deploy.runtimes.nvidia.library import LIBRARIES, LibraryName

DeviceName = Literal["cpu", "gpu"]
Artifact = Literal["checkpoint", "fused", "onnx", "openvino", "ncnn", "mnn", "litert", "executorch", "engine"]
Precision = Literal["fp32", "tf32", "fp16", "int8"]
Cores = tuple[int, ...]

PRECISIONS: tuple[Precision, ...] = get_args(Precision)
_FLOATS: tuple[Precision, ...] = ("fp32", "tf32", "fp16")


@dataclass(frozen=True)
class Source:
    """A file, and for a checkpoint how to load it."""

    path: Path
    arch: Configuration | str | None = None
    factory: str | None = None
    ema: bool = False


@dataclass(frozen=True)
class OnCpu:
    """How a session runs on the CPU.

    Attributes:
        threads: of an inference; of all of them together with `streams`.
        streams: inferences that may be under way at once, for a runtime that shares its threads out among them; None
            for one, as fast as may be.
        batch: images in every inference, where that is known; a runtime that plans for a batch plans for it.
    """

    threads: int = 1
    streams: int | None = None
    batch: int | None = None


@dataclass(frozen=True)
class OnGpu:
    """How a session runs on a GPU.

    Attributes:
        batch: images in one inference.
        precision: that is computed in; of an engine and an ONNX file it is in the file, but for fp32 and tf32.
        streams: inferences that may be under way at once.
        cuda_graphs: replay captured graphs where the runtime leaves the choice.
    """

    batch: int
    precision: Precision
    streams: int = 1
    cuda_graphs: bool = True


class Opener(Protocol):
    """Opens a session whose threads run on `cores`, of as many as it was prepared for; none: wherever there is room."""

    def __call__(self, cores: Cores = ()) -> Any:
        """A `Session`, on a GPU a `DeviceSession`."""


@dataclass(frozen=True)
class Runtime:
    """A way to run a network.

    Attributes:
        title: for tables and messages.
        device: that it runs on.
        artifact: the kind of file that it opens.
        find_missing: a sentence on how to get it, None where it is installed.
        prepare: a file, and an `OnCpu` or `OnGpu` → what opens sessions.
        precisions: that can be asked of it; none where the file alone decides.
        exact: whether float32 files are computed in float32, so that the float32 peak is a bound.
        streams: what runs several inferences at once, each on one thread: a session for each, or one session of its
            ``own`` streams; None where neither does.
        own: a kind of file of its own that it opens as well, which no other runtime does.
    """

    title: str
    device: DeviceName
    artifact: Artifact
    find_missing: Callable[[], str | None]
    prepare: Callable[[Source, Any], Opener]
    precisions: tuple[Precision, ...] = ()
    exact: bool = True
    own: Artifact | None = None
    streams: Literal["sessions", "own"] | None = None

    @property
    def missing(self) -> str | None:
        """A sentence on how to get it; None where it is installed."""
        return self.find_missing()


def package(title: str, name: str, install: str) -> Callable[[], str | None]:
    """Finds whether the package that a runtime is can be imported."""
    sentence = f"{title} is not installed; run: {install}"
    return lambda: None if importlib.util.find_spec(name) is not None else sentence


def _original(source: Source, how: OnCpu) -> Opener:
    from kdna_deploy.network.load import load_network
    from kdna_deploy.runtimes.pytorch import TorchSession

    def opener(cores: Cores = ()) -> TorchSession:
        network = load_network(source.path, source.arch, source.factory, source.ema)
        return TorchSession(network.module, source.path.name)

    return opener


def _fused(source: Source, how: OnCpu) -> Opener:
    from kdna_deploy.graph.file import load_fused
    from kdna_deploy.runtimes.pytorch import TorchSession

    def opener(cores: Cores = ()) -> TorchSession:
        fused = load_fused(source.path)
        return TorchSession(fused.graph, source.path.name, fused.provenance.image_shape)

    return opener


def _ort(source: Source, how: OnCpu) -> Opener:
    from kdna_deploy.runtimes.ort import OrtSession

    return lambda cores=(): OrtSession(source.path, how.threads, cores=cores)


def _openvino(precision: Literal["f32", "bf16"]) -> Callable[[Source, OnCpu], Opener]:
    def prepare(source: Source, how: OnCpu) -> Opener:
        from kdna_deploy.runtimes.openvino import OpenVinoSession

        return lambda cores=(): OpenVinoSession(
            source.path, how.threads, precision=precision, streams=how.streams, batch=how.batch
        )

    return prepare


def _own(kind: Kind) -> Callable[[Source, OnCpu], Opener]:
    """Of a runtime that opens files of its own `kind` alone."""

    def prepare(source: Source, how: OnCpu) -> Opener:
        from kdna_deploy.runtimes.open import own_session

        session = own_session(kind)
        return lambda cores=(): session(source.path, how.threads)

    return prepare


def _engines(name: LibraryName) -> Runtime:
    def prepare(source: Source, how: OnGpu) -> Opener:
        from kdna_deploy.runtimes.nvidia.session import TensorRtSession

        return lambda cores=(): TensorRtSession(source.path, None, how.streams, how.cuda_graphs)

    library = LIBRARIES[name]
    return Runtime(library.title, "gpu", "engine", lambda: library.missing, prepare, PRECISIONS)


def _ort_cuda(source: Source, how: OnGpu) -> Opener:
    from kdna_deploy.runtimes.ort_cuda import OrtCudaSession

    precision = _float(how.precision)
    return lambda cores=(): OrtCudaSession(source.path, how.batch, precision, how.streams, how.cuda_graphs)


def _missing_ort_cuda() -> str | None:
    if importlib.util.find_spec("onnxruntime") is None:
        return "ONNX Runtime CUDA is not installed; run: pip install onnxruntime-gpu"
    from kdna_deploy.runtimes.ort_cuda import no_cuda_provider

    return no_cuda_provider()


def _torch_cuda(compiled: bool, graphs: bool | None) -> Callable[[Source, OnGpu], Opener]:
    """`graphs` None leaves the choice to the options."""

    def prepare(source: Source, how: OnGpu) -> Opener:
        from kdna_deploy.graph.file import load_fused
        from kdna_deploy.runtimes.pytorch_cuda import TorchCudaSession, program

        fused = load_fused(source.path)
        made = program(fused.graph.module, _float(how.precision), compiled=compiled)
        shape = fused.provenance.image_shape
        captured = how.cuda_graphs if graphs is None else graphs
        name = source.path.name
        return lambda cores=(): TorchCudaSession(made.fresh(), name, shape, how.batch, how.streams, captured)

    return prepare


def _float(precision: Precision) -> Literal["fp32", "tf32", "fp16"]:
    assert precision != "int8", "not among the runtime's precisions"
    return precision


def _missing_torch_cuda() -> str | None:
    if absent := _TORCH():
        return absent
    import torch

    if torch.cuda.is_available():
        return None
    get = "pip install torch, in a build with CUDA: https://pytorch.org/get-started/locally"
    return f"PyTorch {torch.__version__} cannot use the GPU; run: {get}"


def _missing_compiler() -> str | None:
    if importlib.util.find_spec("triton") is None:
        return "torch.compile needs Triton, which is not installed; run: pip install triton"
    return _missing_torch_cuda()


_TORCH = package("PyTorch", "torch", INSTALL_CONVERTER)
_OPENVINO = package("OpenVINO", "openvino", "pip install 'kdna-deploy[openvino]'")
_NCNN = package("ncnn", "ncnn", "pip install 'kdna-deploy[ncnn]'")
_MNN = package("MNN", "MNN", "pip install 'kdna-deploy[mnn]'")
_LITERT = package("LiteRT", "ai_edge_litert", "pip install 'kdna-deploy[litert]'")
_EXECUTORCH = package("ExecuTorch", "executorch", "pip install 'kdna-deploy[executorch]'")
_ORT = package("ONNX Runtime", "onnxruntime", "pip install onnxruntime")

RUNTIMES: dict[str, Runtime] = {
    "pytorch": Runtime("PyTorch, as trained", "cpu", "checkpoint", _TORCH, _original),
    "pt2": Runtime("PyTorch, fused .pt2", "cpu", "fused", _TORCH, _fused),
    "onnxruntime": Runtime("ONNX Runtime", "cpu", "onnx", _ORT, _ort, streams="sessions"),
    "openvino": Runtime("OpenVINO", "cpu", "onnx", _OPENVINO, _openvino("f32"), own="openvino", streams="own"),
    "openvino-bf16": Runtime(
        "OpenVINO, bf16", "cpu", "onnx", _OPENVINO, _openvino("bf16"), exact=False, own="openvino", streams="own"
    ),
    "ncnn": Runtime("ncnn", "cpu", "ncnn", _NCNN, _own(Kind.ncnn)),
    "mnn": Runtime("MNN", "cpu", "mnn", _MNN, _own(Kind.mnn)),
    "litert": Runtime("LiteRT", "cpu", "litert", _LITERT, _own(Kind.litert), streams="sessions"),
    "executorch": Runtime("ExecuTorch", "cpu", "executorch", _EXECUTORCH, _own(Kind.executorch)),
    "tensorrt": _engines("tensorrt"),
    "tensorrt-rtx": _engines("tensorrt-rtx"),
    "onnxruntime-cuda": Runtime("ONNX Runtime CUDA", "gpu", "onnx", _missing_ort_cuda, _ort_cuda, _FLOATS),
    "pytorch-cuda": Runtime("PyTorch, eager", "gpu", "fused", _missing_torch_cuda, _torch_cuda(False, False), _FLOATS),
    "pytorch-cuda-graph": Runtime(
        "PyTorch, CUDA graph", "gpu", "fused", _missing_torch_cuda, _torch_cuda(False, True), _FLOATS
    ),
    "torch-compile": Runtime("torch.compile", "gpu", "fused", _missing_compiler, _torch_cuda(True, None), _FLOATS),
}


def runtimes_on(device: DeviceName) -> dict[str, Runtime]:
    """The entries of a device, by name."""
    return {name: entry for name, entry in RUNTIMES.items() if entry.device == device}


def runtime(name: str, device: DeviceName) -> Runtime:
    """The entry of `name`.

    Raises:
        UsageError: the device has none of that name.
    """
    known = runtimes_on(device)
    if name not in known:
        where = " on the GPU" if device == "gpu" else ""
        raise UsageError(f"There is no runtime '{name}'{where}; choose from {', '.join(known)}.")
    return known[name]
