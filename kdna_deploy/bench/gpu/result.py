"""What a measurement on the GPU found: a row a candidate, noise floors, and what a reader should know of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from kdna_deploy.bench.environment import Environment
from kdna_deploy.bench.gpu.plan import GpuCandidate, GpuGroup, GpuOptions, available
from kdna_deploy.bench.gpu.state import GpuMachine, GpuState
from kdna_deploy.bench.gpu.suite import GpuSuite
from kdna_deploy.bench.gpu.throughput import Throughputs, images_per_second
from kdna_deploy.bench.result import Floor
from kdna_deploy.bench.statistics import (
    FEWEST_ROUNDS,
    Kept,
    Ratio,
    Samples,
    Summary,
    kept,
    noise_floor,
    paired_ratio,
    summarise,
)


@dataclass(frozen=True)
class GpuRow:
    """One measured candidate.

    Attributes:
        name: unique in the run.
        model, runtime, precision: of which the name is made.
        parameters, macs: as of a `Row`; zero where a foreign engine does not tell.
        runtime_version, runtime_options: that the session said of itself.
        file_bytes: of the file that the runtime opened.
        throughput: images a second, None where nothing was measured; then `unavailable` says why.
        latency: of single inferences.
        baseline: name of the row that `ratio` refers to; None for a baseline itself.
        ratio: of the times of spans: above 1 is slower, as on the CPU.
        spans, singles: samples in milliseconds for an inference.
        cold, share: are not measured on the GPU.
    """

    name: str
    model: str
    runtime: str
    precision: str
    parameters: int
    macs: int
    runtime_version: str = ""
    runtime_options: Mapping[str, str | int] = field(default_factory=dict)
    file_bytes: int = 0
    throughput: float | None = None
    latency: Summary | None = None
    baseline: str | None = None
    ratio: Ratio | None = None
    spans: Samples | None = None
    singles: Samples | None = None
    unavailable: str = ""
    cold: None = None
    share: None = None

    @property
    def kept(self) -> Kept | None:
        """The share of the baseline's throughput; None for a baseline, and where nothing was measured."""
        return kept(self.ratio) if self.ratio else None


@dataclass(frozen=True)
class GpuResult:
    """A measurement. `state` is None where the driver could not be asked."""

    rows: tuple[GpuRow, ...]
    floors: tuple[Floor, ...]
    options: GpuOptions
    machine: GpuMachine
    state: GpuState | None
    environment: Environment
    notes: tuple[str, ...]
    partial: bool
    suite: GpuSuite | None = None


@dataclass(frozen=True)
class MeasuredGroup:
    """A group with its samples, those of a second session of the first candidate last; or why it failed."""

    group: GpuGroup
    throughputs: Throughputs
    failure: str = ""


def rows_of(measured: Sequence[MeasuredGroup], batch: int) -> tuple[tuple[GpuRow, ...], tuple[Floor, ...]]:
    """Rows and noise floors of all groups, measured or not."""
    rows: list[GpuRow] = []
    floors: list[Floor] = []
    for one in measured:
        candidates = available(one.group)
        floor = _floor(candidates, one.throughputs)
        floors += [floor] if floor else []
        taken = {
            candidate.name: pair
            for candidate, *pair in zip(candidates, one.throughputs.spans, one.throughputs.singles, strict=False)
            if pair[0].rounds
        }
        rows += [
            _row(candidate, one, taken, (floor and floor.value) or 0.0, batch) for candidate in one.group.candidates
        ]
    return tuple(rows), tuple(floors)


def _floor(candidates: Sequence[GpuCandidate], taken: Throughputs) -> Floor | None:
    if len(taken.spans) <= len(candidates) or not taken.spans[0].rounds:
        return None
    itself = paired_ratio(taken.spans[-1], taken.spans[0])
    return Floor(candidates[0].name, itself, noise_floor(itself))


def _row(
    candidate: GpuCandidate, one: MeasuredGroup, taken: dict[str, list[Samples]], floor: float, batch: int
) -> GpuRow:
    first = one.group.candidates[0]
    spans, singles = taken.get(candidate.name, (None, None))
    reference = taken.get(first.name)
    compared = candidate is not first
    return GpuRow(
        name=candidate.name,
        model=candidate.network.name,
        runtime=candidate.runtime,
        precision=candidate.precision,
        parameters=candidate.network.parameters,
        macs=candidate.network.macs,
        runtime_version=candidate.runtime_version,
        runtime_options=candidate.runtime_options,
        file_bytes=candidate.file_bytes,
        throughput=images_per_second(spans, batch) if spans else None,
        latency=summarise(singles.values) if singles else None,
        baseline=first.name if compared else None,
        ratio=paired_ratio(spans, reference[0], floor) if spans and reference and compared else None,
        spans=spans,
        singles=singles,
        unavailable="" if spans else candidate.unavailable or one.failure or "not measured: interrupted",
    )


def notes_on(
    rows: Sequence[GpuRow], floors: Sequence[Floor], state: GpuState | None, extra: Sequence[str], interrupted: bool
) -> tuple[str, ...]:
    """Sentences on what limits the figures."""
    notes = ["interrupted: these figures are partial"] if interrupted else []
    notes += state.warnings if state else ()
    if any(floor.value is None for floor in floors):
        notes.append(f"fewer than {FEWEST_ROUNDS} rounds tell no interval; raise `iterations` or `min_time`")
    notes += [f"{row.name}: {row.unavailable}" for row in rows if row.unavailable]
    return (*notes, *extra)
