"""What is measured on the GPU, beside what: candidates in groups, each interleaved with its own baseline.

    group = baseline + every candidate that is compared with it, on one runtime, in one precision

A runtime that is not installed, a precision that it does not have, or a file that cannot be made stays in the plan with
the reason. Without a choice every installed runtime is taken, and float networks in fp32 and fp16.
"""

from __future__ import annotations

import functools
import gc
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from kdna_deploy.bench.cpu.latency import LatencySettings
from kdna_deploy.bench.gpu.files import GpuFiles, Reports, given_engine, kind_of
from kdna_deploy.bench.gpu.throughput import GPU_SETTINGS
from kdna_deploy.bench.plan import free_names, plain_of
from kdna_deploy.bench.subject import Shape, Subject, given
from kdna_deploy.errors import KdnaError, RuntimeFailure, UsageError
from kdna_deploy.images.batch import Images
from kdna_deploy.runtimes.gpu_catalogue import GPU_RUNTIMES, DeviceOptions, Opener, Precision, gpu_runtime
from kdna_deploy.runtimes.onnx_file import file_bytes

DEFAULT_BATCH = 128  # the paper's
_DEFAULT_PRECISIONS: tuple[Precision, ...] = ("fp32", "fp16")


@dataclass(frozen=True)
class GpuOptions:
    """What to measure, and how.

    Attributes:
        batch: images in one inference.
        runtimes: names in `GPU_RUNTIMES`; empty for all that are installed.
        precisions: empty for a file's own, and fp32 and fp16 for float32 networks.
        baseline: a file to compare with; None for the plain backbone.
        settings: how long.
        streams: inferences that may be under way at once.
        cuda_graphs: replay captured graphs where the runtime leaves the choice.
        host_copies: time the copies of images and logits as well.
        factory, arch, size: how to load a checkpoint, and (h, w) of its images.
    """

    batch: int = DEFAULT_BATCH
    runtimes: tuple[str, ...] = ()
    precisions: tuple[Precision, ...] = ()
    baseline: Path | None = None
    settings: LatencySettings = GPU_SETTINGS
    streams: int = 1
    cuda_graphs: bool = True
    host_copies: bool = False
    factory: str | None = None
    arch: str | None = None
    size: tuple[int, int] | None = None

    @property
    def record(self) -> dict[str, Any]:
        """As it is stored, in types that JSON has."""
        return {
            "device": "gpu",
            "batch": self.batch,
            "runtimes": list(self.runtimes),
            "precisions": list(self.precisions),
            "baseline": str(self.baseline or "plain backbone"),
            "iterations": self.settings.iterations,
            "min_time_s": self.settings.min_time,
            "protocol": "interleaved",
            "streams": self.streams,
            "cuda_graphs": self.cuda_graphs,
            "host_copies": self.host_copies,
        }


@dataclass(frozen=True)
class GpuSubject:
    """A network with its files for the GPU."""

    network: Subject
    files: GpuFiles


@dataclass(frozen=True)
class GpuCandidate:
    """A network on a runtime, in one precision. `unavailable` is the reason why it cannot be measured.

    Attributes:
        opener: opens sessions, None where it is unavailable.
        file_bytes: of the file that the runtime opens.
        runtime_version, runtime_options: that a session says of itself.
    """

    network: Subject
    runtime: str
    precision: Precision
    opener: Opener | None = None
    file_bytes: int = 0
    runtime_version: str = ""
    runtime_options: Mapping[str, str | int] = field(default_factory=dict)
    unavailable: str = ""

    @property
    def name(self) -> str:
        """Unique in the run: a network may be measured on several runtimes, in several precisions."""
        return f"{self.network.name}, {self.runtime}, {self.precision}"


@dataclass(frozen=True)
class GpuGroup:
    """Candidates measured together; the first is the baseline."""

    candidates: tuple[GpuCandidate, ...]


def available(group: GpuGroup) -> list[GpuCandidate]:
    """The candidates that can be measured."""
    return [candidate for candidate in group.candidates if candidate.opener]


def chosen_runtimes(options: GpuOptions) -> tuple[str, ...]:
    """Those that the user named, or all that are installed.

    Raises:
        RuntimeFailure: none is.
    """
    if options.runtimes:
        return options.runtimes
    found = tuple(name for name, entry in GPU_RUNTIMES.items() if not entry.missing)
    if not found:
        reasons = " ".join(f"{sentence}." for sentence in missing_runtimes(options))
        raise RuntimeFailure(f"No runtime on the GPU is installed. {reasons}")
    return found


def missing_runtimes(options: GpuOptions) -> tuple[str, ...]:
    """A sentence on each runtime that the user did not name and that is not installed."""
    return () if options.runtimes else tuple(entry.missing for entry in GPU_RUNTIMES.values() if entry.missing)


