"""What a run on the CPU has of its own to print: latency and its ratio, cold starts, profiles, the paper's tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kdna_deploy.benchmark.cpu.cold_start import TOGETHER
from kdna_deploy.benchmark.cpu.device import Cpu
from kdna_deploy.benchmark.cpu.findings import CpuFigures, CpuFindings
from kdna_deploy.benchmark.cpu.profile import GROUPS, Profile
from kdna_deploy.benchmark.cpu.streams import Throughput
from kdna_deploy.benchmark.result import BenchResult, Row
from kdna_deploy.reports.cells import Cells, Fact
from kdna_deploy.reports.quantities import between, milliseconds

if TYPE_CHECKING:
    from kdna_deploy.benchmark.paper import Printed
    from kdna_deploy.benchmark.suites import Entry

_SLOWEST_LAYERS = 12
_SUITES = {"table1": "Table 1", "layouts": "Table 3, layouts of ResNet-18's last two stages"}


class CpuTables:
    """Of a result on the CPU."""

    def __init__(self, result: BenchResult) -> None:
        assert isinstance(result.findings, CpuFindings)
        assert isinstance(result.options.device, Cpu)
        self._result, self._found, self._device = result, result.findings, result.options.device

    def suite(self) -> list[Cells]:
        """What is compared with the paper has sizes in one table and times in another, for it fits no 80 columns."""
        suite = self._result.suite
        if suite is None or suite.name not in _SUITES:
            return []
        return [_sizes(_SUITES[suite.name], suite.entries), self._times(_SUITES[suite.name], suite.entries)]

    def compared(self) -> Cells:
        title = "Latency in ms; ratio to the baseline with its 95 % interval; share of peak"
        headings = ("model", "median", "ratio", "interval", "verdict", "peak")
        return Cells(title, headings, tuple(_compared(row) for row in self._result.rows))

    def started(self) -> tuple[tuple[str, ...], dict[str, tuple[str, ...]]]:
        cold = {row.name: start for row in self._result.rows if (start := _own(row).cold)}
        figures = {
            name: tuple(f"{value:.0f}" for value in (c.import_ms, c.load_ms, c.first_ms)) for name, c in cold.items()
        }
        return ("import", "load", "first") if cold else (), figures

    def details(self) -> list[Cells]:
        profiles, cold = self._found.profiles, [row for row in self._result.rows if _own(row).cold]
        memory = [_memory(cold)] if cold else []
        memory = [_throughput(self._found.streams), *memory] if self._found.streams else memory
        if not profiles:
            return memory
        return [*memory, _groups(profiles), *(cells for one in profiles for cells in (_operators(one), _layers(one)))]

    def machine(self) -> str:
        machine = self._result.environment
        governor = f", governor {machine.governor}" if machine.governor else ""
        return f"{machine.processor}, {machine.cores} cores, load {machine.load}{governor}"

    def protocol(self) -> str:
        options, cores = self._result.options, self._found.cores
        pinning = f"pinned to core {', '.join(map(str, cores))}" if cores else "not pinned"
        threads = "1 thread" if self._device.threads == 1 else f"{self._device.threads} threads"
        runs = max((row.latency.runs for row in self._result.rows if row.latency), default=0)
        paper = "; ratio of means, as in the paper" if options.protocol == "paper" else ""
        return f"batch {options.batch}, {threads}, {pinning}, {runs} runs each, interleaved{paper}"

    def facts(self) -> list[Fact]:
        lines = []
        if peak := self._found.peak:
            lines.append(("peak", f"{peak.best.gflops:.0f} GFLOP/s in float32, by {peak.best.name}"))
        for e in self._found.explanations:
            parts = f"{e.extra_macs_ms:+.3f} by its MACs {e.overhead_ms:+.3f} overhead"
            lines.append(("difference", f"{e.name}: {e.difference_ms:+.3f} ms to {e.baseline} = {parts}"))
        return lines

    def _times(self, title: str, entries: tuple[Entry, ...]) -> Cells:
        rows = {row.model: row for row in self._result.rows}
        by_name = {entry.name: entry for entry in entries}
        cells = tuple(_time(entry, rows[entry.name], by_name) for entry in entries)
        headings = ("network", "latency", "ratio", "paper", "MACs", "overhead")
        return Cells(
            f"{title}: latency in ms and its ratio to the plain backbone's, beside the paper's", headings, cells
        )


def _own(row: Row) -> CpuFigures:
    assert isinstance(row.figures, CpuFigures)
    return row.figures


def _memory(rows: list[Row]) -> Cells:
    """Of the rows that were started in fresh processes."""
    starts = [(row.name, start) for row in rows if (start := _own(row).cold)]
    together = any(start.together_bytes is not None for _, start in starts)
    headings = ("model", "RAM", "private", "shared", "peak", *([f"{TOGETHER} at once"] if together else []))
    cells = []
    for name, start in starts:
        sizes = [start.resident_bytes, start.private_bytes, start.shared_bytes, start.peak_bytes]
        sizes += [start.together_bytes] if together else []
        cells.append((name, *("–" if size is None else f"{size / 1e6:.0f}" for size in sizes)))
    return Cells("Memory of a fresh process after its first inference in MB", headings, tuple(cells))


def _throughput(found: tuple[Throughput, ...]) -> Cells:
    """Streams by streams and batch by batch, candidates beside their baselines."""
    cells = []
    for one in found:
        low, high = (one.kept.low, one.kept.high) if one.kept else (None, None)
        share = f"{100 * one.kept.value:.1f}" if one.kept else ""
        figures = (str(one.streams), str(one.batch), f"{one.images_per_second:.4g}")
        cells.append((one.name, *figures, share, between(low, high, scale=100, digits=1) if one.kept else ""))
    title = "Throughput of streams; what is kept of the baseline's, its 95 % interval"
    headings = ("model", "streams", "batch", "images/s", "kept %", "interval")
    return Cells(title, headings, tuple(cells))


def _compared(row: Row) -> tuple[str, ...]:
    share = _own(row).share
    peak = f"{share:.0%}" if share is not None else "–"
    if row.latency is None:
        return (row.name, "–", "–", "–", "no figures", peak)
    return (row.name, milliseconds(row.latency.median), *_ratio(row), peak)


def _ratio(row: Row) -> tuple[str, str, str]:
    if row.baseline is None:
        return ("1", "", "baseline")
    if row.ratio is None:
        return ("–", "", "")
    return (f"{row.ratio.value:.3f}", between(*(row.ratio.interval or (None, None))), row.ratio.verdict)


def _sizes(title: str, entries: tuple[Entry, ...]) -> Cells:
    cells = tuple(
        (
            entry.name,
            f"{entry.parameters / 1e6:.2f}",
            f"{entry.printed.parameters_m:.2f}" if entry.printed else "–",
            f"{entry.table_flops / 1e9:.2f}",
            f"{entry.printed.flops_g:.2f}" if entry.printed and entry.printed.flops_g else "–",
        )
        for entry in entries
    )
    headings = ("network", "params M", "paper", "FLOPs G", "paper")
    return Cells(f"{title}: parameters, and FLOPs as the paper counts them; each beside the paper's", headings, cells)


def _time(entry: Entry, row: Row, entries: dict[str, Entry]) -> tuple[str, ...]:
    """Overhead is what the ratio is beyond that of the MACs."""
    plain = entries.get(row.baseline or "")
    macs = entry.macs / plain.macs if plain else 1.0
    ratio = row.ratio.value if row.ratio else None
    return (
        entry.name,
        f"{row.latency.median:.2f}" if row.latency else "–",
        f"{ratio:.3f}" if ratio else ("1" if row.latency and not plain else "–"),
        _printed(entry.printed, plain.printed if plain else None),
        f"×{macs:.3f}" if plain else "1",
        f"×{ratio / macs:.3f}" if ratio else "",
    )


def _printed(own: Printed | None, plain: Printed | None) -> str:
    """The paper's ratio."""
    return f"{own.cpu_ms / plain.cpu_ms:.3f}" if own and plain and own.cpu_ms and plain.cpu_ms else ""


