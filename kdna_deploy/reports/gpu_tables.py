"""What `bench --gpu` prints: throughput and latency, the state of the GPU, and a suite beside the paper."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Group, RenderableType

from kdna_deploy.bench.gpu.result import GpuResult, GpuRow
from kdna_deploy.bench.gpu.state import GpuMachine, GpuState
from kdna_deploy.bench.gpu.suite import GpuSuite
from kdna_deploy.bench.statistics import Kept
from kdna_deploy.reports.bench_tables import milliseconds
from kdna_deploy.reports.cells import Cells, rich_table
from kdna_deploy.reports.tables import facts


def gpu_report(result: GpuResult) -> RenderableType:
    """Everything that was measured, for a terminal."""
    return Group(*(rich_table(cells) for cells in gpu_cells(result)), facts("", gpu_facts(result)))


def gpu_cells(result: GpuResult) -> list[Cells]:
    """The tables of a result."""
    found = [_suite_cells(result, result.suite)] if result.suite else []
    headings = ("network", "runtime", "precision", "images/s", "kept %", "interval", "latency", "p99", "file")
    rows = tuple(_row_cells(row) for row in result.rows)
    title = "Throughput, and what is kept of the baseline's with its 95 % interval; latency in ms; file or engine in MB"
    return [*found, Cells(title, headings, rows, left=3)]


def gpu_facts(result: GpuResult) -> list[tuple[str, str]]:
    """How it was measured, a name and a sentence each."""
    lines = [("machine", _machine(result.machine, result.state)), ("protocol", _protocol(result))]
    versions = dict.fromkeys(row.runtime_version for row in result.rows if row.runtime_version)
    lines.append(("runtime", ", ".join(versions)))
    for floor in result.floors:
        known = f"± {floor.value:.1%}" if floor.value is not None else "not known, too few rounds"
        lines.append(("noise floor", f"{known}: {floor.baseline} against itself {floor.ratio.value:.3f}"))
    if any(row.baseline for row in result.rows) and result.options.baseline is None and not result.suite:
        lines.append(("baseline", "plain backbone of the same widths and input, untrained weights"))
    if result.suite and result.suite.printed:
        lines.append(("the paper", "RTX 4090, batch 128; it names neither runtime nor precision"))
    return lines


def _machine(machine: GpuMachine, state: GpuState | None) -> str:
    said = [f"{machine.name}, compute capability {machine.compute_capability}"]
    said += [f"driver {machine.driver}"] if machine.driver else []
    said += [f"CUDA {machine.cuda}"] if machine.cuda else []
    return ", ".join([*said, *_told(machine, state)] if state else said)


def _told(machine: GpuMachine, state: GpuState) -> Iterator[str]:
    """What the GPU tells of its state."""
    if state.sm_mhz is not None:
        low, middle, high = state.sm_mhz
        yield f"clock {middle} MHz ({low} to {high})"
    if state.memory_mhz is not None:
        yield f"memory {state.memory_mhz} MHz"
    if state.power_w is not None:
        limit = f" of {machine.power_limit_w:.0f}" if machine.power_limit_w else ""
        yield f"{state.power_w[0]:.0f} W{limit}, at most {state.power_w[1]:.0f}"
    if state.temperature_c is not None:
        yield f"{state.temperature_c} °C"


def _protocol(result: GpuResult) -> str:
    options = result.options
    runs = max((row.spans.values.size for row in result.rows if row.spans), default=0)
    copies = "copies from and to the host included" if options.host_copies else "images on the device"
    streams = "1 stream" if options.streams == 1 else f"{options.streams} streams"
    graphs = "CUDA graphs" if options.cuda_graphs else "no CUDA graphs"
    return f"batch {options.batch}, {copies}, {streams}, {graphs}, {runs} spans each, interleaved, by CUDA events"


def _row_cells(row: GpuRow) -> tuple[str, ...]:
    names = (row.model, row.runtime, row.precision)
    if row.throughput is None or row.latency is None:
        return (*names, "–", "–", "no figures", "–", "–", "–")
    return (
        *names,
        f"{row.throughput:.0f}",
        "baseline" if row.baseline is None else _percent(row.kept),
        interval(row.kept) if row.baseline else "",
        milliseconds(row.latency.median),
        milliseconds(row.latency.p99),
        f"{row.file_bytes / 1e6:.1f}",
    )


def _percent(kept: Kept | None) -> str:
    return f"{100 * kept.value:.1f}" if kept else "–"


def interval(kept: Kept | None) -> str:
    """In per cent."""
    if kept is None or kept.low is None or kept.high is None:
        return "–"
    return f"{100 * kept.low:.1f}–{100 * kept.high:.1f}"


def _suite_cells(result: GpuResult, suite: GpuSuite) -> Cells:
    """Our figures beside the paper's."""
    models = {row.name: row.model for row in result.rows}
    cells = []
    for row in result.rows:
        printed = suite.printed.get(row.model)
        plain = suite.printed.get(models.get(row.baseline or "", ""))
        cells.append(
            (
                row.model,
                row.runtime,
                row.precision,
                f"{row.throughput:.0f}" if row.throughput else "–",
                f"{printed.gpu_fps:.0f}" if printed else "–",
                _percent(row.kept) if row.baseline else "",
                f"{100 * printed.gpu_fps / plain.gpu_fps:.1f}" if printed and plain else "",
            )
        )
    headings = ("network", "runtime", "precision", "images/s", "the paper", "kept %", "the paper")
    return Cells("Table 1: throughput, and what is kept of the plain backbone's", headings, tuple(cells), left=3)
