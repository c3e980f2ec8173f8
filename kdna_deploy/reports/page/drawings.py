"""Evidence → the figures of the page, by the section that they stand in. Nothing is drawn yet."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from kdna_deploy.benchmark.plan import subject_names
from kdna_deploy.benchmark.result import Row
from kdna_deploy.figures.channel_attention import channel_attention
from kdna_deploy.figures.drawing import Drawing
from kdna_deploy.figures.filter_attention import filter_attention
from kdna_deploy.figures.front import Point, front
from kdna_deploy.figures.of_results import of_bench, of_evaluation, of_sweep
from kdna_deploy.figures.sharing import sharing
from kdna_deploy.figures.similarity import similarity
from kdna_deploy.figures.spatial_attention import spatial_attention
from kdna_deploy.graph.sharing_map import sharing_map
from kdna_deploy.reports.page.evidence import HERE, Evidence, NetworkEvidence


def drawings_of(evidence: Evidence) -> Mapping[str, tuple[Drawing, ...]]:
    """Section → its figures, each with a name of its own; sections without any are left out."""
    found = {
        "front": (*(one for _, sweep in evidence.sweeps for one in of_sweep(sweep)), *_measured(evidence)),
        "sharing": tuple(map(_sharing, evidence.networks)),
        "attention": tuple(one for network in evidence.networks for one in _attention(network)),
        "similarity": tuple(similarity(one.similarity) for one in evidence.networks if one.similarity),
        "time": tuple(one for _, result in evidence.runs for one in of_bench(result)),
        "accuracy": of_evaluation(evidence.judged) if evidence.judged else (),
    }
    names: set[str] = set()
    drawn = {section: tuple(_named_apart(several, names)) for section, several in found.items()}
    return {section: several for section, several in drawn.items() if several}


def _named_apart(several: Iterable[Drawing | None], names: set[str]) -> Iterator[Drawing]:
    for drawing in several:
        if drawing is None:
            continue
        name, number = drawing.name, 1
        while name in names:
            number += 1
            name = f"{drawing.name}-{number}"
        names.add(name)
        yield replace(drawing, name=name)


def _measured(evidence: Evidence) -> Iterator[Drawing]:
    """Of each run, the files whose accuracy is known as well."""
    named = _by_name(evidence)
    for place, result in evidence.runs:
        top1 = _measured_here(evidence) if place == HERE else named
        shown = [row for row in result.rows if row.latency and row.model in top1]
        baselines = {row.baseline for row in shown}
        beside = next((row for row in result.rows if baselines == {row.name} and row.latency), None)
        if shown:
            points = [_point(row, top1[row.model]) for row in shown]
            yield front(points, _point(beside, None) if beside else None)


def _measured_here(evidence: Evidence) -> dict[str, float]:
    """Accuracy of what was measured for the page, by the names of its rows."""
    files = [file for file in evidence.artifacts if file.runs_on_cpu]
    names = subject_names([file.path for file in files])
    return {name: one.evaluation.result.top1 for name, one in zip(names, files, strict=True) if one.evaluation}


def _by_name(evidence: Evidence) -> dict[str, float]:
    """Accuracy by the name of a file, which is all that a saved run tells of it: not where several have that name."""
    several = Counter(file.path.name for file in evidence.files)
    judged = {file.path.name: file.evaluation for file in evidence.files if file.evaluation}
    return {name: one.result.top1 for name, one in judged.items() if several[name] == 1}


def _point(row: Row, top1: float | None) -> Point:
    assert row.latency is not None
    return Point(row.name, row.latency.median, None if top1 is None else 100 * top1, row.file_bytes)


def _sharing(one: NetworkEvidence) -> Drawing | None:
    inspection = one.inspection
    architecture = inspection.network.architecture
    found = sharing_map(inspection.ledger, architecture.layouts if architecture else {})
    return sharing(found, inspection.network.name)


def _attention(one: NetworkEvidence) -> Iterator[Drawing | None]:
    yield spatial_attention(one.inspection.modulations)
    yield filter_attention(one.inspection.modulations)
    yield channel_attention(one.gates, one.costs)
