"""What `sweep` tells: the file to ship, a table of all that were measured, and why the others were not."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from kdna_deploy.benchmark.environment import processor
from kdna_deploy.reports.cells import Cells, Fact
from kdna_deploy.reports.quantities import between, megabytes, milliseconds
from kdna_deploy.reports.report import Facts, Report
from kdna_deploy.selection.result import Contender, Figures, Limits, Sweep
from kdna_deploy.words import counted

_CAPTION = (
    "● on the Pareto front of size, drop, latency, private memory and portability; ✗ beyond a limit; drop in points of "
    "top-1, same: images with the float32 file's top-1, of that one with the network's"
)


def sweep_report(sweep: Sweep) -> Report:
    """Of a whole sweep, or of what there is of one."""
    tables = [_cells(title, rows, sweep) for title, rows in _by_runtime(sweep.measured) if rows]
    reasons = [*_ruled_out(sweep.candidates), *_failed(sweep.candidates)]
    apart = [Facts("Not measured", reasons)] if reasons else []
    return Report((Facts("Sweep", _facts(sweep)), *tables, *apart), sweep.record, sweep.notes)


def _facts(sweep: Sweep) -> list[Fact]:
    found, network, base = sweep.chosen, sweep.network, sweep.baseline
    shown = [("recommended", f"{found.name}: {found.file} ({_size(found)})" if found else "none")]
    shown += [("why", sweep.reason)]
    shown += [("made by", sweep.command)] if found else []
    limits = _limits(sweep.limits)
    shown += [("least", f"{sweep.minimize}{f', with {limits}' if limits else ''}")]
    top1 = "" if network.top1 is None else f", top-1 {network.top1:.2%} on {sweep.images.count} images"
    shown += [("network", f"{network.name}, {network.checkpoint}{top1}")]
    if base:
        shown += [("ratio to", f"{base.name}: {milliseconds(base.latency_ms)} ms, {megabytes(base.bytes)}")]
    named = processor(str(sweep.machine.get("cpu")), sweep.machine.get("flags") or ())
    shown += [("machine", f"{named}, load up to {sweep.machine.get('load')}")]
    work = sweep.work
    shown += [("this call", f"{counted(work.made, 'file')} made, {work.evaluated} evaluated, {work.timed} timed")]
    return [*shown, ("kept in", sweep.folder)]


def _size(one: Contender) -> str:
    return megabytes(one.figures.bytes) if one.figures else ""


def _limits(limits: Limits) -> str:
    told = {
        "size": None if limits.max_bytes is None else megabytes(limits.max_bytes),
        "drop": None if limits.max_drop is None else f"{limits.max_drop:g} points",
        "latency": None if limits.max_latency_ms is None else f"{limits.max_latency_ms:g} ms",
        "private memory": None if limits.max_memory is None else megabytes(limits.max_memory),
    }
    return ", ".join(f"{name} up to {limit}" for name, limit in told.items() if limit is not None)


def _by_runtime(measured: Sequence[Contender]) -> Iterable[tuple[str, list[Contender]]]:
    on_onnx = [one for one in measured if one.runtime == "onnxruntime"]
    yield "On ONNX Runtime", [one for one in on_onnx if not one.prepared]
    yield "On ONNX Runtime, prepared for this processor", [one for one in on_onnx if one.prepared]
    yield "On OpenVINO", [one for one in measured if one.runtime == "openvino"]


def _cells(title: str, rows: Sequence[Contender], sweep: Sweep) -> Cells:
    headings = ("file", "MB", "ratio", "interval", "drop", "same", "opens ms", "private MB", "")
    cells = tuple(_row(one, one.figures, sweep) for one in rows if one.figures)
    last = rows[-1].name == sweep.measured[-1].name
    return Cells(title, headings, cells, caption=_CAPTION if last else "")


def _row(one: Contender, figures: Figures, sweep: Sweep) -> tuple[str, ...]:
    # The title says the runtime.
    name = one.name.removesuffix(" OpenVINO").removesuffix(" prepared")
    marks = "●" * one.pareto + "✗" * (not one.fits)
    ratio = figures.ratio
    return (
        f"{name} ←" if one.name == sweep.recommended else name,
        f"{figures.bytes / 1e6:.2f}",
        f"{ratio.median:.3f}",
        between(ratio.low, ratio.high),
        f"{figures.drop:.2f}",
        f"{figures.agreement:.1%}",
        "–" if figures.opening_ms is None else f"{figures.opening_ms:.0f}",
        "–" if figures.private_bytes is None else f"{figures.private_bytes / 1e6:.0f}",
        marks,
    )


def _ruled_out(candidates: Sequence[Contender]) -> list[Fact]:
    """A rule a line, with how many candidates it drops."""
    reasons = dict.fromkeys(one.reason for one in candidates if one.state == "ruled out")
    return [(_dropped(candidates, reason), reason) for reason in reasons]


def _dropped(candidates: Sequence[Contender], reason: str) -> str:
    return f"{sum(one.reason == reason for one in candidates)} ruled out"


def _failed(candidates: Sequence[Contender]) -> list[Fact]:
    return [(one.name, one.reason) for one in candidates if one.state == "failed"]
