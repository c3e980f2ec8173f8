"""What runs on a node of a Ray cluster: an actor that does tasks, with the files that are sent to it or lie there.

    a model       its files come from the object store into a folder, are opened, and the folder is removed
    image files   read at their own paths where they have the same size and time there; else their content comes along

Errors are answers; what Ray raises is about the actor itself.
"""

from __future__ import annotations

import importlib
import importlib.metadata
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from kdna_deploy.evaluation.workers.runner import Runner, answered
from kdna_deploy.evaluation.workers.task import Done, FileShard, ModelFile, Shard, Task
from kdna_deploy.files import scratch_folder
from kdna_deploy.images.file import ImageBytes
from kdna_deploy.network.configuration import configured
from kdna_deploy.runtimes.processor import first_processor
from kdna_deploy.runtimes.session import Session
from kdna_deploy.version import VERSION

BASE = "base"  # folder, beside a model, of what its adapters are put beside
_PACKAGES = ("numpy", "pillow", "onnxruntime", "openvino", "ncnn", "MNN", "ai-edge-litert", "executorch", "torch")

Files = Mapping[ModelFile, tuple[tuple[str, Any], ...]]  # places in the folder of a model → references to the contents
Stamp = tuple[int, int] | None  # size and time of a file; None where there is none


@dataclass(frozen=True)
class Node:
    """Where an actor is: its node, versions of packages (empty where they are missing), and the processor."""

    name: str
    versions: tuple[tuple[str, str], ...]
    processor: str


@dataclass(frozen=True)
class Lying:
    """A shard whose files are to be read at `places`, if they are the same there."""

    shard: FileShard
    places: tuple[Path, ...]
    stamps: tuple[Stamp, ...]


class Elsewhere(Exception):
    """The files of a shard do not lie where the actor is."""


class Actor:
    """Does tasks as a `Runner`."""

    def __init__(self) -> None:
        self._ray: Any = importlib.import_module("ray")
        self._runner = Runner(opener=self._open, threads=1)
        self._files: Files = {}

    def node(self) -> Node:
        """Where it is."""
        return Node(self._ray.get_runtime_context().get_node_id(), versions(), processor())

    def do(self, task: Task, files: Files, shard: Shard | Lying) -> Done | BaseException:
        """What came of `task` on `shard`, `files` being those of its models; or the error that was met."""
        self._files = files
        if isinstance(shard, Lying):
            if tuple(map(stamp, shard.places)) != shard.stamps:
                return Elsewhere()
            shard = with_contents(shard.shard, shard.places)
        return answered(self._runner, replace(task, shard=shard))

    def _open(self, model: ModelFile) -> Session:
        with scratch_folder("candidate") as folder:
            for name, content in self._files[model]:
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                (folder / name).write_bytes(memoryview(self._ray.get(content)))
            there = replace(model, path=folder / model.path.name)
            if base := next(iter(folder.glob(f"{BASE}/*")), None):
                there = replace(there, arch=replace(configured(model.arch), base=str(base)))
            return there.open()


def lying(shard: FileShard) -> Lying:
    """`shard`, to be read wherever the same files are."""
    places = tuple(_path(source).absolute() for source, _ in shard.files)
    return Lying(shard, places, tuple(map(stamp, places)))


def with_contents(shard: FileShard, places: tuple[Path, ...] = ()) -> FileShard:
    """`shard` with the contents of its files, which lie at `places`, in place of their paths.

    A file that cannot be read stays a path.
    """
    files = []
    for (source, label), place in zip(shard.files, places or lying(shard).places, strict=True):
        try:
            content = ImageBytes(place.read_bytes(), _path(source)) if place.is_file() else source
        except OSError:
            content = source
        files.append((content, label))
    return replace(shard, files=tuple(files))


def stamp(place: Path) -> Stamp:
    """Size and time of the file at `place`."""
    try:
        found = place.stat()
    except OSError:
        return None
    return found.st_size, found.st_mtime_ns


def versions() -> tuple[tuple[str, str], ...]:
    """Of this package, and of what decodes images and runs networks."""
    return (("kdna-deploy", VERSION), *((name, _version(name)) for name in _PACKAGES))


def processor() -> str:
    """Its name; empty where the system does not tell."""
    return first_processor().get("model name", "")


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _path(source: Path | ImageBytes) -> Path:
    return source.path if isinstance(source, ImageBytes) else source
