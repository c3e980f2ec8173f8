"""Evidence → the sections of the page, in order, and what is not there with the option that brings it.

A section is made by one function, which returns None where it has nothing to say; the order is that of `_SECTIONS`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from kdna_deploy.figures.drawing import Drawing
from kdna_deploy.reports.bench import bench_report
from kdna_deploy.reports.cells import Cells
from kdna_deploy.reports.evaluation import evaluation_report
from kdna_deploy.reports.inspection import inspection_report
from kdna_deploy.reports.page.commands import what_brings
from kdna_deploy.reports.page.evidence import Evidence
from kdna_deploy.reports.page.parts import Heading, Part, Pictures, facts, figure, parts, table
from kdna_deploy.reports.page.provenance import provenance_parts
from kdna_deploy.reports.page.summary import summary_parts, summary_sentences
from kdna_deploy.reports.report import Report
from kdna_deploy.reports.sweep import sweep_report
from kdna_deploy.reports.verify import verify_report

Drawings = Mapping[str, Sequence[Drawing]]  # by the section that they belong to
Made = tuple[tuple[str, ...], tuple[Part, ...]]  # sentences, and what follows them


@dataclass(frozen=True)
class Section:
    """A section; `name` is what links lead to."""

    name: str
    title: str
    says: tuple[str, ...]
    parts: tuple[Part, ...]


@dataclass(frozen=True)
class LeftOut:
    """A section that is not there, and what brings it."""

    name: str
    title: str
    remedy: str


def sections(evidence: Evidence, drawings: Drawings) -> tuple[tuple[Section, ...], tuple[LeftOut, ...]]:
    """What is on the page, and what is not."""
    made = [(name, title, make(evidence, tuple(drawings.get(name, ())))) for name, title, make in _SECTIONS]
    found = tuple(Section(name, title, *own) for name, title, own in made if own)
    return found, tuple(LeftOut(name, title, what_brings(name)) for name, title, own in made if own is None)


def _summary(evidence: Evidence, drawings: Sequence[Drawing]) -> Made | None:
    return summary_sentences(evidence), summary_parts(evidence)


def _drawn(says: str) -> Callable[[Evidence, Sequence[Drawing]], Made | None]:
    """A section of drawings alone."""

    def make(evidence: Evidence, drawings: Sequence[Drawing]) -> Made | None:
        return ((says,), tuple(map(figure, drawings))) if drawings else None

    return make


def _choice(evidence: Evidence, drawings: Sequence[Drawing]) -> Made | None:
    if not evidence.sweeps:
        return None
    found: list[Part] = []
    for name, sweep in evidence.sweeps:
        found.append(Heading(f"Swept: {name}"))
        found += _of(sweep_report(sweep))
    says = "Every file that was made and measured, and why the others were not; the recommended one stands out."
    return (says,), tuple(found)


def _accuracy(evidence: Evidence, drawings: Sequence[Drawing]) -> Made | None:
    done = evidence.judged
    if done is None:
        return None
    worst = [part for part in evaluation_report(done).parts if isinstance(part, Cells)]
    says = [f"On {done.result.images} labelled images of '{done.data}'."]
    if drawings:
        says.append(f"Which classes are taken for which, and the images, are those of {done.model}.")
    shown: list[Part] = []
    if evidence.images:
        wrong = sum(not image.right for image in evidence.images)
        told = "Of the classes recognised worst" if wrong else "Every image was recognised; these are the least certain"
        shown = [Heading(told), Pictures(evidence.images)]
    return tuple(says), (table(_accuracies(evidence)), *map(figure, drawings), *map(table, worst), *shown)


def _accuracies(evidence: Evidence) -> Cells:
    rows = []
    for file in evidence.files:
        if (done := file.evaluation) is None:
            continue
        beside = done.result.agreement
        figures = (
            f"{100 * done.result.top1:.2f}",
            "–" if done.result.top5 is None else f"{100 * done.result.top5:.2f}",
            f"{100 * beside.same_top1:.2f}" if beside else "–",
            f"{beside.sqnr:.1f}" if beside and abs(beside.sqnr) < float("inf") else "–",
        )
        rows.append((file.path.name, done.reference or "–", str(done.result.images), *figures))
    headings = ("file", "compared with", "images", "top-1 %", "top-5 %", "same top-1 %", "SQNR dB")
    return Cells("Accuracy, and agreement with the original", headings, tuple(rows), left=2)


def _tables(evidence: Evidence, drawings: Sequence[Drawing]) -> Made | None:
    found: list[Part] = []
    for network in evidence.networks:
        found += _titled(f"Inspected: {network.file.path.name}", inspection_report(network.inspection))
    for file in evidence.files:
        if file.verification is not None:
            found += _titled(f"Verified: {file.path.name}", verify_report(file.verification, None))
    for file in evidence.files:
        if file.evaluation is not None:
            found += _titled(f"Evaluated: {file.path.name}", evaluation_report(file.evaluation))
    for name, result in evidence.runs:
        found += _titled(f"Measured {name}", bench_report(result))
    return (("What the commands print, to be sorted by any column.",), tuple(found)) if found else None


def _titled(title: str, report: Report) -> tuple[Part, ...]:
    return (Heading(title), *_of(report))


def _of(report: Report) -> tuple[Part, ...]:
    return (*parts(report), *facts("", [("note", note) for note in report.notes]))


def _provenance(evidence: Evidence, drawings: Sequence[Drawing]) -> Made | None:
    return (), provenance_parts(evidence)


_SECTIONS: tuple[tuple[str, str, Callable[[Evidence, Sequence[Drawing]], Made | None]], ...] = (
    ("summary", "Summary", _summary),
    ("front", "Accuracy over latency", _drawn("Up and to the left is better; the area of a point is its file's size.")),
    ("choice", "Which file to ship", _choice),
    ("sharing", "Who shares whose kernel", _drawn("Children take the kernel of their parent, each in its own way.")),
    (
        "attention",
        "Attention",
        _drawn("Static attention is folded into the kernels; channel attention depends on the image."),
    ),
    (
        "similarity",
        "How alike layers are",
        _drawn(
            "Linear CKA of what two layers answer on the same images: 1 where they differ by a rotation and a scale."
        ),
    ),
    ("time", "Where the time goes", _drawn("Measured in the same run as the baseline, layer by layer.")),
    ("accuracy", "Accuracy", _accuracy),
    ("tables", "Tables", _tables),
    ("provenance", "Where everything comes from", _provenance),
)
