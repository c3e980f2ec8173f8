"""Groups of candidates → figures: peak, latency, noise floor, cold start, profile.

An interruption (Ctrl-C) keeps what has been measured; the result then says that it is partial.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import torch

from kdna_deploy.bench.cpu.affinity import pinned
from kdna_deploy.bench.cpu.cold_start import ColdRequest, ColdStart, measure_cold_starts
from kdna_deploy.bench.cpu.latency import Measured, Opener, measure_latency
from kdna_deploy.bench.cpu.profile import Profile, ProfileRequest, profile
from kdna_deploy.bench.cpu.roofline import Peak, measure_peak
from kdna_deploy.bench.environment import Environment, environment
from kdna_deploy.bench.plan import BenchOptions, Candidate, Group, available, check_runtimes, plan
from kdna_deploy.bench.result import BenchResult, Row, explanations, notes_on, rows_of
from kdna_deploy.bench.saved import SavedRun, check_comparable
from kdna_deploy.bench.suites import build_suite
from kdna_deploy.errors import RuntimeFailure
from kdna_deploy.runtimes.catalogue import RUNTIMES, Source
from kdna_deploy.runtimes.onnx_file import file_bytes
from kdna_deploy.runtimes.ort import disabled_optimizers

Step = Callable[[str], None]
Progress = Callable[[float], None]


def bench(
    models: Sequence[Path],
    options: BenchOptions,
    on_step: Step = lambda _: None,
    on_progress: Progress = lambda _: None,
) -> BenchResult:
    """Measure `models` (``.onnx``, ``.pt2`` or checkpoints), interleaved with their baselines.

    Raises:
        InputError: a model cannot be opened.
        UsageError: a batch that a model does not take, or no baseline is known.
    """
    check_runtimes((*options.runtimes, *([options.baseline] if isinstance(options.baseline, str) else [])))
    machine = environment()
    if isinstance(options.baseline, SavedRun):
        check_comparable(options.baseline, machine.record, options.record)
    with tempfile.TemporaryDirectory(prefix="kdna-bench-") as folder:
        groups = plan(models, options, Path(folder), on_step)
        return measure(groups, options, machine, on_step, on_progress)


def bench_suite(
    name: str, options: BenchOptions, on_step: Step = lambda _: None, on_progress: Progress = lambda _: None
) -> BenchResult:
    """Build and measure the networks of a suite.

    Raises:
        UsageError: there is no such suite.
    """
    machine = environment()
    with tempfile.TemporaryDirectory(prefix="kdna-bench-") as folder:
        suite = build_suite(name, options, Path(folder), on_step)
        measured = measure(suite.groups, suite.options, machine, on_step, on_progress)
        return replace(measured, suite=suite)


def measure(
    groups: Sequence[Group],
    options: BenchOptions,
    machine: Environment | None = None,
    on_step: Step = lambda _: None,
    on_progress: Progress = lambda _: None,
) -> BenchResult:
    """Measure planned `groups`.

    Raises:
        RuntimeFailure: nothing in them can be measured.
    """
    _check_any(groups)
    machine = machine or environment()
    found = _Found()
    with _torch_threads(options.threads), pinned(options.threads) as cores:
        try:
            _take(groups, options, cores, found, on_step, on_progress)
        except KeyboardInterrupt:
            on_step("interrupted")
        details = {c.name: _details(c, options, cores) for group in groups for c in available(group)}
    rows, floors = rows_of(groups, found.measured, options)
    rows = tuple(_completed(row, details.get(row.name), found, options) for row in rows)
    return BenchResult(
        rows=rows,
        floors=floors,
        peak=found.peak,
        profiles=found.profiles,
        explanations=explanations(rows) if found.profiles else (),
        cores=cores,
        options=options,
        environment=machine,
        notes=(
            *dict.fromkeys(note for group in groups for c in group.candidates for note in c.subject.notes),
            *notes_on(rows, floors, cores, options, found.peak, not found.complete),
            *found.troubles,
        ),
        partial=not found.complete,
    )


@dataclass
class _Found:
    """Filled step by step, so that an interruption leaves what has been measured."""

    peak: Peak | None = None
    measured: list[tuple[Group, Measured]] = field(default_factory=list)
    cold: dict[str, ColdStart] = field(default_factory=dict)
    profiles: tuple[Profile, ...] = ()
    troubles: list[str] = field(default_factory=list)
    complete: bool = False


def _take(
    groups: Sequence[Group],
    options: BenchOptions,
    cores: tuple[int, ...],
    found: _Found,
    on_step: Step,
    on_progress: Progress,
) -> None:
    """The measurements one after the other.

    Raises:
        KeyboardInterrupt: the user interrupted.
    """
    on_step("measure the core's peak")
    found.peak = measure_peak(options.threads, cores, on_progress)
    for number, group in enumerate(groups):
        on_step(f"measure {_title(group)}")
        done = _latencies(group, options, cores, _part(on_progress, number, len(groups)))
        found.measured.append((group, done))
        if not done.complete:
            raise KeyboardInterrupt
    if options.cold_start:
        on_step("measure cold starts in fresh processes")
        try:
            found.cold = _cold_starts(groups, options, on_progress)
        except RuntimeFailure as error:  # no reason to lose the latencies
            found.troubles.append(str(error))
    if options.profile:
        on_step("profile")
        found.profiles = _profiles(groups, options, cores)
    found.complete = True


@contextlib.contextmanager
def _torch_threads(threads: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _check_any(groups: Sequence[Group]) -> None:
    candidates = [c for group in groups for c in group.candidates]
    if not any(c.source for c in candidates):
        raise RuntimeFailure(candidates[0].unavailable)


def _part(on_progress: Progress, number: int, of: int) -> Progress:
    return lambda done: on_progress((number + done) / of)


def _title(group: Group) -> str:
    names = [c.name for c in group.candidates if c.source]
    return " beside ".join((", ".join(names[1:]), names[0])) if len(names) > 1 else ", ".join(names)


def _opener(candidate: Candidate, options: BenchOptions, cores: tuple[int, ...]) -> Opener:
    assert candidate.source is not None
    return partial(RUNTIMES[candidate.runtime].open, candidate.source, options.threads, cores)


def _latencies(group: Group, options: BenchOptions, cores: tuple[int, ...], on_progress: Progress) -> Measured:
    """Samples of the available candidates, then those of a second session of the first one, the noise floor's."""
    candidates = available(group)
    if not candidates:
        return Measured((), complete=True)
    twin = [*candidates, candidates[0]]
    openers = [_opener(c, options, cores) for c in twin]
    return measure_latency(openers, [c.images for c in twin], options.settings, on_progress)


