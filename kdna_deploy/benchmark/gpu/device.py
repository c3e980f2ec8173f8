"""A GPU as a device of the bench: its runtimes and precisions, and the state that it was in meanwhile.

Without a choice every installed runtime is taken, and float networks in fp32 and fp16; an engine in its own library.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

from kdna_deploy.benchmark.device import BenchOptions, Candidate, Group, Variant
from kdna_deploy.benchmark.gpu.files import GpuFiles, given_engine
from kdna_deploy.benchmark.gpu.nvml import Monitor, state
from kdna_deploy.benchmark.gpu.state import GpuMachine, GpuState
from kdna_deploy.benchmark.gpu.throughput import SpanRunner
from kdna_deploy.benchmark.protocol import Settings, Taken
from kdna_deploy.benchmark.statistics import Estimate, Ratio, Samples, images_per_second, kept
from kdna_deploy.benchmark.subject import Subject, given
from kdna_deploy.errors import RuntimeFailure
from kdna_deploy.images.batch import Images
from kdna_deploy.progress import Listener
from kdna_deploy.runtimes.nvidia.cuda import give_back, torch_cuda
from kdna_deploy.runtimes.nvidia.gpu import Gpu as Found
from kdna_deploy.runtimes.nvidia.gpu import needed_gpu
from kdna_deploy.runtimes.open import ENGINE
from kdna_deploy.runtimes.session import DeviceSession
from kdna_deploy.runtimes.table import Cores, DeviceName, OnGpu, Precision, Source, runtimes_on

_DEFAULT_PRECISIONS: tuple[Precision, ...] = ("fp32", "fp16")


@dataclass(frozen=True)
class Gpu:
    """An NVIDIA GPU.

    Attributes:
        precisions: empty for a file's own, and fp32 and fp16 for float32 networks.
        streams: inferences that may be under way at once.
        cuda_graphs: replay captured graphs where the runtime leaves the choice.
        host_copies: time the copies of images and logits as well.
    """

    precisions: tuple[Precision, ...] = ()
    streams: int = 1
    cuda_graphs: bool = True
    host_copies: bool = False

    name: ClassVar[DeviceName] = "gpu"
    batch: ClassVar[int] = 128  # the paper's
    settings: ClassVar[Settings] = Settings(iterations=60, min_time=3.0)
    labels_all: ClassVar[bool] = True
    # The layouts of Table 3 have no checkpoints that other files could be made from, and all runtimes are measured
    # anyway.
    suites: ClassVar[tuple[str, ...]] = ("table1",)

    @property
    def record(self) -> dict[str, Any]:
        return {
            "device": "gpu",
            "precisions": list(self.precisions),
            "streams": self.streams,
            "cuda_graphs": self.cuda_graphs,
            "host_copies": self.host_copies,
        }

    def check(self, options: BenchOptions) -> None:
        _gpu()
        torch_cuda()  # buffers, streams and events are PyTorch's

    def given(self, path: Path, folder: Path, options: BenchOptions) -> Subject:
        if path.suffix == ENGINE:
            subject = given_engine(path)
        else:
            subject = given(path, folder, options.factory, options.arch, options.size)
        return replace(subject, artifacts=GpuFiles(subject, options.batch, folder, path))

    def made(self, subject: Subject, folder: Path, options: BenchOptions) -> Subject:
        return replace(subject, artifacts=GpuFiles(subject, options.batch, folder))

    def variants(self, subject: Subject, options: BenchOptions) -> tuple[Variant, ...]:
        files = _files(subject)
        runtimes = options.runtimes or ((files.library,) if files.library else installed())
        own = _DEFAULT_PRECISIONS if files.own == "fp32" and not files.library else (files.own,)
        return tuple(
            Variant(runtime, precision, f"{runtime}, {precision}")
            for runtime in runtimes
            for precision in self.precisions or own
        )

    def native(self, subject: Subject) -> None:
        """A file that cannot be measured is a row with the reason."""

    def find(self, subject: Subject, variant: Variant, options: BenchOptions, listener: Listener) -> Source:
        give_back()  # an engine may have to be built
        return Source(_files(subject).get(variant.runtime, variant.precision, listener))

    def how(self, variant: Variant, options: BenchOptions) -> OnGpu:
        return OnGpu(options.batch, variant.precision, self.streams, self.cuda_graphs)

    def trying(self) -> AbstractContextManager[Cores]:
        return contextlib.nullcontext(())

    @contextlib.contextmanager
    def watch(self, options: BenchOptions) -> Iterator[GpuWatch]:
        monitor = Monitor(_gpu())
        found = GpuWatch(self, options, monitor)
        before = monitor.sample()
        with monitor.watching() as samples:
            yield found
        found.state = state(samples, before, monitor.sample())


@dataclass(frozen=True)
class GpuFigures:
    """Of a row, None where nothing was measured.

    Attributes:
        precision: that is computed in.
        throughput: images a second.
        kept: the share of the baseline's throughput; None for a baseline too.
        singles: milliseconds of single inferences.
    """

    precision: str
    throughput: float | None = None
    kept: Estimate | None = None
    singles: Samples | None = None

    @property
    def record(self) -> dict[str, Any]:
        return {
            "precision": self.precision,
            "throughput": self.throughput,
            "kept": asdict(self.kept) if self.kept else None,
            "single_ms": self.singles.values.round(6).tolist() if self.singles else [],
        }

    @property
    def metrics(self) -> Mapping[str, float | None]:
        return {"throughput": self.throughput, "kept": 100 * self.kept.value if self.kept else None}


@dataclass(frozen=True)
class GpuFindings:
    """Of a run. `state` is None where the driver could not be asked."""

    machine: GpuMachine
    state: GpuState | None

    @property
    def record(self) -> dict[str, Any]:
        return {"gpu_state": self.state.record if self.state else None}

    @property
    def environment(self) -> dict[str, Any]:
        machine = self.machine.record
        return {"gpu": machine.pop("name"), **{f"gpu_{name}": value for name, value in machine.items()}}


@dataclass
class GpuWatch:
    """A GPU that is sampled while it works; its `state` is known in the end."""

    device: Gpu
    options: BenchOptions
    monitor: Monitor
    state: GpuState | None = None
    cores: tuple[int, ...] = ()  # the host is left alone

    def runner(self, session: DeviceSession, images: Images) -> SpanRunner:
        session.load_on_device(images)
        return SpanRunner(session, self.device.host_copies)

    def before(self, listener: Listener) -> None:
        """Nothing: the state is sampled all the time."""

    def after(self, groups: Sequence[Group], listener: Listener) -> None:
        """Likewise."""

    def figures(self, candidate: Candidate, taken: Taken | None, ratio: Ratio | None) -> GpuFigures:
        precision = candidate.variant.precision
        if taken is None:
            return GpuFigures(precision)
        throughput = images_per_second(taken.samples, self.options.batch)
        return GpuFigures(precision, throughput, kept(ratio) if ratio else None, taken.singles)

    def findings(self, rows: Sequence[Any]) -> GpuFindings:
        return GpuFindings(self.monitor.machine, self.state)

    def notes(self, rows: Sequence[Any]) -> tuple[str, ...]:
        unseen = (self.monitor.note,) if self.monitor.note else ()
        return (*(self.state.warnings if self.state else ()), *missing_runtimes(self.options), *unseen)


def installed() -> tuple[str, ...]:
    """The runtimes on the GPU that are installed.

    Raises:
        RuntimeFailure: none is.
    """
    entries = runtimes_on("gpu")
    found = tuple(name for name, entry in entries.items() if not entry.missing)
    if not found:
        reasons = " ".join(f"{entry.missing}." for entry in entries.values())
        raise RuntimeFailure(f"No runtime on the GPU is installed. {reasons}")
    return found


def missing_runtimes(options: BenchOptions) -> tuple[str, ...]:
    """A sentence on each runtime that is not installed, where the user has named none."""
    return () if options.runtimes else tuple(e.missing for e in runtimes_on("gpu").values() if e.missing)


def _gpu() -> Found:
    return needed_gpu("`bench(gpu=True)` measures")


def _files(subject: Subject) -> GpuFiles:
    assert isinstance(subject.artifacts, GpuFiles)
    return subject.artifacts
