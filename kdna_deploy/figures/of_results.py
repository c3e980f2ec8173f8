"""What there is to draw of a result, in the order in which one looks at it; nothing of what it does not hold."""

from __future__ import annotations

from kdna_deploy.benchmark.cpu.findings import CpuFindings
from kdna_deploy.benchmark.result import BenchResult
from kdna_deploy.evaluation.evaluate import FileEvaluation
from kdna_deploy.figures.channel_attention import channel_attention
from kdna_deploy.figures.confusion import confusion
from kdna_deploy.figures.drawing import Drawing
from kdna_deploy.figures.filter_attention import filter_attention
from kdna_deploy.figures.front import Point, front
from kdna_deploy.figures.layer_times import layer_times
from kdna_deploy.figures.roofline import Placed, roofline
from kdna_deploy.figures.sharing import sharing
from kdna_deploy.figures.spatial_attention import spatial_attention
from kdna_deploy.graph.inspection import Inspection
from kdna_deploy.graph.sharing_map import sharing_map
from kdna_deploy.selection.result import Baseline, Contender, Sweep
from kdna_deploy.targets.fuse import Fused


def of_inspection(found: Inspection) -> tuple[Drawing, ...]:
    """Shared kernels, spatial and filter attention."""
    architecture = found.network.architecture
    shared = sharing_map(found.ledger, architecture.layouts if architecture else {})
    return _there(
        sharing(shared, found.network.name), spatial_attention(found.modulations), filter_attention(found.modulations)
    )


def of_fused(found: Fused) -> tuple[Drawing, ...]:
    """Channel attention, where it was measured to be frozen."""
    return _there(channel_attention(found.freezing.statistics))


def of_evaluation(found: FileEvaluation) -> tuple[Drawing, ...]:
    """What classes are taken for."""
    return (confusion(found.result, found.class_names),)


def of_sweep(found: Sweep) -> tuple[Drawing, ...]:
    """Accuracy over latency of what was measured. That of a plain backbone is not known: it is untrained."""
    points = [_point(one, one.name == found.recommended) for one in found.measured]
    return (front(points, _plain(found.baseline)),) if points else ()


def _point(one: Contender, recommended: bool) -> Point:
    assert one.figures is not None
    return Point(one.name, one.figures.latency_ms, 100 * one.figures.top1, one.figures.bytes, recommended)


def _plain(baseline: Baseline | None) -> Point | None:
    return None if baseline is None else Point(baseline.name, baseline.latency_ms, None, baseline.bytes)


def of_bench(found: BenchResult) -> tuple[Drawing, ...]:
    """Where the time goes and the roofline, of what was measured on the CPU."""
    findings = found.findings
    if not isinstance(findings, CpuFindings):
        return ()
    plain = {row.name for row in found.rows if row.baseline is None}
    profiles = sorted(findings.profiles, key=lambda one: one.name not in plain)
    batch = found.options.batch
    placed = [
        Placed(row.name, batch * row.macs, row.latency.median, row.name in plain) for row in found.rows if row.latency
    ]
    peak = findings.peak
    return _there(layer_times(profiles), roofline(placed, peak.best.gflops) if peak else None)


def _there(*drawings: Drawing | None) -> tuple[Drawing, ...]:
    return tuple(one for one in drawings if one is not None)
