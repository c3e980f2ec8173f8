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

from kdna_deploy.benchmark.affinity import pinned
from kdna_deploy.benchmark.cold_start import ColdRequest, ColdStart, measure_cold_starts
from kdna_deploy.benchmark.environment import Environment, environment
from kdna_deploy.benchmark.latency import Measured, Opener, measure_latency
from kdna_deploy.benchmark.plan import BenchOptions, Candidate, Group, check_runtimes, plan
from kdna_deploy.benchmark.profile import Explanation, Profile, ProfileRequest, explain, profile
from kdna_deploy.benchmark.roofline import Peak, measure_peak
from kdna_deploy.benchmark.saved import SavedRun, check_comparable
from kdna_deploy.benchmark.statistics import (
    FEWEST_ROUNDS,
    Ratio,
    Samples,
    Summary,
    noise_floor,
    paired_ratio,
    summarise,
    unpaired_ratio,
)
from kdna_deploy.benchmark.suites import Suite, build_suite
from kdna_deploy.errors import RuntimeFailure
from kdna_deploy.onnx.cost import file_bytes
from kdna_deploy.runtimes.catalogue import RUNTIMES, Source
from kdna_deploy.runtimes.ort import disabled_optimizers

# A tail this far above the median means that something else used the core.
_NOISY_TAIL = 1.25

Step = Callable[[str], None]
Progress = Callable[[float], None]


@dataclass(frozen=True)
class Row:
    """One measured candidate.

    Attributes:
        name: unique in the run.
        model: the network's name; the same for one network on several runtimes.
        runtime: key in `RUNTIMES`.
        runtime_version: what ran it, with the version.
        runtime_options: as they were set.
        parameters: trained parameters; numbers stored in the file where its provenance is unknown.
        macs: multiply-accumulates of one image.
        file_bytes: size of the file that the runtime opened.
        baseline: name of the row, or saved run, that `ratio` refers to; None for a baseline itself.
        share: part of the core's multiply-add peak that the median reaches; None below float32.
        samples: None where nothing was measured; then `unavailable` says why.
    """

    name: str
    model: str
    runtime: str
    parameters: int
    macs: int
    runtime_version: str = ""
    runtime_options: dict[str, str | int] = field(default_factory=dict)
    file_bytes: int = 0
    latency: Summary | None = None
    baseline: str | None = None
    ratio: Ratio | None = None
    share: float | None = None
    cold: ColdStart | None = None
    samples: Samples | None = None
    unavailable: str = ""


@dataclass(frozen=True)
class Floor:
    """A baseline against a second session of itself; `value` is the noise floor, None after too few rounds."""

    baseline: str
    ratio: Ratio
    value: float | None


@dataclass(frozen=True)
class BenchResult:
    """A measurement. `cores` is empty where the process could not be pinned."""

    rows: tuple[Row, ...]
    floors: tuple[Floor, ...]
    peak: Peak | None
    profiles: tuple[Profile, ...]
    explanations: tuple[Explanation, ...]
    cores: tuple[int, ...]
    options: BenchOptions
    environment: Environment
    notes: tuple[str, ...]
    partial: bool
    suite: Suite | None = None


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
    peak: Peak | None = None
    profiles: tuple[Profile, ...] = ()
    measured: list[tuple[Group, Measured]] = []
    cold: dict[str, ColdStart] = {}
    complete = False
    with _torch_threads(options.threads), pinned(options.threads) as cores:
        try:
            on_step("measure the core's peak")
            peak = measure_peak(options.threads, cores, on_progress)
            for number, group in enumerate(groups):
                on_step(f"measure {_title(group)}")
                measured.append((group, _latencies(group, options, cores, _part(on_progress, number, len(groups)))))
                if not measured[-1][1].complete:
                    raise KeyboardInterrupt
            if options.cold_start:
                on_step("measure cold starts in fresh processes")
                cold = _cold_starts(groups, options, on_progress)
            if options.profile:
                on_step("profile")
                profiles = _profiles(groups, options, cores)
            complete = True
        except KeyboardInterrupt:
            on_step("interrupted")
        details = {c.name: _details(c, options, cores) for group in groups for c in group.candidates if c.source}
    rows, floors = _rows(groups, measured, options)
    rows = tuple(_completed(row, details.get(row.name), cold.get(row.name), peak, options) for row in rows)
    explanations = _explanations(rows) if profiles else ()
    notes = (*_notes(rows, cores, floors, not complete), *_drift(options, peak))
    return BenchResult(rows, floors, peak, profiles, explanations, cores, options, machine, notes, partial=not complete)


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


def _available(group: Group) -> list[Candidate]:
    return [c for c in group.candidates if c.source]


def _opener(candidate: Candidate, options: BenchOptions, cores: tuple[int, ...]) -> Opener:
    assert candidate.source is not None
    return partial(RUNTIMES[candidate.runtime].open, candidate.source, options.threads, cores)


def _latencies(group: Group, options: BenchOptions, cores: tuple[int, ...], on_progress: Progress) -> Measured:
    """Samples of the available candidates, then those of a second session of the first one, the noise floor's."""
    candidates = _available(group)
    if not candidates:
        return Measured((), complete=True)
    twin = [*candidates, candidates[0]]
    openers = [_opener(c, options, cores) for c in twin]
    return measure_latency(openers, [c.images for c in twin], options.settings, on_progress)


