"""What `bench` prints: latency, files and cold starts, a suite beside the paper, a profile, two runs side by side."""

from __future__ import annotations

from rich.console import Group, RenderableType

from kdna_deploy.bench.compare import Comparison
from kdna_deploy.bench.cpu.profile import GROUPS, Profile
from kdna_deploy.bench.result import BenchResult, Row
from kdna_deploy.bench.saved import SavedRun
from kdna_deploy.bench.statistics import Ratio, Summary
from kdna_deploy.bench.suites import Suite
from kdna_deploy.reports.cells import Cells, rich_table
from kdna_deploy.reports.tables import facts

_SLOWEST_LAYERS = 12


def bench_report(result: BenchResult) -> RenderableType:
    """Everything that was measured, for a terminal."""
    tables = [rich_table(cells) for cells in bench_cells(result)]
    return Group(*tables, facts("", bench_facts(result)))


def bench_cells(result: BenchResult) -> list[Cells]:
    """The tables of a result."""
    found = [_suite_cells(result, result.suite)] if result.suite and result.suite.name != "runtimes" else []
    found += [_latency_cells(result)]
    if any(row.samples for row in result.rows):
        found.append(_file_cells(result))
    if result.profiles:
        details = (cells for p in result.profiles for cells in (_operator_cells(p), _layer_cells(p)))
        found += [_group_cells(result), *details]
    return found


def bench_facts(result: BenchResult) -> list[tuple[str, str]]:
    """How it was measured, a name and a sentence each."""
    options, machine = result.options, result.environment
    pinning = f"pinned to core {', '.join(map(str, result.cores))}" if result.cores else "not pinned"
    threads = "1 thread" if options.threads == 1 else f"{options.threads} threads"
    runs = max((row.latency.runs for row in result.rows if row.latency), default=0)
    governor = f", governor {machine.governor}" if machine.governor else ""
    lines = [
        ("machine", f"{machine.cpu}, {machine.cores} cores, load {machine.load}{governor}"),
        ("protocol", f"batch {options.batch}, {threads}, {pinning}, {runs} runs each, interleaved{_paper(result)}"),
    ]
    versions = dict.fromkeys(row.runtime_version for row in result.rows if row.runtime_version)
    lines.append(("runtime", ", ".join(versions)))
    for floor in result.floors:
        known = f"± {floor.value:.1%}" if floor.value is not None else "not known, too few rounds"
        lines.append(("noise floor", f"{known}: {floor.baseline} against itself {floor.ratio.value:.3f}"))
    if result.peak:
        lines.append(("peak", f"{result.peak.best.gflops:.0f} GFLOP/s in float32, by {result.peak.best.name}"))
    if any(row.baseline for row in result.rows) and options.baseline is None and not result.suite:
        lines.append(("baseline", "plain backbone of the same widths, input and export options, untrained weights"))
    if result.suite and result.suite.name == "table1":
        lines.append(("the paper", "prints 0.11 G for mobilenet_v2_1d2, whose count is 0.1048 G"))
    for e in result.explanations:
        lines.append(
            (
                "difference",
                f"{e.name}: {e.difference_ms:+.3f} ms to {e.baseline} = {e.extra_macs_ms:+.3f} by its MACs "
                f"{e.overhead_ms:+.3f} overhead",
            )
        )
    return lines


def _paper(result: BenchResult) -> str:
    return "; ratio of means, as in the paper" if result.options.protocol == "paper" else ""


def _latency_cells(result: BenchResult) -> Cells:
    headings = ("model", "median", "mean", "p90", "p99", "min", "ratio", "interval", "", "peak")
    return Cells(
        "Latency in ms; ratio to the baseline with its 95 % interval; share of the core's peak",
        headings,
        tuple(_latency_row(row) for row in result.rows),
    )


def _latency_row(row: Row) -> tuple[str, ...]:
    share = f"{row.share:.0%}" if row.share is not None else "–"
    if row.latency is None:
        return (row.name, *["–"] * 7, "no figures", share)
    return (row.name, *latency_figures(row.latency), *_ratio_cells(row), share)


def latency_figures(latency: Summary) -> tuple[str, ...]:
    """Median, mean, p90, p99, minimum."""
    return tuple(
        milliseconds(value) for value in (latency.median, latency.mean, latency.p90, latency.p99, latency.minimum)
    )


def milliseconds(value: float) -> str:
    """Four significant digits, as far as a latency deserves them."""
    if value >= 1000:
        return f"{value:.0f}"
    return f"{value:.1f}" if value >= 100 else f"{value:.2f}" if value >= 10 else f"{value:.3f}"


def _ratio_cells(row: Row) -> tuple[str, str, str]:
    if row.baseline is None:
        return ("1", "", "baseline")
    if row.ratio is None:
        return ("–", "", "")
    return (f"{row.ratio.value:.3f}", interval(row.ratio), row.ratio.verdict)


def interval(ratio: Ratio) -> str:
    """The interval, noise floor included."""
    return _range(*(ratio.interval or (None, None)))


def _range(low: float | None, high: float | None) -> str:
    return f"{low:.3f}–{high:.3f}" if low is not None and high is not None else "–"


