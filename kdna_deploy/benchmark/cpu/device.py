"""The CPU as a device of the bench: pinned cores, their multiply-add peak, streams, cold starts and profiles.

before the groups    the peak of the cores                          after them    streams, cold starts, profiles
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, cast

import numpy as np

from kdna_deploy.benchmark.cpu.affinity import allowed_cores, check_cores, pinned
from kdna_deploy.benchmark.cpu.cold_start import ColdRequest, ColdStart, measure_cold_starts
from kdna_deploy.benchmark.cpu.findings import CpuFigures, CpuFindings
from kdna_deploy.benchmark.cpu.latency import LatencyRunner
from kdna_deploy.benchmark.cpu.own_file import given_own
from kdna_deploy.benchmark.cpu.profile import Explanation, Profile, ProfileRequest, explain, profile
from kdna_deploy.benchmark.cpu.roofline import Peak, measure_peak
from kdna_deploy.benchmark.cpu.streams import Throughput, cores_of, limits, measure_streams
from kdna_deploy.benchmark.device import BenchOptions, Candidate, Group, Variant
from kdna_deploy.benchmark.plan import images_for
from kdna_deploy.benchmark.protocol import Settings, Taken
from kdna_deploy.benchmark.result import Row
from kdna_deploy.benchmark.saved import SavedRun
from kdna_deploy.benchmark.statistics import Ratio
from kdna_deploy.benchmark.subject import Subject, given
from kdna_deploy.errors import KdnaError, UsageError
from kdna_deploy.images.batch import Images
from kdna_deploy.images.interface import PLAIN, Interface
from kdna_deploy.kinds import OWN, Kind, named_kind
from kdna_deploy.progress import Listener
from kdna_deploy.runtimes.open import recorded_provenance
from kdna_deploy.runtimes.ort import SessionNeeds, session_needs
from kdna_deploy.runtimes.session import Session
from kdna_deploy.runtimes.table import RUNTIMES, Artifact, Cores, DeviceName, OnCpu, Precision, Source

# What opens the file that a user named, unless told otherwise; of others the runtime of that name alone.
_NATIVE: dict[Artifact, str] = {"onnx": "onnxruntime", "fused": "pt2", "checkpoint": "pytorch"}
# A tail this far above the median means that something else used the core.
_NOISY_TAIL = 1.25


@dataclass(frozen=True)
class Cpu:
    """The CPU.

    Attributes:
        threads: of an inference, each on a core of its own.
        cold_start: whether to measure loading and memory in fresh processes.
        profile: whether to profile each ONNX file.
        streams: up to how many inferences at once throughput is measured with; None for no throughput.
    """

    threads: int = 1
    cold_start: bool = False
    profile: bool = False
    streams: int | None = None

    name: ClassVar[DeviceName] = "cpu"
    batch: ClassVar[int] = 1
    settings: ClassVar[Settings] = Settings()
    labels_all: ClassVar[bool] = False
    suites: ClassVar[tuple[str, ...]] = ("table1", "layouts", "runtimes")

    @property
    def record(self) -> dict[str, Any]:
        return {"threads": self.threads}

    def check(self, options: BenchOptions) -> None:
        """There is always a CPU, but not always with so many cores."""
        check_cores(self.threads, allowed_cores())

    def given(self, path: Path, folder: Path, options: BenchOptions) -> Subject:
        if named_kind(path) in OWN:
            with self.trying():
                return given_own(path, options.size)
        return given(path, folder, options.factory, options.arch, options.size)

    def made(self, subject: Subject, folder: Path, options: BenchOptions) -> Subject:
        return subject

    def variants(self, subject: Subject, options: BenchOptions) -> tuple[Variant, ...]:
        """The precision is that of the file, whatever the runtime."""
        precision = cast(Precision, subject.precision)
        return tuple(Variant(name, precision, name) for name in options.runtimes or (self.native(subject),))

    def native(self, subject: Subject) -> str:
        return _NATIVE.get(subject.kind, subject.kind)

    def find(self, subject: Subject, variant: Variant, options: BenchOptions, listener: Listener) -> Source:
        entry = RUNTIMES[variant.runtime]
        kind = subject.kind if subject.kind == entry.own else entry.artifact
        if subject.kind == "onnx" and kind not in ("onnx", "checkpoint"):  # that as it was trained
            _check_float(subject)
        return subject.artifacts.source(kind)

    def how(self, variant: Variant, options: BenchOptions) -> OnCpu:
        return OnCpu(self.threads, batch=options.batch)

    def trying(self) -> AbstractContextManager[Cores]:
        """On all that are measured on afterwards, for OpenVINO never leaves those that it saw first."""
        return pinned(max(self.threads, min(self.streams or 1, cores_of(allowed_cores()))))

    @contextlib.contextmanager
    def watch(self, options: BenchOptions) -> Iterator[CpuWatch]:
        with _pytorch_on(self.threads):
            allowed = allowed_cores()
            with pinned(self.threads) as cores:
                yield CpuWatch(self, options, cores, allowed)


def _check_float(subject: Subject) -> None:
    """Refuse what would be made of the checkpoint in float32, and measured under the name of another file.

    Raises:
        UsageError: the file is not in float32.
    """
    if (subject.precision, subject.weights) == ("fp32", "fp32"):
        return
    reduced = subject.precision != "fp32"
    has = f"computes in {subject.precision}" if reduced else f"stores its weights in {subject.weights}"
    raise UsageError(
        f"'{subject.name}' {has}, and what is made of its checkpoint would be in float32; measure it with a runtime "
        "that opens it as it is."
    )


@contextlib.contextmanager
def _pytorch_on(threads: int) -> Iterator[None]:
    """Its number of threads is one setting of the process; what is measured on it was tried, and has imported it."""
    torch = sys.modules.get("torch")
    if torch is None:
        yield
        return
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@dataclass
class CpuWatch:
    """Filled step by step, so that an interruption leaves what has been measured."""

    device: Cpu
    options: BenchOptions
    cores: Cores
    allowed: Cores = ()
    peak: Peak | None = None
    streams: list[Throughput] = field(default_factory=list)
    cold: dict[str, ColdStart] = field(default_factory=dict)
    profiles: tuple[Profile, ...] = ()
    troubles: list[str] = field(default_factory=list)

    def runner(self, session: Session, images: Images) -> LatencyRunner:
        return LatencyRunner(session, images, self.cores)

    def before(self, listener: Listener) -> None:
        listener.step("measure the core's peak")
        self.peak = measure_peak(self.device.threads, self.cores, listener)

    def after(self, groups: Sequence[Group], listener: Listener) -> None:
        if self.device.streams:
            self.troubles += limits(groups, self.device.streams, self.options, self.allowed)
            with self._told():
                for found in measure_streams(groups, self.device.streams, self.options, self.allowed, listener):
                    self.streams += found
        if self.device.cold_start:
            listener.step("measure cold starts in fresh processes")
            with self._told():
                self._start([c for group in groups for c in group.available], listener)
        if self.device.profile:
            listener.step("profile")
            self.troubles += _unprofiled(groups)
            with self._told():
                self.profiles = tuple(one for group in groups for one in self._profiled(group))

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        """What goes wrong is noted: no reason to lose the latencies, which have been measured by then."""
        try:
            yield
        except KdnaError as error:
            self.troubles.append(str(error))

    def figures(self, candidate: Candidate, taken: Taken | None, ratio: Ratio | None) -> CpuFigures:
        share = None
        exact = RUNTIMES[candidate.variant.runtime].exact and candidate.subject.precision == "fp32"
        if taken and self.peak and exact:
            macs = candidate.subject.macs * self.options.batch
            share = self.peak.share(macs, float(np.median(taken.singles.values)))
        streams = [one for one in self.streams if one.name == candidate.name]
        most = max(streams, key=lambda one: (one.streams, one.batch), default=None)
        return CpuFigures(share, self.cold.get(candidate.name), most)

    def findings(self, rows: Sequence[Row]) -> CpuFindings:
        explained = _explanations(rows) if self.profiles else ()
        return CpuFindings(self.cores, self.peak, self.profiles, explained, tuple(self.streams))

    def notes(self, rows: Sequence[Row]) -> tuple[str, ...]:
        tails = [(row.latency.p90 / row.latency.median, row.name) for row in rows if row.latency]
        noisy = sorted((one for one in tails if one[0] > _NOISY_TAIL), reverse=True)
        notes = []
        if noisy:
            named = " and ".join(name for _, name in noisy)
            if len(noisy) > 2:
                named = f"{len(noisy)} of {len(tails)} rows, most of all for {noisy[0][1]}"
            notes.append(f"this machine is noisy: p90 lies more than 25 % above the median for {named}")
        if not self.cores:
            notes.append("this system cannot pin a process to a core: expect more spread")
        return (*notes, *self._drift(), *self.troubles)

    def _drift(self) -> tuple[str, ...]:
        """What a ratio to a saved run cannot tell."""
        saved = self.options.baseline
        if not isinstance(saved, SavedRun):
            return ()
        change = ""
        if saved.peak_gflops and self.peak:
            change = f" (the core's peak differs by {self.peak.best.gflops / saved.peak_gflops - 1:+.1%})"
        return (
            f"a ratio to a saved run holds the machine's drift between the two{change}, and its interval does not; "
            "measure both beside the plain backbone and compare the saved runs, which is free of it",
        )

    def _start(self, candidates: Sequence[Candidate], listener: Listener) -> None:
        requests = [
            ColdRequest(
                c.name, c.variant.runtime, c.source, self.device.threads, self._shape(c), _needs(c.source), _outputs(c)
            )
            for c in candidates
            if c.source is not None
        ]
        starts = measure_cold_starts(requests, listener)
        self.cold = {request.name: start for request, start in zip(requests, starts, strict=True)}

    def _shape(self, candidate: Candidate) -> tuple[int, ...]:
        """The axes of its images as its file has them."""
        assert candidate.source is not None
        interface = _interface(candidate.source.path)
        return (self.options.batch, *interface.shape(candidate.subject.image_shape))

    def _profiled(self, group: Group) -> tuple[Profile, ...]:
        requests = [
            ProfileRequest(
                c.name,
                c.source.path,
                images_for(c.subject.image_shape, self.options.batch, session_needs(c.source.path).interface),
            )
            for c in group.available
            if c.source is not None and _has_profile(c)
        ]
        return profile(requests, self.device.threads, self.cores)


def _has_profile(candidate: Candidate) -> bool:
    return candidate.variant.runtime == "onnxruntime"


def _unprofiled(groups: Sequence[Group]) -> Iterator[str]:
    """A sentence on what was measured, and is not profiled."""
    names = [one.name for group in groups for one in group.available if not _has_profile(one)]
    if names:
        yield f"a profile is ONNX Runtime's own, and is not made of: {'; '.join(names)}"


def _interface(path: Path) -> Interface:
    """What the file at `path` takes and returns, as it records."""
    made = recorded_provenance(path) if named_kind(path) in (Kind.onnx, *OWN) else None
    return made.interface(path) if made else PLAIN


def _needs(source: Source) -> SessionNeeds:
    return session_needs(source.path) if source.path.suffix == ".onnx" else SessionNeeds()


def _outputs(candidate: Candidate) -> int:
    """Of a file: its stage outputs, or one."""
    made = candidate.subject.provenance
    return max(len(made.stage_names), 1) if made else 1


def _explanations(rows: Sequence[Row]) -> tuple[Explanation, ...]:
    """The difference of each row to its baseline in the same run, taken apart."""
    by_name = {row.name: row for row in rows}
    found = []
    for row in rows:
        plain = by_name.get(row.baseline or "")
        if plain and plain.latency and row.latency and plain.macs:
            figures = (row.latency.median, plain.latency.median, row.macs, plain.macs)
            found.append(explain(row.name, plain.name, *figures))
    return tuple(found)
