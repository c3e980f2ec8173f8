"""What a command hands to the library, recorded where it does so, and the options that the commands have.

The command runs in this process up to the library's function that does the work, which is replaced by one that records
its arguments, by the names of its own signature, and ends the command. Everything before that is the real command.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import importlib
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer

from kdna_deploy.cli.app import app
from kdna_deploy.cli.command import Command
from kdna_deploy.cli.console import Sink
from kdna_deploy.evaluation.verify import FileVerification
from kdna_deploy.graph.freezing import AttentionOptions
from kdna_deploy.graph.graph import Graph
from kdna_deploy.graph.provenance import Provenance
from kdna_deploy.images.split import Split
from kdna_deploy.network.load import Network
from kdna_deploy.progress import Listener
from kdna_deploy.runtimes.nvidia.gpu import Gpu
from kdna_deploy.targets.source import FusedSource
from tests.samples import fused_sample

SHAPE = (3, 16, 16)  # that channel attention is asked for
WORST = np.ones((1, *SHAPE), np.float32)  # the image that departs most

# Module and function → what it returns; None ends the command there. A function is followed where it is used.
_LIBRARY: dict[str, Callable[[], Any] | None] = {
    "kdna_deploy.network.load.load_network": lambda: fused_sample().network,
    "kdna_deploy.graph.inspection.inspect_network": None,
    "kdna_deploy.targets.source.fuse_checkpoint": fused_sample,
    "kdna_deploy.targets.merged.save_merged": lambda: "merged",
    "kdna_deploy.graph.file.save_fused": None,
    "kdna_deploy.targets.source.open_fused_source": fused_sample,
    "kdna_deploy.targets.onnx.export.export_fused": None,
    "kdna_deploy.targets.onnx.int8.export.export_int8": None,
    "kdna_deploy.targets.onnx.codes.export.export_codes": None,
    "kdna_deploy.targets.onnx.half.export.export_half": None,
    "kdna_deploy.targets.onnx.prepare.prepare_onnx": None,
    "kdna_deploy.targets.serving.package.package_files": None,
    "kdna_deploy.targets.inspect_file.inspect_file": None,
    "kdna_deploy.benchmark.baseline.write_baseline": None,
    "kdna_deploy.targets.openvino.export.export_openvino": None,
    "kdna_deploy.targets.converted.export_converted": None,
    "kdna_deploy.verbs.own_formats.missing": lambda: None,
    # Whether the library and a GPU are there is asked before the engine is built.
    "kdna_deploy.runtimes.nvidia.library.open_library": lambda: "the library",
    "kdna_deploy.runtimes.nvidia.library.check_capabilities": dict,
    "kdna_deploy.targets.tensorrt.export.export_engine": None,
    "kdna_deploy.evaluation.verify.verify_files": lambda: FileVerification("net", "ckpt", (), WORST),
    "kdna_deploy.targets.bisect_file.bisect_file": None,
    "kdna_deploy.evaluation.verify.save_image": None,
    "kdna_deploy.targets.reproduction.check_reproduction": None,
    "kdna_deploy.evaluation.evaluate.evaluate_files": None,
    "kdna_deploy.evaluation.classify.classify": None,
    "kdna_deploy.benchmark.run.bench": None,
    "kdna_deploy.benchmark.run.bench_suite": None,
    "kdna_deploy.benchmark.compare.compare_runs": None,
    "kdna_deploy.benchmark.paper.known_networks": None,
    "kdna_deploy.verbs.search.search": None,
    "kdna_deploy.verbs.shipping.shipped": None,
    "kdna_deploy.verbs.report_gathering.gather": None,
}


class _Handed(BaseException):
    """The command has handed over; no handler of errors stops it."""


Request = dict[str, Any]


def options_of(command: str) -> Iterator[str]:
    """The options of a command, each by its first long name."""
    for parameter in commands()[command].params:
        if parameter.param_type_name == "option":
            yield next((name for name in parameter.opts if name.startswith("--")), parameter.opts[0])


def commands() -> Mapping[str, Any]:
    """Name → command, as typer makes them."""
    return _command().commands


@functools.cache
def _command() -> Any:
    return typer.main.get_command(app)


def parsed(command: str, words: Sequence[str]) -> Request:
    """What the function of a command is called with, which does not run; the values in a context may be texts still."""
    received: Request = {}
    function = getattr(importlib.import_module(f"kdna_deploy.cli.{command}"), command)
    alone = typer.Typer(add_completion=False)
    alone.command(cls=Command)(functools.wraps(function)(lambda **options: received.update(options)))
    typer.main.get_command(alone).main(list(words), command, standalone_mode=False)
    return received


def invoke(*arguments: str | Path) -> int:
    """Run a command in this process; its exit code. Its errors come through."""
    try:
        return _command().main([str(argument) for argument in arguments], "kdna-deploy", standalone_mode=False) or 0
    except Exception as raised:
        inner = getattr(raised, "error", None)  # what the commands carry past typer
        if isinstance(inner, typer.Exit):
            return int(inner.exit_code)
        if isinstance(inner, BaseException):
            raise inner from None
        raise


def handed(monkeypatch: pytest.MonkeyPatch, *arguments: str | Path) -> Request:
    """Run a command; what the library received: function and parameter → value, the fields of dataclasses apart."""
    received: Request = {}
    fused_sample()  # made before the library is out of reach
    with monkeypatch.context() as patch, _recording(patch, received), contextlib.suppress(_Handed):
        invoke(*arguments)
    assert len(received) > 1, f"{arguments} handed nothing over"
    return received


@contextmanager
def _recording(patch: pytest.MonkeyPatch, received: Request) -> Iterator[None]:
    # All of them first: one that is imported while another is replaced would keep what stands in for it.
    modules = {path: importlib.import_module(path.rpartition(".")[0]) for path in _LIBRARY}
    for path, result in _LIBRARY.items():
        module, name = path.rsplit(".", 1)
        original = getattr(modules[path], name)
        patch.setattr(f"{module}.{name}", _recorder(original, name, result, received))
    made = Sink.__init__

    def init(sink: Sink, *arguments: Any, **named: Any) -> None:
        made(sink, *arguments, **named)
        received["Sink.as_json"] = received.get("Sink.as_json", False) or sink._as_json

    patch.setattr(Sink, "__init__", init)
    # `bench --gpu` looks for a GPU before it hands anything over.
    patch.setattr("kdna_deploy.runtimes.nvidia.gpu.first_gpu", lambda: Gpu("none", "0.0"))
    yield


def _recorder(
    original: Callable[..., Any], name: str, result: Callable[[], Any] | None, received: Request
) -> Callable[..., Any]:
    signature = inspect.signature(original)

    def record(*arguments: Any, **named: Any) -> Any:
        bound = signature.bind(*arguments, **named)
        bound.apply_defaults()
        received[name] = True
        for parameter, value in bound.arguments.items():
            received.update(_flat(f"{name}.{parameter}", value))
        if result is None:
            raise _Handed
        return result()

    return record


def _flat(key: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Parts of a value under names of their own; what only reports progress is left out."""
    if isinstance(value, Split):
        yield f"{key}.calibration", np.concatenate(list(value.calibration()))
        judging = list(value.held_out())
        yield f"{key}.held_out", np.concatenate([images for images, _ in judging])
        yield (
            f"{key}.labels",
            [
                label
                for images, labels in judging
                for label in (len(images) * [None] if labels is None else labels.tolist())
            ],
        )
        yield f"{key}.labelled", value.labelled
        yield from _flat(f"{key}.record", value.record)
    elif isinstance(value, AttentionOptions):
        yield f"{key}.choice", value.choice
        yield f"{key}.below", value.below
        yield f"{key}.images", np.concatenate(list(value.batches())) if value.batches else None
        yield from _flat(f"{key}.record", value.record)
    elif key.endswith("request.attention") and callable(value):
        yield from _flat(key, value(SHAPE, None))  # a checkpoint that records no preprocessing
    elif key.endswith("half.images") and callable(value):
        yield key, np.concatenate(list(value()))
    elif callable(value) or isinstance(value, (FusedSource, Graph, Listener, Network, Provenance)):
        return  # made from what came before, or told of progress
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        for field in dataclasses.fields(value):
            yield from _flat(f"{key}.{field.name}", getattr(value, field.name))
    elif isinstance(value, Mapping):
        for name, part in value.items():
            yield from _flat(f"{key}.{name}", part)
    else:
        yield key, value.value if isinstance(value, Enum) else value


def changed(before: Request, after: Request) -> set[str]:
    """Where two requests differ."""
    names = before.keys() | after.keys()
    return {name for name in names if not _equal(before.get(name), after.get(name))}


def _equal(one: Any, other: Any) -> bool:
    if isinstance(one, np.ndarray) and isinstance(other, np.ndarray):
        return np.array_equal(one, other)
    return type(one) is type(other) and bool(one == other)
