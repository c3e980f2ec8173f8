"""What `evaluate` prints."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from kdna_deploy.evaluation.evaluate import FileEvaluation
from kdna_deploy.reports.agreement import finite
from kdna_deploy.reports.cells import Cells
from kdna_deploy.reports.input import shape_text
from kdna_deploy.reports.report import Facts, Report, document

_WORST = 10
_TAKEN_FOR = 3


def evaluation_report(done: FileEvaluation) -> Report:
    """Accuracy, agreement, and the classes that are recognised worst."""
    result = done.result
    rows = [
        ("model", done.model),
        ("input", f"{shape_text(done.image_shape, done.size_assumed)}; {done.preprocessing}"),
        ("images", _images(done)),
        ("top-1", f"{result.top1:.2%}"),
    ]
    if done.recorded_top1 is not None:
        rows.append(("recorded top-1", f"{done.recorded_top1:.2f} %"))
    if done.shortfall is not None:
        rows += [("falls short", done.shortfall.text), ("likely cause", str(done.cause))]
    if result.top5 is not None:
        rows.append(("top-5", f"{result.top5:.2%}"))
    agreement = result.agreement
    if agreement is not None:
        rows += [
            (f"against {done.reference}", f"top-1 {agreement.reference_top1:.2%}"),
            ("same top-1", f"{agreement.same_top1:.2%}"),
            ("SQNR", f"{agreement.sqnr:.1f} dB over all logits"),
            ("cosine", f"{agreement.cosine:.6f} on average"),
        ]
    wrong = any(c.right < c.images for c in result.classes)
    parts: tuple[Facts | Cells, ...] = (Facts("Evaluation", rows), *((_worst(done),) if wrong else ()))
    return Report(parts, _data(done), done.notes)


def _images(done: FileEvaluation) -> str:
    """What was recognised of the data, and what was left out."""
    drawn = "" if done.limit is None else f" of {done.available}, drawn with seed {done.seed},"
    classes = f"in {len(done.class_names)} of {done.num_classes} classes"
    left_out = f"; left out: {', '.join(done.left_out)}" if done.left_out else ""
    return f"{done.result.images}{drawn} {classes}, {done.data}: {done.layout}{left_out}"


def _worst(done: FileEvaluation) -> Cells:
    rows = tuple(
        (
            done.class_names[c.label],
            ", ".join(f"{_name(done, label)} ({count})" for label, count in c.taken_for[:_TAKEN_FOR]),
            str(c.images),
            f"{c.accuracy:.1%}",
        )
        for c in done.result.classes[:_WORST]
        if c.right < c.images
    )
    return Cells("Classes recognised worst", ("class", "taken for", "images", "top-1"), rows, left=2)


def _name(done: FileEvaluation, label: int) -> str:
    return done.class_names.get(label, str(label))


def _data(done: FileEvaluation) -> dict[str, Any]:
    result = done.result
    agreement = asdict(result.agreement) if result.agreement else None
    if agreement is not None:
        agreement["sqnr"] = finite(agreement["sqnr"])
    return document(
        "evaluate",
        {
            "model": done.model,
            "reference": done.reference,
            "data": done.data,
            "layout": done.layout,
            "left_out": list(done.left_out),
            "available": done.available,
            "limit": done.limit,
            "seed": done.seed,
            "image_shape": list(done.image_shape),
            "size_assumed": done.size_assumed,
            "preprocessing": done.preprocessing.to_record(),
            "num_classes": done.num_classes,
            "recorded_top1": done.recorded_top1,
            "falls_short": done.shortfall is not None,
            "likely_cause": done.cause,
            "notes": list(done.notes),
            "images": result.images,
            "top1": result.top1,
            "top5": result.top5,
            "agreement": agreement,
            "classes": [
                {
                    "label": c.label,
                    "name": done.class_names[c.label],
                    "images": c.images,
                    "right": c.right,
                    "taken_for": [{"name": _name(done, label), "images": count} for label, count in c.taken_for],
                }
                for c in result.classes
            ],
        },
    )
