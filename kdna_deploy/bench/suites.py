"""Suites: sets of networks that are built with fresh weights, exported, verified and measured by one command.

table1     every architecture beside its plain backbone, and beside what the paper's Table 1 prints
layouts    ResNet-18 with the layouts of Table 3, beside the plain backbone
runtimes   every architecture on every runtime, beside PyTorch running it as it was trained
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from kdna_deploy.bench.paper import TABLE1, TABLE3, Printed
from kdna_deploy.bench.plan import BenchOptions, Group, candidate
from kdna_deploy.bench.subject import Shape, Subject, Untrained, untrained
from kdna_deploy.errors import UsageError
from kdna_deploy.export.onnx.export import OnnxOptions
from kdna_deploy.network.families import ARCHITECTURES, Architecture, KernelDNA
from kdna_deploy.runtimes.catalogue import RUNTIMES

SHAPE: Shape = (3, 224, 224)
_STAGES = ("layer3", "layer4")  # of ResNet-18, which Table 3 varies
_REFERENCE = "pytorch"

Step = Callable[[str], None]


@dataclass(frozen=True)
class Entry:
    """A network of a suite. `table_flops` is the paper's wider count, `printed` the paper's row, where it has one."""

    name: str
    parameters: int
    macs: int
    table_flops: int
    printed: Printed | None


@dataclass(frozen=True)
class Suite:
    """Networks ready to be measured; `entries` has one for every distinct network."""

    name: str
    groups: tuple[Group, ...]
    entries: tuple[Entry, ...]
    options: BenchOptions


def build_suite(name: str, options: BenchOptions, folder: Path, on_step: Step = lambda _: None) -> Suite:
    """Build the networks of suite `name` in `folder`.

    Raises:
        UsageError: there is none of that name.
    """
    if name not in SUITES:
        raise UsageError(f"There is no suite '{name}'; choose from {', '.join(SUITES)}.")
    _check_runtimes(name, options)
    return SUITES[name](options, folder, on_step)


def _check_runtimes(name: str, options: BenchOptions) -> None:
    if name == "runtimes":
        return
    if len(options.runtimes) > 1:
        raise UsageError(f"`suite={name!r}` takes one `runtime`; `suite='runtimes'` compares them.")
    if name == "layouts" and any(RUNTIMES[one].artifact == "checkpoint" for one in options.runtimes):
        raise UsageError("The layouts of `suite='layouts'` have no checkpoints; choose another `runtime`.")


def _table1(options: BenchOptions, folder: Path, on_step: Step) -> Suite:
    groups, entries = [], []
    for architecture in _kerneldna():
        pair = (architecture.plain, architecture)
        subjects = [_subject(network, options, folder) for network in pair]
        entries += [_entry(subject, TABLE1.get(subject.name)) for subject in subjects]
        groups.append(_group(subjects, options, on_step))
    return Suite("table1", tuple(groups), tuple(entries), options)


def _layouts(options: BenchOptions, folder: Path, on_step: Step) -> Suite:
    base = ARCHITECTURES["resnet18"]
    assert base.sharing is not None
    plain, *others = TABLE3
    networks = [replace(base.plain, name=plain)]
    networks += [
        replace(base, name=layout, sharing=KernelDNA(tuple((stage, layout) for stage in _STAGES))) for layout in others
    ]
    subjects = [_subject(network, options, folder) for network in networks]
    entries = tuple(_entry(subject, TABLE3[subject.name]) for subject in subjects)
    return Suite("layouts", (_group(subjects, options, on_step),), entries, options)


def _runtimes(options: BenchOptions, folder: Path, on_step: Step) -> Suite:
    names = tuple(dict.fromkeys((_REFERENCE, *(options.runtimes or RUNTIMES))))
    chosen = replace(options, runtimes=names, baseline=_REFERENCE)
    groups, entries = [], []
    for architecture in _kerneldna():
        subject = _subject(architecture, options, folder)
        entries.append(_entry(subject, TABLE1.get(subject.name)))
        groups.append(Group(tuple(candidate(subject, name, chosen, on_step, several=True) for name in names)))
    return Suite("runtimes", tuple(groups), tuple(entries), chosen)


SUITES: dict[str, Callable[[BenchOptions, Path, Step], Suite]] = {
    "table1": _table1,
    "layouts": _layouts,
    "runtimes": _runtimes,
}


def _kerneldna() -> list[Architecture]:
    return [entry for entry in ARCHITECTURES.values() if entry.sharing]


def _subject(architecture: Architecture, options: BenchOptions, folder: Path) -> Subject:
    shape = (SHAPE[0], *options.size) if options.size else SHAPE
    return untrained(architecture, shape, OnnxOptions(), folder / architecture.name, architecture.name)


def _group(subjects: list[Subject], options: BenchOptions, on_step: Step) -> Group:
    runtime = options.runtimes[0] if options.runtimes else "onnxruntime"
    return Group(tuple(candidate(subject, runtime, options, on_step) for subject in subjects))


def _entry(subject: Subject, printed: Printed | None) -> Entry:
    """`printed` is left out for another image size than the paper's."""
    assert isinstance(subject.artifacts, Untrained)
    cost = subject.artifacts.cost
    comparable = printed if subject.image_shape == SHAPE else None
    return Entry(subject.name, cost.parameters, cost.macs, cost.table_flops, comparable)
