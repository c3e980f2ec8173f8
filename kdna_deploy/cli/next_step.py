"""What to do after a command, said in its last line: ``next: kdna-deploy bench net.onnx``.

    inspect → fuse → export → verify | run | evaluate | prepare → bench → report
    ship → verify
    package → the README in the folder, which is read and not typed

A function of the command line alone, so that a command need not know of the others: what was left out there is found
again as the command found it. After int8 and frozen attention comes `evaluate`, for they change the function; an engine
is verified on its GPU. Nothing is said after `--json`, `--check`, `--compare` and failures.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields
from enum import Enum
from pathlib import Path
from typing import Any

from kdna_deploy.cli.options.graph import Attention
from kdna_deploy.cli.options.precision import Precision
from kdna_deploy.errors import UsageError
from kdna_deploy.kinds import RELEASE, Kind, named_kind, prepared_name, stem
from kdna_deploy.network.configuration import Configuration
from kdna_deploy.verbs.arguments import newest
from kdna_deploy.verbs.own_formats import own_suffix

Said = Mapping[str, Any]  # the options of a command, by parameter
_ATTENTIONS = ("channel", "filter", "spatial")
_LOADING = (*(one.name for one in fields(Configuration) if one.name not in _ATTENTIONS), "model", "input_size")
# What the figures of a sweep depend on, and its limits.
_SWEPT = (
    *("data", "ground_truth", "synsets", "calibration", "mean", "std", "resize", "crop", "color"),
    *("max_size", "max_drop", "max_latency", "max_memory", "minimize", "to"),
    *("workers", "ray", "cpu_threads", "iterations", "min_time", "limit"),
)


def next_step(command: str, said: Said) -> str | None:
    """The command line that comes after `command` was done, or what to read; None where nothing does."""
    if said.get("json") or said.get("check") or said.get("compare"):
        return None
    if command == "package":
        readme = (said["to"] or Path(said["server"].value)) / "README.md"
        return f"read {shlex.quote(str(readme))}, which says how to start it"
    after = _AFTER.get(command)
    try:
        words = after(said) if after else None
    except UsageError:  # what was read is gone
        return None
    return None if words is None else "kdna-deploy " + shlex.join(map(str, words))


def _after_inspect(said: Said) -> Sequence[Any]:
    file = said["model_file"]
    kind = named_kind(file)
    if kind is Kind.checkpoint:
        return ["fuse", file, *_loading(said), *(["--ema"] if said["ema"] else [])]
    return ["export", file] if kind is Kind.fused else ["bench", file, *(["--gpu"] if kind is Kind.engine else [])]


def _after_fuse(said: Said) -> Sequence[Any]:
    written = said["output"] or Path(stem(said["ckpt"]) + ".fused.pt2")
    return ["export", written, *_own_network(said)]


def _after_export(said: Said) -> Sequence[Any]:
    model = said["model_file"] or newest("*.fused.pt2", "")
    if said["tensorrt"] or said["tensorrt_rtx"]:
        return ["verify", said["output"] or _engine(model, said["tensorrt"]), *_own_network(said)]
    written = said["output"] or Path(stem(model) + own_suffix(said))
    if said["precision"] is Precision.int8 or said["attention"] not in (None, Attention.keep):
        return ["evaluate", written, "--data", "DIR", "--against", model, *_as_trained(said, model)]
    prepared = [written.with_name(prepared_name(written).name)] if said["prepare"] else []
    return [
        "bench",
        written,
        *prepared,
        *_own_network(said),
        *(["--gpu"] if said["precision"] is Precision.fp16 else []),
    ]


def _engine(model: Path, tensorrt: bool) -> Path:
    from kdna_deploy.verbs.engine_words import EngineWords

    return EngineWords(tensorrt, not tensorrt, True, (), False).output(model, stem(model))


def _after_prepare(said: Said) -> Sequence[Any]:
    return ["bench", said["model_file"], said["output"] or prepared_name(said["model_file"])]


def _after_comparing(said: Said) -> Sequence[Any] | None:
    model = said["model_file"] or newest("*.onnx", "")
    if model.is_dir():  # a release, which was proved
        return None
    gpu = ["--gpu"] if model.suffix == ".engine" else []
    return ["bench", model, *_loading(said), *gpu]


def _after_run(said: Said) -> Sequence[Any]:
    return ["evaluate", said["model_file"], "--data", "DIR", *_loading(said), *_averaged(said)]


def _after_bench(said: Said) -> Sequence[Any] | None:
    kept = next((path for path in said["save"] or () if path.suffix == ".json"), None)
    if kept is not None:
        return ["report", *(said["models"] or ()), kept, "--no-bench", *_loading(said)]
    if said["suite"] or said["save"]:
        return None
    models = said["models"] or [newest("*.onnx", "")]
    return ["bench", *models, *_loading(said), *(["--gpu"] if said["gpu"] else []), "--save", "today.json"]


def _after_sweep(said: Said) -> Sequence[Any]:
    """A page of what was found; of what was not kept, the same with it kept, which measures nothing twice."""
    if said["save"]:
        return ["report", said["save"]]
    same = _valued(said, (name for name in _SWEPT if (name, said[name]) != ("cpu_threads", 1)))
    return ["sweep", said["ckpt"], *same, *_loading(said), *_averaged(said), "--save", "sweep.json"]


def _after_ship(said: Said) -> Sequence[Any]:
    return ["verify", said["to"] or Path(stem(said["ckpt"]) + RELEASE)]


def _as_trained(said: Said, model: Path) -> list[str]:
    """How `model` is loaded beside a file of it, whose size it has; a fused graph needs no more than its function."""
    if named_kind(model) is not Kind.checkpoint:
        return _own_network(said)
    return [*_loading({**said, "input_size": None}), *_averaged(said)]


def _averaged(said: Said) -> list[str]:
    return ["--ema"] if said["ema"] else []


def _loading(said: Said) -> list[str]:
    """How a checkpoint is loaded, again."""
    attentions = [f"--{name}" if said[name] else f"--no-{name}" for name in _ATTENTIONS if said[name] is not None]
    return [*_valued(said, _LOADING), *attentions]


def _valued(said: Said, names: Iterable[str]) -> list[str]:
    """Options with their values, of those that were said."""
    values = ((name, said[name]) for name in names if said[name] is not None)
    plain = ((name, value.value if isinstance(value, Enum) else value) for name, value in values)
    return [word for name, value in plain for word in (f"--{name.replace('_', '-')}", value)]


def _own_network(said: Said) -> list[str]:
    """A file of one's own network needs its function again."""
    return ["--model", said["model"]] if said["model"] is not None else []


_AFTER: Mapping[str, Callable[[Said], Sequence[Any] | None]] = {
    "inspect": _after_inspect,
    "fuse": _after_fuse,
    "export": _after_export,
    "prepare": _after_prepare,
    "verify": _after_comparing,
    "run": _after_run,
    "evaluate": _after_comparing,
    "bench": _after_bench,
    "sweep": _after_sweep,
    "ship": _after_ship,
}
