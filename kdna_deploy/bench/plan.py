"""What is measured, beside what: candidates in groups, each group interleaved with its own baseline.

    group = baseline + every candidate that is compared with it, on one runtime
    or, where the baseline is a runtime (--baseline pytorch), one network on all its runtimes

A runtime that is not installed, or whose file cannot be made, stays in the plan with the reason.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from kdna_deploy.bench.cpu.latency import LatencySettings
from kdna_deploy.bench.saved import SavedRun
from kdna_deploy.bench.statistics import Statistic
from kdna_deploy.bench.subject import Subject, given, plain_backbone, plain_identity
from kdna_deploy.errors import KdnaError, UsageError
from kdna_deploy.images.batch import Images
from kdna_deploy.runtimes.catalogue import Artifact, Source, runtime

Protocol = Literal["interleaved", "paper"]
PAPER_SETTINGS = LatencySettings(iterations=1000, min_time=0.0)
# What opens the file that a user named, unless told otherwise.
_NATIVE: dict[Artifact, str] = {"onnx": "onnxruntime", "fused": "pt2", "checkpoint": "pytorch"}


@dataclass(frozen=True)
class BenchOptions:
    """What to measure, and how.

    Attributes:
        threads: of an inference, each on a core of its own.
        batch: images in one inference.
        runtimes: names in `RUNTIMES`; empty for the one that opens the file.
        baseline: a file or a saved run to compare with, or the name of a runtime; None for the plain backbone.
        settings: how long.
        protocol: ``paper`` compares means.
        cold_start: whether to measure loading and memory in fresh processes.
        profile: whether to profile each ONNX file.
        factory, arch, size: how to load a checkpoint, and (h, w) of its images.
    """

    threads: int = 1
    batch: int = 1
    runtimes: tuple[str, ...] = ()
    baseline: Path | SavedRun | str | None = None
    settings: LatencySettings = field(default_factory=LatencySettings)
    protocol: Protocol = "interleaved"
    cold_start: bool = False
    profile: bool = False
    factory: str | None = None
    arch: str | None = None
    size: tuple[int, int] | None = None

    @property
    def statistic(self) -> Statistic:
        return "mean" if self.protocol == "paper" else "median"

    @property
    def record(self) -> dict[str, Any]:
        """As it is stored, in types that JSON has."""
        baseline = self.baseline.path if isinstance(self.baseline, SavedRun) else self.baseline
        return {
            "threads": self.threads,
            "batch": self.batch,
            "runtimes": list(self.runtimes),
            "baseline": str(baseline or "plain backbone"),
            "iterations": self.settings.iterations,
            "min_time_s": self.settings.min_time,
            "protocol": self.protocol,
        }


@dataclass(frozen=True)
class Candidate:
    """A network on a runtime. `unavailable` is the reason why it cannot be measured."""

    name: str
    subject: Subject
    runtime: str
    images: Images
    source: Source | None = None
    unavailable: str = ""


@dataclass(frozen=True)
class Group:
    """Candidates measured together; the first is the baseline unless a saved run is."""

    candidates: tuple[Candidate, ...]
    saved: SavedRun | None = None


def plan(
    models: Sequence[Path], options: BenchOptions, folder: Path, on_step: Callable[[str], None] = lambda _: None
) -> tuple[Group, ...]:
    """Groups for a user's `models`; files that must be made for them go into `folder`.

    Raises:
        InputError: a model cannot be opened.
        UsageError: a batch that a model does not take, or no baseline is known.
    """
    files = [options.baseline, *models] if isinstance(options.baseline, Path) else models
    subjects = _subjects(files, options, folder)
    for subject in subjects:
        _check_batch(subject, options)
    if options.baseline is None or isinstance(options.baseline, Path):
        return _beside_a_network(subjects, options, folder, on_step)
    if isinstance(options.baseline, str):
        return tuple(
            Group(tuple(candidate(subject, name, options, on_step, several=True) for name in names))
            for subject in subjects
            for names in [dict.fromkeys((options.baseline, *_runtimes(subject, options)))]
        )
    pairs = [(subject, name) for subject in subjects for name in _runtimes(subject, options)]
    several = len({name for _, name in pairs}) > 1
    found = tuple(candidate(*pair, options, on_step, several) for pair in pairs)
    for one in found:
        options.baseline.row(one.subject.name, one.runtime)  # refuses now what cannot be compared afterwards
    return (Group(found, saved=options.baseline),)


def available(group: Group) -> list[Candidate]:
    """The candidates that can be measured."""
    return [candidate for candidate in group.candidates if candidate.source]


def candidate(
    subject: Subject,
    runtime_name: str,
    options: BenchOptions,
    on_step: Callable[[str], None] = lambda _: None,
    several: bool = False,
) -> Candidate:
    """A network on a runtime, tried once, so that what cannot run is found before the measuring begins.

    With `several` runtimes in a run, the runtime is part of the candidate's name.

    Raises:
        UsageError: there is no such runtime, or the network does not take the batch.
        InputError: the file that the user named cannot run.
    """
    _check_batch(subject, options)
    entry = runtime(runtime_name)
    images = np.random.default_rng(0).standard_normal((options.batch, *subject.image_shape), dtype=np.float32)
    name = f"{subject.name}, {runtime_name}" if several else subject.name
    found = Candidate(name, subject, runtime_name, images)
    if entry.missing:
        return replace(found, unavailable=entry.missing)
    try:
        on_step(f"prepare {found.name}")
        source = subject.artifacts.source(entry.artifact)
        entry.open(source, options.threads, ()).run(images)
    except KdnaError as error:
        if runtime_name == _native(subject):
            raise
        return replace(found, unavailable=str(error))
    return replace(found, source=source)


def _check_batch(subject: Subject, options: BenchOptions) -> None:
    if subject.batch not in (None, options.batch):
        raise UsageError(f"'{subject.name}' takes batches of {subject.batch} alone; add `batch_size={subject.batch}`.")


def _subjects(models: Sequence[Path], options: BenchOptions, folder: Path) -> list[Subject]:
    found: dict[str, Subject] = {}
    for number, path in enumerate(models):
        subject = given(path, folder / f"given-{number}", options.factory, options.arch, options.size)
        name = next(name for name in free_names(path) if name not in found)
        found[name] = replace(subject, name=name)
    return list(found.values())


def free_names(path: Path) -> Iterator[str]:
    """Names to choose from when the same file, or another of the same name, is measured too."""
    yield path.name
    yield str(path)
    yield from (f"{path} #{number}" for number in itertools.count(2))


def _beside_a_network(
    subjects: list[Subject], options: BenchOptions, folder: Path, on_step: Callable[[str], None]
) -> tuple[Group, ...]:
    """Groups by baseline and runtime, in the order in which the baselines are met first."""
    groups: dict[tuple[str, str], list[Candidate]] = {}
    plains: dict[str, Subject] = {}
    compared = subjects[1:] if options.baseline is not None else subjects
    several = len({name for subject in compared for name in _runtimes(subject, options)}) > 1
    for subject in compared:
        for name in _runtimes(subject, options):
            baseline = subjects[0] if options.baseline is not None else plain_of(subject, plains, folder)
            members = groups.setdefault((baseline.name, name), [])
            if not members:
                on_step(f"prepare {baseline.name}")
                members.append(candidate(baseline, name, options, on_step, several))
            members.append(candidate(subject, name, options, on_step, several))
    return tuple(Group(tuple(members)) for members in groups.values())


def plain_of(subject: Subject, plains: dict[str, Subject], folder: Path) -> Subject:
    """The plain backbone of `subject`, one for all networks that have the same."""
    identity = plain_identity(subject.provenance) if subject.provenance else ""
    if identity not in plains:
        made = plain_backbone(subject, folder / f"plain-{len(plains)}")
        taken = {plain.name for plain in plains.values()}
        # Another network of that name, of other widths, say, may be among them.
        numbered = itertools.chain([made.name], (f"{made.name} #{number}" for number in itertools.count(2)))
        plains[identity] = replace(made, name=next(name for name in numbered if name not in taken))
    return plains[identity]


def _runtimes(subject: Subject, options: BenchOptions) -> tuple[str, ...]:
    return options.runtimes or (_native(subject),)


def _native(subject: Subject) -> str:
    return _NATIVE[subject.kind]


def check_runtimes(names: Sequence[str]) -> None:
    """Refuse unknown runtimes before anything is made for the others.

    Raises:
        UsageError: there is none of that name.
    """
    for name in names:
        runtime(name)
