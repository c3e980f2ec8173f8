"""What a user says of engines, and what that excludes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from kdna_deploy.errors import UsageError
from kdna_deploy.progress import Listener
from kdna_deploy.verbs.arguments import DYNAMIC

if TYPE_CHECKING:
    from kdna_deploy.runtimes.nvidia.batches import Batches
    from kdna_deploy.runtimes.nvidia.library import LibraryName
    from kdna_deploy.targets.tensorrt.export import EngineExport

# As in `runtimes.nvidia.engine_record` and `export.tensorrt.export`, which import torch.
_RECORD, _LAYERS = ".json", ".layers.json"
ENGINE_STEPS = ("build the engine", "inspect the engine", "write")  # for a listener's plan


@dataclass(frozen=True)
class EngineWords:
    """The library to build with, if any, and how."""

    tensorrt: bool
    rtx: bool
    tf32: bool
    capabilities: tuple[str, ...]
    layers: bool

    @property
    def library(self) -> LibraryName | None:
        """The library to build with; None where no engine is wanted."""
        if self.tensorrt:
            return "tensorrt"
        return "tensorrt-rtx" if self.rtx else None

    def check(self) -> None:
        """Refuse what makes no sense.

        Raises:
            UsageError: two libraries at once, or an engine's option without an engine.
        """
        if self.tensorrt and self.rtx:
            raise UsageError("An engine is of one library; give `tensorrt` or `tensorrt_rtx`, and run again for both.")
        if self.library is None and (not self.tf32 or self.capabilities or self.layers):
            raise UsageError(
                "`tf32=False`, `compute_capability` and `layers` concern engines; add `tensorrt` or `tensorrt_rtx`."
            )

    def output(self, model: Path, name: str) -> Path:
        """Where the engine of `model` is written when the user does not say."""
        from kdna_deploy.runtimes.nvidia.library import library

        assert self.library is not None
        return Path(name + library(self.library).suffix) if model.suffix != ".onnx" else self._beside(model)

    def _beside(self, model: Path) -> Path:
        from kdna_deploy.targets.tensorrt.export import engine_path

        assert self.library is not None
        return engine_path(Path(model.name), self.library)

    def graph_path(self, engine: Path) -> Path:
        """Where the ONNX file that an engine is built from is written: beside it, for it is built from it again."""
        from kdna_deploy.runtimes.nvidia.library import LIBRARIES

        suffixes = sorted((entry.suffix for entry in LIBRARIES.values()), key=len, reverse=True)
        suffix = next((s for s in suffixes if engine.name.endswith(s)), engine.suffix)
        return engine.with_name(f"{engine.name.removesuffix(suffix)}.tensorrt.onnx")

    def files(self, engine: Path | None) -> tuple[Path, ...]:
        """What is written for an engine, its ONNX file aside; none without one."""
        if engine is None:
            return ()
        beside = (_RECORD, _LAYERS) if self.layers else (_RECORD,)
        return (engine, *(engine.with_name(engine.name + suffix) for suffix in beside))

    def require(self, batch: str) -> None:
        """Refuse what could not be built before any work is done for it; `batch` as the user wrote it.

        Raises:
            UsageError: a batch range that is none, or a compute capability that the library does not build for.
            RuntimeFailure: the library is not installed, does not fit, or needs a GPU that is not there.
        """
        from kdna_deploy.runtimes.nvidia.library import check_capabilities, open_library

        assert self.library is not None
        _batches(batch)
        check_capabilities(open_library(self.library), self.capabilities)

    def fixed(self, batch: str) -> int | None:
        """The one batch size that the engine is for; None where it has a range. `batch` as the user wrote it."""
        batches = _batches(batch) if self.library else None
        return batches.largest if batches and batches.fixed else None

    def build(self, graph: Path, engine: Path, batch: str, listener: Listener) -> EngineExport:
        """Build the engine of the ONNX file `graph`; `batch` as the user wrote it."""
        from kdna_deploy.targets.tensorrt.build import BuildOptions
        from kdna_deploy.targets.tensorrt.export import EngineOptions, export_engine

        assert self.library is not None
        build = BuildOptions(_batches(batch), self.tf32, self.capabilities)
        return export_engine(graph, engine, EngineOptions(self.library, build, self.layers), listener)


def _batches(text: str) -> Batches | None:
    """What the user wrote; None for the default range."""
    from kdna_deploy.runtimes.nvidia.batches import parse_batches

    return None if text == DYNAMIC else parse_batches(text)
