"""What a measurement found: a row a candidate, noise floors, and what a reader should know of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from kdna_deploy.bench.cpu.cold_start import ColdStart
from kdna_deploy.bench.cpu.latency import Measured
from kdna_deploy.bench.cpu.profile import Explanation, Profile, explain
from kdna_deploy.bench.cpu.roofline import Peak
from kdna_deploy.bench.environment import Environment
from kdna_deploy.bench.plan import BenchOptions, Candidate, Group, available
from kdna_deploy.bench.saved import SavedRun
from kdna_deploy.bench.statistics import (
    FEWEST_ROUNDS,
    Ratio,
    Samples,
    Summary,
    noise_floor,
    paired_ratio,
    summarise,
    unpaired_ratio,
)
from kdna_deploy.bench.suites import Suite

# A tail this far above the median means that something else used the core.
_NOISY_TAIL = 1.25


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
    throughput: None = None  # is measured on the GPU
    kept: None = None


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


def rows_of(
    groups: Sequence[Group], measured: list[tuple[Group, Measured]], options: BenchOptions
) -> tuple[tuple[Row, ...], tuple[Floor, ...]]:
    rows: list[Row] = []
    floors: list[Floor] = []
    by_group = [done for _, done in measured] + [Measured((), False)] * (len(groups) - len(measured))
    for group, done in zip(groups, by_group, strict=True):
        samples = {c.name: s for c, s in zip(available(group), done.samples, strict=False) if s.rounds}
        floor = _floor(available(group), done, options)
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
    earlier = saved.row(row.model, row.runtime)
    assert earlier.samples is not None
    ratio = unpaired_ratio(row.samples, earlier.samples, floor, options.statistic) if row.samples else None
    return replace(row, baseline=f"{earlier.name} in {saved.path.name}", ratio=ratio)


def explanations(rows: Sequence[Row]) -> tuple[Explanation, ...]:
    """The difference of each row to its baseline in the same run, taken apart."""
    by_name = {row.name: row for row in rows}
    found = []
    for row in rows:
        plain = by_name.get(row.baseline or "")
        if plain and plain.latency and row.latency and plain.macs:
            figures = (row.latency.median, plain.latency.median, row.macs, plain.macs)
            found.append(explain(row.name, plain.name, *figures))
    return tuple(found)


def notes_on(
    rows: Sequence[Row],
    floors: Sequence[Floor],
    cores: tuple[int, ...],
    options: BenchOptions,
    peak: Peak | None,
    interrupted: bool,
) -> tuple[str, ...]:
    """Sentences on what limits the figures."""
    notes = []
    if interrupted:
        notes.append("interrupted: these figures are partial")
    noisy = [row.name for row in rows if row.latency and row.latency.p90 > _NOISY_TAIL * row.latency.median]
    if noisy:
        notes.append(f"this machine is noisy: p90 lies more than 25 % above the median for {', '.join(noisy)}")
    if not cores:
        notes.append("this system cannot pin a process to a core: expect more spread")
    if any(floor.value is None for floor in floors):
        notes.append(f"fewer than {FEWEST_ROUNDS} rounds tell no interval; raise `iterations` or `min_time`")
    notes += [f"{row.name}: {row.unavailable}" for row in rows if row.unavailable and not row.samples]
    return (*notes, *_drift(options, peak))


def _drift(options: BenchOptions, peak: Peak | None) -> tuple[str, ...]:
    """What a ratio to a saved run cannot tell."""
    if not isinstance(options.baseline, SavedRun):
        return ()
    before = options.baseline.peak_gflops
    change = f" (the core's peak differs by {peak.best.gflops / before - 1:+.1%})" if before and peak else ""
    return (
        f"a ratio to a saved run holds the machine's drift between the two{change}, and its interval does not; "
        "save this run beside the plain backbone and use `compare`, which is free of it",
    )