def _file_cells(result: BenchResult) -> Cells:
    cold = any(row.cold for row in result.rows)
    timed = ("import", "load", "first", "RAM", "peak") if cold else ()
    headings = ("model", "params M", "MACs G", "file", *timed)
    title = "Files in MB; cold starts in fresh processes in ms, and their memory in MB" if cold else "Files in MB"
    return Cells(title, headings, tuple(_file_row(row, cold) for row in result.rows if row.samples))


def _file_row(row: Row, with_cold: bool) -> tuple[str, ...]:
    files = (row.name, f"{row.parameters / 1e6:.2f}", f"{row.macs / 1e9:.3f}", f"{row.file_bytes / 1e6:.2f}")
    if not with_cold:
        return files
    c = row.cold
    cold = (c.import_ms, c.load_ms, c.first_ms, c.resident_bytes / 1e6, c.peak_bytes / 1e6) if c else ()
    return (*files, *(f"{value:.0f}" for value in cold), *["–"] * (5 - len(cold)))


def _suite_cells(result: BenchResult, suite: Suite) -> Cells:
    """Our figures beside the paper's."""
    rows = {row.model: row for row in result.rows}
    by_name = {entry.name: entry for entry in suite.entries}
    headings = ("network", "params M", "paper", "FLOPs G", "paper", "MACs", "latency", "ratio", "paper", "overhead")
    cells = []
    for entry in suite.entries:
        row, printed = rows[entry.name], entry.printed
        plain = by_name.get(row.baseline or "")
        macs = entry.macs / plain.macs if plain else 1.0
        ours = row.ratio.value if row.ratio else None
        cells.append(
            (
                entry.name,
                f"{entry.parameters / 1e6:.2f}",
                f"{printed.parameters_m:.2f}" if printed else "–",
                f"{entry.table_flops / 1e9:.2f}",
                f"{printed.flops_g:.2f}" if printed and printed.flops_g else "–",
                f"×{macs:.3f}" if plain else "1",
                f"{row.latency.median:.2f} ms" if row.latency else "–",
                f"{ours:.3f}" if ours else ("1" if row.latency and not plain else "–"),
                _printed_ratio(printed, plain.printed if plain else None),
                f"×{ours / macs:.3f}" if ours else "",
            )
        )
    titles = {
        "table1": "Table 1: parameters, FLOPs as the paper counts them, latency; each beside the paper's",
        "layouts": "Table 3: layouts of ResNet-18's last two stages",
    }
    return Cells(titles[suite.name], headings, tuple(cells))


def _printed_ratio(own: object, plain: object) -> str:
    ours, theirs = getattr(own, "cpu_ms", None), getattr(plain, "cpu_ms", None)
    return f"{ours / theirs:.3f}" if ours and theirs else ""


def _group_cells(result: BenchResult) -> Cells:
    rows = tuple(
        (p.name, *(f"{p.by_group[group]:.0f}" for group in GROUPS), f"{sum(p.by_group.values()):.0f}")
        for p in result.profiles
    )
    title = "Where the time goes, in µs, the profiler's own 1 to 2 µs a node included"
    return Cells(title, ("model", *GROUPS, "sum"), rows)


def _operator_cells(profile: Profile) -> Cells:
    total = sum(layer.microseconds for layer in profile.layers)
    rows = tuple(
        (name, str(count), f"{microseconds:.0f}", f"{microseconds / total:.1%}")
        for name, (count, microseconds) in profile.by_operator.items()
    )
    return Cells(f"Operators of {profile.name}", ("operator", "nodes", "µs", "share"), rows)


def _layer_cells(profile: Profile) -> Cells:
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
    title = f"Slowest {len(rows)} of {len(profile.layers)} layers of {profile.name}; `save='FILE.json'` has them all"
    return Cells(title, ("layer", "operator", "group", "output", "µs", "share"), rows, left=3)


def comparison_report(comparison: Comparison) -> RenderableType:
    """Two saved runs side by side."""
    table = rich_table(comparison_cells(comparison))
    return Group(table, facts("", comparison_facts(comparison)))


def comparison_cells(comparison: Comparison) -> Cells:
    same = len({row.runtime for row in comparison.rows}) < 2
    headings = ("model", "A ms", "B ms", "ratio in A", "in B", "change", "interval", "")
    rows = tuple(
        (
            row.model if same else f"{row.model}, {row.runtime}",
            milliseconds(row.first.median) if row.first else "–",
            milliseconds(row.second.median) if row.second else "–",
            f"{row.first_ratio.value:.3f}" if row.first_ratio else "",
            f"{row.second_ratio.value:.3f}" if row.second_ratio else "",
            f"{row.change.value:.3f}" if row.change else "",
            _range(row.change.low, row.change.high) if row.change else "",
            row.verdict,
        )
        for row in comparison.rows
    )
    return Cells("Median latency, and ratio to each run's own baseline", headings, rows)


def comparison_facts(comparison: Comparison) -> list[tuple[str, str]]:
    runs = (("A", comparison.first), ("B", comparison.second))
    lines = [(name, f"{run.path}: {_machine(run)}") for name, run in runs]
    lines += [("differs", difference) for difference in comparison.differences]
    return lines


def _machine(run: SavedRun) -> str:
    versions = run.machine.get("versions", {})
    return f"{run.machine.get('cpu')}, ONNX Runtime {versions.get('onnxruntime', '–')}"
