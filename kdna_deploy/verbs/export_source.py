"""What an export is made of: the checkpoint, fused graph, ONNX file or network that was given, and the names for it.

Everything that can be told from the files' names is checked before anything is loaded (`check_given`); `opened_source`
loads and fuses, unless that was done before.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kdna_deploy.errors import UsageError
from kdna_deploy.images.class_names import read_class_names
from kdna_deploy.input_files import Kind, check_input
from kdna_deploy.kinds import named_kind, stem
from kdna_deploy.progress import Listener
from kdna_deploy.verbs.engine_words import EngineWords
from kdna_deploy.words import parameters, said

if TYPE_CHECKING:
    from kdna_deploy.network.load import Network
    from kdna_deploy.targets.source import FusedSource, Request

_IN_MEMORY = "network"  # a network that lies in no file gives its artifact no name
# What is said of an engine itself. Whatever else is said shapes the graph, which an ONNX file has already.
_OF_ENGINES = ("network", "output", "batch", "tensorrt", "tensorrt_rtx", "tf32", "compute_capability", "layers")


def said_of_graph(words: Mapping[str, Any], export: Callable[..., Any]) -> list[str]:
    """Names of the arguments `words` of `export` that shape a graph and are not as by default; False with its value."""
    usual = {name: one.default for name, one in inspect.signature(export).parameters.items()}
    others = {name: words[name] for name in words if name not in (*_OF_ENGINES, "listener", "architecture")}
    named = others | words["architecture"]
    return said({name: value for name, value in named.items() if usual.get(name) is None or value != usual[name]})


def check_given(given: Any, engine: EngineWords, of_graph: Sequence[str], checkpoint: Path | None) -> None:
    """Refuse what no file is made from, and an ONNX file with words `of_graph`, which it has.

    Raises:
        InputError: a file is not there, or of another kind.
        UsageError: it is an ONNX file, of which no engine, or another one than its own, is to be built; or it is no
            fused graph, and has a `checkpoint` beside it.
    """
    if isinstance(given, Path):
        check_input(given, (Kind.fused, Kind.checkpoint, Kind.onnx), "export")
        if given.suffix == ".onnx" and engine.library is None:
            raise UsageError(f"'{given}' is an ONNX file already; give the fused graph or the checkpoint.")
        if given.suffix == ".onnx" and of_graph:
            raise UsageError(
                f"'{given}' is an ONNX file already, and an engine is built of its graph as that is; leave "
                f"{parameters(of_graph)} out, or give the fused graph or the checkpoint."
            )
    check_source(given, checkpoint)


def check_source(given: Any, checkpoint: Path | None) -> None:
    """Refuse what cannot be the checkpoint of `given`.

    Raises:
        InputError: it is not there, or no checkpoint.
        UsageError: `given` is no fused graph in a file.
    """
    if checkpoint is None:
        return
    check_input(checkpoint, (Kind.checkpoint,), "`source`")
    if not isinstance(given, Path) or named_kind(given) is not Kind.fused:
        this = f"'{given}' is none" if isinstance(given, Path) else "this network is in memory"
        raise UsageError(f"`source` names the checkpoint of a fused graph in a file, and {this}; leave it out.")


def class_names(labels: Path | None) -> tuple[str, ...]:
    """Those in the file `labels`; none where none was said."""
    return () if labels is None else read_class_names(labels)


def named(opened: FusedSource, names: tuple[str, ...], labels: Path | None) -> FusedSource:
    return opened if labels is None else opened.with_class_names(names, labels)


def name_of(given: Any) -> str:
    """After the checkpoint of a network or a fused graph."""
    return stem(getattr(given, "network", given).checkpoint.path) or _IN_MEMORY


def opened_source(given: Path | Network | FusedSource, request: Request, listener: Listener) -> FusedSource:
    from kdna_deploy.targets.source import FusedSource, fuse_network, fused_as_asked, open_fused_source

    if isinstance(given, Path):
        return open_fused_source(given, request, listener)
    if not isinstance(given, FusedSource):
        return fuse_network(given, request, listener)
    return fused_as_asked(given, Path(name_of(given)), request, listener)
