"""The runtimes that can be measured, as entries of one table: what each opens, and how to get it.

A further runtime is a further entry and a module with its `Session`.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from kdna_deploy.errors import UsageError
from kdna_deploy.graph.file import load_fused
from kdna_deploy.network.load import load_network
from kdna_deploy.runtimes.pytorch import TorchSession
from kdna_deploy.runtimes.session import Session

Artifact = Literal["checkpoint", "fused", "onnx"]


@dataclass(frozen=True)
class Source:
    """A file, and for a checkpoint how to load it."""

    path: Path
    arch: str | None = None
    factory: str | None = None
    ema: bool = False


class Open(Protocol):
    """Opens a source for so many threads, which run on `cores` (empty where the process is not pinned)."""

    def __call__(self, source: Source, threads: int, cores: tuple[int, ...]) -> Session: ...


@dataclass(frozen=True)
class Runtime:
    """A way to run a network.

    Attributes:
        title: for tables.
        artifact: the kind of file that it opens.
        package: that must be importable.
        install: the command that installs it.
        open: opens a session; a new one shares no memory with those before it.
        exact: whether it computes in float32, so that the core's float32 peak is its bound.
    """

    title: str
    artifact: Artifact
    package: str
    install: str
    open: Open
    exact: bool = True

    @property
    def missing(self) -> str | None:
        """A sentence on how to get it; None where it is installed."""
        if importlib.util.find_spec(self.package) is not None:
            return None
        return f"{self.title} is not installed; run: {self.install}"


def _open_original(source: Source, threads: int, cores: tuple[int, ...]) -> Session:
    network = load_network(source.path, source.arch, source.factory, source.ema)
    return TorchSession(network.module, source.path.name)


def _open_fused(source: Source, threads: int, cores: tuple[int, ...]) -> Session:
    fused = load_fused(source.path)
    return TorchSession(fused.graph, source.path.name, fused.provenance.image_shape)


def _open_ort(source: Source, threads: int, cores: tuple[int, ...]) -> Session:
    from kdna_deploy.runtimes.ort import OrtSession

    return OrtSession(source.path, threads, cores=cores)


def _open_openvino(source: Source, threads: int, cores: tuple[int, ...]) -> Session:
    from kdna_deploy.runtimes.openvino import OpenVinoSession

    return OpenVinoSession(source.path, threads)


def _open_openvino_bf16(source: Source, threads: int, cores: tuple[int, ...]) -> Session:
    from kdna_deploy.runtimes.openvino import OpenVinoSession

    return OpenVinoSession(source.path, threads, precision="bf16")


_GET_OPENVINO = "pip install 'kdna-deploy[openvino]'"

RUNTIMES: dict[str, Runtime] = {
    "pytorch": Runtime("PyTorch, as trained", "checkpoint", "torch", "pip install torch", _open_original),
    "pt2": Runtime("PyTorch, fused .pt2", "fused", "torch", "pip install torch", _open_fused),
    "onnxruntime": Runtime("ONNX Runtime", "onnx", "onnxruntime", "pip install onnxruntime", _open_ort),
    "openvino": Runtime("OpenVINO", "onnx", "openvino", _GET_OPENVINO, _open_openvino),
    "openvino-bf16": Runtime("OpenVINO, bf16", "onnx", "openvino", _GET_OPENVINO, _open_openvino_bf16, exact=False),
}


def runtime(name: str) -> Runtime:
    """The entry of `name`.

    Raises:
        UsageError: there is none.
    """
    if name not in RUNTIMES:
        raise UsageError(f"There is no runtime '{name}'; choose from {', '.join(RUNTIMES)}.")
    return RUNTIMES[name]
