"""What a measurement found: a row a candidate, noise floors, and what a reader should know of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import TYPE_CHECKING

from kdna_deploy.benchmark.device import BenchOptions, Candidate, Figures, Findings, Group, Watch
from kdna_deploy.benchmark.environment import Environment
from kdna_deploy.benchmark.protocol import Measured, Taken
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

if TYPE_CHECKING:
    from kdna_deploy.benchmark.suites import Suite  # with PyTorch, without which files are measured


@dataclass(frozen=True)
class Row:
    """One measured candidate.

    Attributes:
        name: unique in the run.
        model: the network's name; the same for one network on several runtimes.
        runtime, precision: key in `RUNTIMES`, and what is computed in.
        figures: what the device tells besides.
        parameters: trained parameters; numbers stored in the file where its provenance is unknown.
        macs: multiply-accumulates of one image.
        runtime_version: what ran it, with the version.
        runtime_options: as they were set.
        file_bytes: size of the file that the runtime opened.
        latency: of single inferences.
        baseline: name of the row, or saved run, that `ratio` refers to; None for a baseline itself.
        ratio: of times: above 1 is slower.
        samples: that the ratio is of; None where nothing was measured, and `unavailable` says why.
        image_shape: (c, h, w) of the images; empty in a run that was saved before rows told it.
    """

    name: str
    model: str
    runtime: str
    precision: str
    figures: Figures
    parameters: int
    macs: int
    runtime_version: str = ""
    runtime_options: Mapping[str, str | int] = field(default_factory=dict)
    file_bytes: int = 0
    latency: Summary | None = None
    baseline: str | None = None
    ratio: Ratio | None = None
    samples: Samples | None = None
    unavailable: str = ""
    image_shape: tuple[int, ...] = ()


@dataclass(frozen=True)
class Floor:
    """A baseline against a second session of itself; `value` is the noise floor, None after too few rounds."""

    baseline: str
    ratio: Ratio
    value: float | None


@dataclass(frozen=True)
class BenchResult:
    """A measurement. `findings` are what the device tells of the whole run."""

    rows: tuple[Row, ...]
    floors: tuple[Floor, ...]
    findings: Findings
    options: BenchOptions
    environment: Environment
    notes: tuple[str, ...]
    partial: bool
    suite: Suite | None = None


@dataclass(frozen=True)
class Ran:
    """What ran a candidate, as its session says."""

    version: str
    options: Mapping[str, str | int]


@dataclass(frozen=True)
class Outcome:
    """What was taken of a group's available candidates, and last of a second session of the first; or why it failed."""

    measured: Measured
    ran: Mapping[str, Ran] = field(default_factory=dict)
    failure: str = ""


_UNMEASURED = Outcome(Measured((), complete=False))


def rows_of(
    groups: Sequence[Group], outcomes: Sequence[Outcome], options: BenchOptions, watch: Watch
) -> tuple[tuple[Row, ...], tuple[Floor, ...]]:
    """Rows and noise floors of all groups, measured or not."""
    rows: list[Row] = []
    floors: list[Floor] = []
    for group, outcome in zip_longest(groups, outcomes, fillvalue=_UNMEASURED):
        assert isinstance(group, Group)
        taken = {
            candidate.name: taken
            for candidate, taken in zip(group.available, outcome.measured.taken, strict=False)
            if taken.samples.rounds
        }
        floor = _floor(group.available, outcome.measured, options)
        floors += [floor] if floor else []
        value = (floor and floor.value) or 0.0
        rows += [_row(candidate, group, outcome, taken, value, options, watch) for candidate in group.candidates]
    return tuple(rows), tuple(floors)


def _floor(candidates: Sequence[Candidate], measured: Measured, options: BenchOptions) -> Floor | None:
    if len(measured.taken) <= len(candidates) or not measured.taken[0].samples.rounds:
        return None
    itself = paired_ratio(measured.taken[-1].samples, measured.taken[0].samples, statistic=options.statistic)
    return Floor(candidates[0].name, itself, noise_floor(itself))


def _row(
    candidate: Candidate,
    group: Group,
    outcome: Outcome,
    taken: Mapping[str, Taken],
    floor: float,
    options: BenchOptions,
    watch: Watch,
) -> Row:
    own = taken.get(candidate.name)
    baseline, ratio = _compared(candidate, group, taken, floor, options)
    ran = outcome.ran.get(candidate.name, Ran("", {}))
    return Row(
        name=candidate.name,
        model=candidate.subject.name,
        runtime=candidate.variant.runtime,
        precision=candidate.variant.precision,
        figures=watch.figures(candidate, own, ratio),
        parameters=candidate.subject.parameters,
        macs=candidate.subject.macs,
        runtime_version=ran.version,
        runtime_options=ran.options,
        file_bytes=candidate.file_bytes,
        latency=summarise(own.singles.values) if own else None,
        baseline=baseline,
        ratio=ratio,
        samples=own.samples if own else None,
        unavailable="" if own else candidate.unavailable or outcome.failure or "not measured: interrupted",
        image_shape=candidate.subject.image_shape,
    )


def _compared(
    candidate: Candidate, group: Group, taken: Mapping[str, Taken], floor: float, options: BenchOptions
) -> tuple[str | None, Ratio | None]:
    """What a candidate is compared with, and the ratio to that; none for the baseline itself."""
    own, first = taken.get(candidate.name), group.candidates[0]
    if group.saved is not None:
        earlier = group.saved.row(candidate.subject.name, candidate.variant.label, candidate.subject.image_shape)
        assert earlier.samples is not None
        ratio = unpaired_ratio(own.samples, earlier.samples, floor, options.statistic) if own else None
        return f"{earlier.name} in {group.saved.path.name}", ratio
    if candidate is first:
        return None, None
    reference = taken.get(first.name)
    if own is None or reference is None:
        return first.name, None
    return first.name, paired_ratio(own.samples, reference.samples, floor, options.statistic)


def notes_on(
    rows: Sequence[Row], floors: Sequence[Floor], of_device: Sequence[str], of_networks: Sequence[str], partial: bool
) -> tuple[str, ...]:
    """Sentences on what limits the figures."""
    notes = ["interrupted: these figures are partial"] if partial else []
    notes += of_device
    if any(floor.value is None for floor in floors):
        notes.append(f"fewer than {FEWEST_ROUNDS} rounds tell no interval; ask for more iterations or a longer time")
    notes += [f"{row.name}: {row.unavailable}" for row in rows if row.unavailable]
    return (*notes, *of_networks)