def _groups(profiles: tuple[Profile, ...]) -> Cells:
    rows = tuple(
        (one.name, *(f"{one.by_group[group]:.0f}" for group in GROUPS), f"{sum(one.by_group.values()):.0f}")
        for one in profiles
    )
    title = "Where the time goes, in µs, the profiler's own 1 to 2 µs a node included"
    return Cells(title, ("model", *GROUPS, "sum"), rows)


def _operators(profile: Profile) -> Cells:
    total = sum(layer.microseconds for layer in profile.layers)
    rows = tuple(
        (name, str(count), f"{microseconds:.0f}", f"{microseconds / total:.1%}")
        for name, (count, microseconds) in profile.by_operator.items()
    )
    return Cells(f"Operators of {profile.name}", ("operator", "nodes", "µs", "share"), rows)


def _layers(profile: Profile) -> Cells:
    slowest = sorted(profile.layers, key=lambda layer: -layer.microseconds)[:_SLOWEST_LAYERS]
    total = sum(layer.microseconds for layer in profile.layers)
    rows = tuple(
        (
            layer.name,
            layer.operator,
            layer.group,
            "×".join(map(str, layer.shape)),
            f"{layer.microseconds:.0f}",
            f"{layer.microseconds / total:.1%}",
        )
        for layer in slowest
    )
    title = f"Slowest {len(rows)} of {len(profile.layers)} layers of {profile.name}; a run saved as .json has them all"
    return Cells(title, ("layer", "operator", "group", "output", "µs", "share"), rows, left=3)
