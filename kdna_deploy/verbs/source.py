"""What a verb may be given as a network: a file, what another verb returned, or a module."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from kdna_deploy.errors import ArchitectureError, UsageError
from kdna_deploy.network.configuration import Configuration, beside
from kdna_deploy.verbs.load import LoadedNetwork, load

if TYPE_CHECKING:
    from typing import TypeAlias

    from torch import nn

    from kdna_deploy.network.load import Network
    from kdna_deploy.targets.source import FusedSource

    class MadeOf(Protocol):
        """What `fuse` returned."""

        @property
        def source(self) -> FusedSource: ...

    class Written(Protocol):
        """What a verb wrote."""

        @property
        def path(self) -> Path | None: ...

    Source: TypeAlias = "str | os.PathLike[str] | LoadedNetwork | MadeOf | nn.Module"
    Files: TypeAlias = "str | os.PathLike[str] | Written"


def source_of(given: Source, arch: Configuration, model: str | None, ema: bool) -> Path | Network | FusedSource:
    """The file, the network or the fused graph that was given.

    Raises:
        UsageError: it is none of these, or `arch`, `model` or `ema` are said of what is loaded already.
    """
    if isinstance(given, (str, os.PathLike)):
        return Path(given)
    check_unsaid(arch, model, ema)
    if isinstance(given, LoadedNetwork):
        return given.network
    fused: FusedSource | None = getattr(given, "source", None)
    return fused if fused is not None and hasattr(fused, "graph") else load(given).network  # type: ignore[arg-type]


def check_unsaid(arch: Configuration, model: str | None, ema: bool) -> None:
    """Refuse what says how to load a checkpoint, of a network that is loaded already.

    Raises:
        UsageError: it was said.
    """
    if arch or model or ema:
        raise UsageError(
            "`arch`, `outputs`, `model` and `ema` say how to load a checkpoint; this network is loaded already."
        )


def size_of(given: Any) -> tuple[int, int] | None:
    """The image size (h, w) that a network was loaded for; None where nothing was said, or it is in a file."""
    return given.input_size if isinstance(given, LoadedNetwork) else None


def file_of(given: Any, verb: str) -> Path:
    """The file that was given, by its path or as what a verb has written.

    Raises:
        UsageError: it is no file.
    """
    if isinstance(given, (str, os.PathLike)):
        return Path(given)
    path = getattr(given, "path", None)
    if isinstance(path, Path):
        return path
    raise UsageError(f"A {type(given).__name__} lies in no file, and {verb} takes files; write it first.")


def original_in_memory(given: Any) -> Network | None:
    """The network that `given` was made from, where that lies in no checkpoint; None where it does, or is not known."""
    network = getattr(getattr(given, "source", None), "network", None)
    return None if network is None or network.checkpoint.sha256 else network


def files_of(given: Any, checkpoint: Path | None = None) -> tuple[Path, ...]:
    """What no output may replace: the files that `given` is, or was, loaded from, and `checkpoint`."""
    return (*_loaded_from(given), *([] if checkpoint is None else [checkpoint]))


def _loaded_from(given: Any) -> tuple[Path, ...]:
    if not isinstance(given, Path):
        network: Network = getattr(given, "network", given)
        return network.checkpoint.files
    if given.is_file():
        with contextlib.suppress(ArchitectureError):  # what is wrong with it is told when the network is loaded
            return given, *beside(given)[0].files
    return (given,)