def _rows(
    groups: Sequence[Group], measured: list[tuple[Group, Measured]], options: BenchOptions
) -> tuple[tuple[Row, ...], tuple[Floor, ...]]:
    rows: list[Row] = []
    floors: list[Floor] = []
    by_group = [done for _, done in measured] + [Measured((), False)] * (len(groups) - len(measured))
    for group, done in zip(groups, by_group, strict=True):
        samples = {c.name: s for c, s in zip(_available(group), done.samples, strict=False) if s.rounds}
        floor = _floor(_available(group), done, options)
        if floor is not None:
            floors.append(floor)
        rows += [_row(c, group, samples, (floor and floor.value) or 0.0, options) for c in group.candidates]
    return tuple(rows), tuple(floors)


def _floor(candidates: list[Candidate], done: Measured, options: BenchOptions) -> Floor | None:
    if len(done.samples) <= len(candidates) or not done.samples[0].rounds:
        return None
    itself = paired_ratio(done.samples[-1], done.samples[0], statistic=options.statistic)
    return Floor(candidates[0].name, itself, noise_floor(itself))


def _row(candidate: Candidate, group: Group, samples: dict[str, Samples], floor: float, options: BenchOptions) -> Row:
    own = samples.get(candidate.name)
    row = Row(
        name=candidate.name,
        model=candidate.subject.name,
        runtime=candidate.runtime,
        parameters=candidate.subject.parameters,
        macs=candidate.subject.macs,
        latency=summarise(own.values) if own else None,
        samples=own,
        unavailable=candidate.unavailable or ("" if own else "not measured: interrupted"),
    )
    if group.saved is not None:
        return _against_saved(row, group.saved, floor, options)
    first = group.candidates[0]
    if candidate is first:
        return row
    reference = samples.get(first.name)
    ratio = paired_ratio(own, reference, floor, options.statistic) if own and reference else None
    return replace(row, baseline=first.name, ratio=ratio)


def _against_saved(row: Row, saved: SavedRun, floor: float, options: BenchOptions) -> Row:
    earlier = saved.row(row.name, row.runtime)
    assert earlier.samples is not None
    ratio = unpaired_ratio(row.samples, earlier.samples, floor, options.statistic) if row.samples else None
    return replace(row, baseline=f"{earlier.name} in {saved.path.name}", ratio=ratio)


@dataclass(frozen=True)
class _Details:
    """What a session says of itself, and the size of its file."""

    runtime: str
    options: dict[str, str | int]
    file_bytes: int


def _details(candidate: Candidate, options: BenchOptions, cores: tuple[int, ...]) -> _Details:
    session = _opener(candidate, options, cores)()
    assert candidate.source is not None
    path = candidate.source.path
    size = file_bytes(path) if path.suffix == ".onnx" else path.stat().st_size
    return _Details(session.runtime, dict(session.options), size)


def _completed(
    row: Row, details: _Details | None, cold: ColdStart | None, peak: Peak | None, options: BenchOptions
) -> Row:
    exact = RUNTIMES[row.runtime].exact and peak is not None and row.latency is not None
    share = peak.share(row.macs * options.batch, row.latency.median) if exact else None  # type: ignore[union-attr]
    if details is None:
        return row
    return replace(
        row,
        runtime_version=details.runtime,
        runtime_options=details.options,
        file_bytes=details.file_bytes,
        share=share,
        cold=cold,
    )


def _cold_starts(groups: Sequence[Group], options: BenchOptions, on_progress: Progress) -> dict[str, ColdStart]:
    candidates = [c for group in groups for c in _available(group)]
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
            for c in _available(group)
            if c.source is not None and c.runtime == "onnxruntime"
        ]
        found += profile(requests, options.threads, cores)
    return tuple(found)


def _explanations(rows: Sequence[Row]) -> tuple[Explanation, ...]:
    by_name = {row.name: row for row in rows}
    found = []
    for row in rows:
        plain = by_name.get(row.baseline or "")
        if plain and plain.latency and row.latency and plain.macs:
            figures = (row.latency.median, plain.latency.median, row.macs, plain.macs)
            found.append(explain(row.name, plain.name, *figures))
    return tuple(found)


def _drift(options: BenchOptions, peak: Peak | None) -> tuple[str, ...]:
    """What a ratio to a saved run cannot tell."""
    if not isinstance(options.baseline, SavedRun):
        return ()
    before = options.baseline.peak_gflops
    change = f" (the core's peak differs by {peak.best.gflops / before - 1:+.1%})" if before and peak else ""
    return (
        f"a ratio to a saved run holds the machine's drift between the two{change}, and its interval does not; "
        "save this run beside the plain backbone and use --compare, which is free of it",
    )


def _notes(
    rows: tuple[Row, ...], cores: tuple[int, ...], floors: tuple[Floor, ...], interrupted: bool
) -> tuple[str, ...]:
    notes = []
    if interrupted:
        notes.append("interrupted: these figures are partial")
    noisy = [row.name for row in rows if row.latency and row.latency.p90 > _NOISY_TAIL * row.latency.median]
    if noisy:
        notes.append(f"this machine is noisy: p90 lies more than 25 % above the median for {', '.join(noisy)}")
    if not cores:
        notes.append("this system cannot pin a process to a core: expect more spread")
    if any(floor.value is None for floor in floors):
        notes.append(f"fewer than {FEWEST_ROUNDS} rounds tell no interval; raise --iterations or --min-time")
    notes += [f"{row.name}: {row.unavailable}" for row in rows if row.unavailable and not row.samples]
    return tuple(notes)
