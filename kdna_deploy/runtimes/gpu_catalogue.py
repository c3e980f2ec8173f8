"""The runtimes that can be measured on a GPU, as entries of one table: what each opens, and in which precisions.

A runtime opens a file in two steps: what takes long (compiling) is done once, what is left for every session.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from kdna_deploy.errors import UsageError
from kdna_deploy.runtimes.nvidia.library import LIBRARIES, LibraryName
from kdna_deploy.runtimes.session import DeviceSession

Precision = Literal["fp32", "tf32", "fp16", "int8"]
GpuArtifact = Literal["fused", "onnx", "engine"]
Opener = Callable[[], DeviceSession]

PRECISIONS: tuple[Precision, ...] = get_args(Precision)
_FLOATS: tuple[Precision, ...] = ("fp32", "tf32", "fp16")
_GET_TORCH = "pip install torch, in a build with CUDA: https://pytorch.org/get-started/locally"


@dataclass(frozen=True)
class DeviceOptions:
    """How a session runs.

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


@dataclass(frozen=True)
class GpuRuntime:
    """A way to run a network on the GPU.

    Attributes:
        title: for messages.
        artifact: the kind of file that it opens.
        install: the command that installs it.
        find_missing: a sentence on how to get it, None where it is installed.
        prepare: does once what takes long, and returns what opens sessions; each has its own buffers.
        precisions: that it computes in.
        library: that builds its engines, None where it opens no engines.
    """

    title: str
    artifact: GpuArtifact
    install: str
    find_missing: Callable[[], str | None]
    prepare: Callable[[Path, DeviceOptions], Opener]
    precisions: tuple[Precision, ...] = _FLOATS
    library: LibraryName | None = None

    @property
    def missing(self) -> str | None:
        return self.find_missing()


def _engines(name: LibraryName) -> GpuRuntime:
    library = LIBRARIES[name]
    return GpuRuntime(
        library.title, "engine", library.install, lambda: library.missing, _prepare_engine, PRECISIONS, name
    )


def _prepare_engine(path: Path, options: DeviceOptions) -> Opener:
    from kdna_deploy.runtimes.nvidia.session import TensorRtSession

    return lambda: TensorRtSession(path, None, options.streams, options.cuda_graphs)


def _prepare_ort(path: Path, options: DeviceOptions) -> Opener:
    from kdna_deploy.runtimes.ort_cuda import OrtCudaSession

    precision = _float(options.precision)
    return lambda: OrtCudaSession(path, options.batch, precision, options.streams, options.cuda_graphs)


def _missing_ort() -> str | None:
    if importlib.util.find_spec("onnxruntime") is None:
        return "ONNX Runtime CUDA is not installed; run: pip install onnxruntime-gpu"
    from kdna_deploy.runtimes.ort_cuda import no_cuda_provider

    return no_cuda_provider()


def _torch(compiled: bool, graphs: bool | None) -> Callable[[Path, DeviceOptions], Opener]:
    """`graphs` None leaves the choice to the options."""

    def prepare(path: Path, options: DeviceOptions) -> Opener:
        from kdna_deploy.graph.file import load_fused
        from kdna_deploy.runtimes.pytorch_cuda import TorchCudaSession, program

        fused = load_fused(path)
        made = program(fused.graph.module, _float(options.precision), compiled=compiled)
        shape = fused.provenance.image_shape
        captured = options.cuda_graphs if graphs is None else graphs
        return lambda: TorchCudaSession(made.fresh(), path.name, shape, options.batch, options.streams, captured)

    return prepare


def _float(precision: Precision) -> Literal["fp32", "tf32", "fp16"]:
    assert precision != "int8", "not among the runtime's precisions"
    return precision


def _missing_torch() -> str | None:
    import torch

    if torch.cuda.is_available():
        return None
    return f"PyTorch {torch.__version__} cannot use the GPU; run: {_GET_TORCH}"


def _missing_compiler() -> str | None:
    if importlib.util.find_spec("triton") is None:
        return "torch.compile needs Triton, which is not installed; run: pip install triton"
    return _missing_torch()


GPU_RUNTIMES: dict[str, GpuRuntime] = {
    "tensorrt": _engines("tensorrt"),
    "tensorrt-rtx": _engines("tensorrt-rtx"),
    "onnxruntime-cuda": GpuRuntime(
        "ONNX Runtime CUDA", "onnx", "pip install onnxruntime-gpu", _missing_ort, _prepare_ort
    ),
    "pytorch-cuda": GpuRuntime("PyTorch, eager", "fused", _GET_TORCH, _missing_torch, _torch(False, False)),
    "pytorch-cuda-graph": GpuRuntime("PyTorch, CUDA graph", "fused", _GET_TORCH, _missing_torch, _torch(False, True)),
    "torch-compile": GpuRuntime("torch.compile", "fused", "pip install triton", _missing_compiler, _torch(True, None)),
}


def gpu_runtime(name: str) -> GpuRuntime:
    """The entry of `name`.

    Raises:
        UsageError: there is none.
    """
    if name not in GPU_RUNTIMES:
        raise UsageError(f"There is no runtime '{name}' on the GPU; choose from {', '.join(GPU_RUNTIMES)}.")
    return GPU_RUNTIMES[name]