@dataclass(frozen=True)
class _Details:
    """What a session says of itself, the size of its file, and whether it computes in float32."""

    runtime: str
    options: dict[str, str | int]
    file_bytes: int
    float32: bool


def _details(candidate: Candidate, options: BenchOptions, cores: tuple[int, ...]) -> _Details:
    session = _opener(candidate, options, cores)()
    assert candidate.source is not None
    path = candidate.source.path
    size = file_bytes(path) if path.suffix == ".onnx" else path.stat().st_size
    float32 = RUNTIMES[candidate.runtime].exact and candidate.subject.precision == "fp32"
    return _Details(session.runtime, dict(session.options), size, float32)


def _completed(row: Row, details: _Details | None, found: _Found, options: BenchOptions) -> Row:
    """With what was measured beside the latency."""
    if details is None:
        return row
    share = None
    if details.float32 and found.peak and row.latency:
        share = found.peak.share(row.macs * options.batch, row.latency.median)
    return replace(
        row,
        runtime_version=details.runtime,
        runtime_options=details.options,
        file_bytes=details.file_bytes,
        share=share,
        cold=found.cold.get(row.name),
    )


def _cold_starts(groups: Sequence[Group], options: BenchOptions, on_progress: Progress) -> dict[str, ColdStart]:
    candidates = [c for group in groups for c in available(group)]
    requests = [
        ColdRequest(c.name, c.runtime, c.source, options.threads, c.images.shape, _disabled(c.source))
        for c in candidates
        if c.source is not None
    ]
    starts = measure_cold_starts(requests, on_progress)
    return {c.name: start for c, start in zip(candidates, starts, strict=True)}


def _disabled(source: Source) -> tuple[str, ...]:
    return tuple(disabled_optimizers(source.path)) if source.path.suffix == ".onnx" else ()


def _profiles(groups: Sequence[Group], options: BenchOptions, cores: tuple[int, ...]) -> tuple[Profile, ...]:
    found: list[Profile] = []
    for group in groups:
        requests = [
            ProfileRequest(c.name, c.source.path, c.images)
            for c in available(group)
            if c.source is not None and c.runtime == "onnxruntime"
        ]
        found += profile(requests, options.threads, cores)
    return tuple(found)