def plan(
    models: Sequence[Path], options: GpuOptions, folder: Path, reports: Reports | None = None
) -> tuple[GpuGroup, ...]:
    """Groups for a user's `models`; files that must be made for them go into `folder`.

    Raises:
        InputError: a model cannot be opened.
        UsageError: a batch that a model does not take, or no baseline is known.
    """
    reports = reports or Reports()
    files = [options.baseline, *models] if options.baseline else list(models)
    subjects = _subjects(files, options, folder)
    baselines = _baselines(subjects, options, folder)
    compared = subjects[1:] if options.baseline else subjects
    groups: dict[tuple[int, str, Precision], list[GpuCandidate]] = {}
    for subject, baseline in zip(compared, baselines, strict=True):
        for runtime in _runtimes(subject, options):
            for precision in _precisions(subject, options):
                members = groups.setdefault((id(baseline), runtime, precision), [])
                if not members:
                    members.append(candidate(baseline, runtime, precision, options, reports))
                members.append(candidate(subject, runtime, precision, options, reports))
    return tuple(GpuGroup(tuple(members)) for members in groups.values())


def candidate(
    subject: GpuSubject, runtime: str, precision: Precision, options: GpuOptions, reports: Reports
) -> GpuCandidate:
    """A network on a runtime, tried once, so that what cannot run is found before the measuring begins."""
    entry = gpu_runtime(runtime)
    found = GpuCandidate(subject.network, runtime, precision)
    if entry.missing:
        return replace(found, unavailable=entry.missing)
    if precision not in entry.precisions:
        return replace(found, unavailable=f"{entry.title} does not compute in {precision}")
    reports.step(f"prepare {found.name}")
    try:
        path = subject.files.get(entry.artifact, precision, entry.library, reports)
        opener = entry.prepare(path, DeviceOptions(options.batch, precision, options.streams, options.cuda_graphs))
        version, set_options = _try(opener, images_for(subject.network.image_shape, options.batch), found.name)
    except KdnaError as error:
        return replace(found, unavailable=str(error))
    finally:
        release_memory()
    return replace(
        found,
        opener=opener,
        file_bytes=file_bytes(path) if path.suffix == ".onnx" else path.stat().st_size,
        runtime_version=version,
        runtime_options=set_options,
    )


@functools.lru_cache(maxsize=1)  # a batch of the paper takes 77 MB
def images_for(shape: Shape, batch: int) -> Images:
    """Random images."""
    return np.random.default_rng(0).standard_normal((batch, *shape), dtype=np.float32)


def release_memory() -> None:
    """Give back what closed sessions held, to the libraries that do not allocate through PyTorch."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _try(opener: Opener, images: Images, name: str) -> tuple[str, Mapping[str, str | int]]:
    session = opener()
    if not np.isfinite(session.run(images)).all():
        raise RuntimeFailure(f"{name} gives logits that are not finite; measure it in another precision.")
    return session.runtime, session.options


def _subjects(paths: Sequence[Path], options: GpuOptions, folder: Path) -> list[GpuSubject]:
    found: dict[str, GpuSubject] = {}
    for number, path in enumerate(paths):
        place, kind = folder / f"given-{number}", kind_of(path)
        made = (
            given_engine(path) if kind == "engine" else given(path, place, options.factory, options.arch, options.size)
        )
        if made.batch not in (None, options.batch):
            raise UsageError(f"'{made.name}' takes batches of {made.batch} alone; add --batch-size {made.batch}.")
        network = replace(made, name=next(name for name in free_names(path) if name not in found))
        found[network.name] = GpuSubject(network, GpuFiles(network, options.batch, place, path, kind))
    return list(found.values())


def _baselines(subjects: Sequence[GpuSubject], options: GpuOptions, folder: Path) -> list[GpuSubject]:
    """The baseline of every compared subject; those with the same plain backbone share it."""
    if options.baseline:
        return [subjects[0]] * (len(subjects) - 1)
    plains: dict[str, Subject] = {}
    made: dict[str, GpuSubject] = {}
    found = []
    for subject in subjects:
        plain = plain_of(subject.network, plains, folder)
        if plain.name not in made:
            files = GpuFiles(plain, options.batch, folder / f"gpu-plain-{len(made)}")
            made[plain.name] = GpuSubject(plain, files)
        found.append(made[plain.name])
    return found


def _runtimes(subject: GpuSubject, options: GpuOptions) -> tuple[str, ...]:
    if subject.files.library is not None and not options.runtimes:
        return (subject.files.library,)
    return chosen_runtimes(options)


def _precisions(subject: GpuSubject, options: GpuOptions) -> tuple[Precision, ...]:
    if options.precisions:
        return options.precisions
    own = subject.files.own
    return _DEFAULT_PRECISIONS if own == "fp32" and subject.files.library is None else (own,)
