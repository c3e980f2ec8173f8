"""Files that one runtime alone opens, read without it: how large they are, what lies beside them, what they record.

A further format is a further entry, and a module that reads it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from kdna_deploy.graph.provenance import Provenance
from kdna_deploy.graph.stored_kernels import KernelStorage
from kdna_deploy.kinds import Kind, beside_own, named_kind
from kdna_deploy.runtimes.executorch_file import read_executorch
from kdna_deploy.runtimes.litert_file import read_litert
from kdna_deploy.runtimes.mnn_file import read_mnn
from kdna_deploy.runtimes.ncnn_file import read_ncnn
from kdna_deploy.runtimes.openvino_file import read_openvino


@dataclass(frozen=True)
class OwnFile:
    """What such a file says of itself.

    Attributes:
        bytes: of it and of what lies beside it.
        beside: files that it cannot do without.
        provenance: None where it is not ours.
        storage: the kernels that it stores, where that can be told.
    """

    bytes: int
    beside: tuple[Path, ...] = ()
    provenance: Provenance | None = None
    storage: KernelStorage | None = None


def own_file(path: Path, weights: bool = True) -> OwnFile | None:
    """Read the file at `path`; None where it is of another kind.

    Without `weights`, those beside it are not compared with what is recorded, nor the bytes of a file that has its own.

    Raises:
        ArtifactError: it is damaged, or what lies beside it is not what belongs to it.
    """
    read = _READERS.get(named_kind(path))
    return read(path, weights) if read else None


def _openvino(path: Path, weights: bool) -> OwnFile:
    found = read_openvino(path, weights)
    return OwnFile(found.bytes, beside_own(path), found.provenance)


def _ncnn(path: Path, weights: bool) -> OwnFile:
    found = read_ncnn(path, weights)
    return OwnFile(found.bytes, beside_own(path), found.provenance, found.storage)


def _mnn(path: Path, weights: bool) -> OwnFile:
    found = read_mnn(path, weights)
    return OwnFile(path.stat().st_size, (), found.provenance, found.storage)


def _litert(path: Path, weights: bool) -> OwnFile:
    found = read_litert(path, weights)
    return OwnFile(path.stat().st_size, (), found.provenance, found.storage)


def _executorch(path: Path, weights: bool) -> OwnFile:
    return OwnFile(path.stat().st_size, (), read_executorch(path, weights))


_READERS: Mapping[Kind, Callable[[Path, bool], OwnFile]] = {
    Kind.openvino: _openvino,
    Kind.ncnn: _ncnn,
    Kind.mnn: _mnn,
    Kind.litert: _litert,
    Kind.executorch: _executorch,
}
