"""What a device is to the bench, and the words that the bench speaks of any device in.

    Device      where networks are measured, with the options that it alone has: `cpu.device.Cpu`, `gpu.device.Gpu`
    Variant     a runtime in a precision                 Candidate   a network in a variant, tried once
    Group       candidates that are interleaved          Watch       the device while it measures them

A further device is a further folder with these two classes and its runner; nothing else here knows of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from kdna_deploy.benchmark.protocol import Runner, Settings, Taken
from kdna_deploy.benchmark.saved import SavedRun
from kdna_deploy.benchmark.statistics import Ratio, Statistic
from kdna_deploy.benchmark.subject import Subject
from kdna_deploy.images.batch import Images
from kdna_deploy.network.configuration import Configuration
from kdna_deploy.progress import Listener
from kdna_deploy.runtimes.table import Cores, DeviceName, Opener, Precision, Source

ProtocolName = Literal["interleaved", "paper"]


class Figures(Protocol):
    """What a device tells of a row besides its latency."""

    @property
    def record(self) -> dict[str, Any]:
        """As it is stored with the row, in types that JSON has."""

    @property
    def metrics(self) -> Mapping[str, float | None]:
        """What thresholds may be set on, by name."""


class Findings(Protocol):
    """What a device tells of the whole run."""

    @property
    def record(self) -> dict[str, Any]:
        """As it is stored, in types that JSON has."""

    @property
    def environment(self) -> dict[str, Any]:
        """What belongs to the machine."""


@dataclass(frozen=True)
class Variant:
    """A runtime, and the precision that is computed in. `label` tells it from the other variants of a network."""

    runtime: str
    precision: Precision
    label: str


@dataclass(frozen=True)
class BenchOptions:
    """What to measure, and how.

    Attributes:
        device: to measure on.
        batch: images in one inference.
        runtimes: names of the device's; empty for its choice.
        baseline: a file or a saved run to compare with, or the name of a runtime; None for the plain backbone.
        settings: how long.
        protocol: ``paper`` compares means.
        factory, arch, size: how to load a checkpoint, and (h, w) of its images.
        methods: of the suite of Table 1, by their words in `table1.METHODS`; empty for its choice.
    """

    device: Device
    batch: int = 1
    runtimes: tuple[str, ...] = ()
    baseline: Path | SavedRun | str | None = None
    settings: Settings = field(default_factory=Settings)
    protocol: ProtocolName = "interleaved"
    factory: str | None = None
    arch: Configuration | None = None
    size: tuple[int, int] | None = None
    methods: tuple[str, ...] = ()

    @property
    def statistic(self) -> Statistic:
        return "mean" if self.protocol == "paper" else "median"

    @property
    def record(self) -> dict[str, Any]:
        """As it is stored, in types that JSON has."""
        baseline = self.baseline.path if isinstance(self.baseline, SavedRun) else self.baseline
        return {
            **self.device.record,
            "batch": self.batch,
            "runtimes": list(self.runtimes),
            "baseline": str(baseline or "plain backbone"),
            "iterations": self.settings.iterations,
            "min_time_s": self.settings.min_time,
            "protocol": self.protocol,
            "methods": list(self.methods),
        }


@dataclass(frozen=True)
class Candidate:
    """A network in a variant. `unavailable` is the reason why it cannot be measured.

    Attributes:
        name: unique in the run.
        source, opener: the file, and what opens sessions of it; None where it is unavailable.
        file_bytes: of that file.
    """

    name: str
    subject: Subject
    variant: Variant
    source: Source | None = None
    opener: Opener | None = None
    file_bytes: int = 0
    unavailable: str = ""


@dataclass(frozen=True)
class Group:
    """Candidates measured together; the first is the baseline unless a saved run is."""

    candidates: tuple[Candidate, ...]
    saved: SavedRun | None = None

    @property
    def available(self) -> list[Candidate]:
        """The candidates that can be measured."""
        return [candidate for candidate in self.candidates if candidate.opener]


class Watch(Protocol):
    """The device while it measures.

    Attributes:
        cores: of the CPU that the process is pinned to; none where it is not.
    """

    @property
    def cores(self) -> Cores: ...

    def runner(self, session: Any, images: Images) -> Runner:
        """What takes the turns of an opened session."""

    def before(self, listener: Listener) -> None:
        """What is measured ahead of the groups."""

    def after(self, groups: Sequence[Group], listener: Listener) -> None:
        """What is measured when the groups are done."""

    def figures(self, candidate: Candidate, taken: Taken | None, ratio: Ratio | None) -> Figures:
        """What it tells of a candidate, measured or not."""

    def findings(self, rows: Sequence[Any]) -> Findings:
        """What it tells of the run, whose rows (each a `result.Row`) have their figures."""

    def notes(self, rows: Sequence[Any]) -> Sequence[str]:
        """Sentences on what limits the figures of the rows."""


class Device(Protocol):
    """Where networks are measured, with the options that it alone has.

    Attributes:
        batch, settings: images in one inference and how long to measure, unless told otherwise.
        labels_all: whether names of candidates tell the variant even where there is but one.
        suites: names of the suites that it measures.
    """

    @property
    def name(self) -> DeviceName: ...
    @property
    def batch(self) -> int: ...
    @property
    def settings(self) -> Settings: ...
    @property
    def labels_all(self) -> bool: ...
    @property
    def suites(self) -> tuple[str, ...]: ...
    @property
    def record(self) -> dict[str, Any]:
        """Its options as they are stored, in types that JSON has."""

    def check(self, options: BenchOptions) -> None:
        """Refuse what cannot work before anything is built for it.

        Raises:
            KdnaError: with the reason.
        """

    def given(self, path: Path, folder: Path, options: BenchOptions) -> Subject:
        """The network of a user's file; what is made of it goes into `folder`.

        Raises:
            InputError: it cannot be loaded.
            UsageError: it does not run on this device.
        """

    def made(self, subject: Subject, folder: Path, options: BenchOptions) -> Subject:
        """A network of ours, with the files that this device's runtimes open."""

    def variants(self, subject: Subject, options: BenchOptions) -> tuple[Variant, ...]:
        """What a network is measured in.

        Raises:
            RuntimeFailure: none of the device's runtimes is installed.
        """

    def native(self, subject: Subject) -> str | None:
        """The runtime that opens the file that the user named: that it cannot is an error, and no row with a reason."""

    def find(self, subject: Subject, variant: Variant, options: BenchOptions, listener: Listener) -> Source:
        """The file that a variant opens.

        Raises:
            KdnaError: it cannot be made.
        """

    def how(self, variant: Variant, options: BenchOptions) -> Any:
        """How its sessions run, for the runtime."""

    def trying(self) -> AbstractContextManager[Cores]:
        """Where sessions are tried that are measured afterwards; on the CPU, the cores of that."""

    def watch(self, options: BenchOptions) -> AbstractContextManager[Watch]:
        """The device while it measures; what was set for that is put back."""
