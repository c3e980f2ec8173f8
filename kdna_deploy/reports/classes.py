"""What `run` prints: the classes of each image."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from kdna_deploy.evaluation.classify import Classification, ClassifiedImage
from kdna_deploy.evaluation.reading import Times
from kdna_deploy.reports.cells import Cells
from kdna_deploy.reports.input import shape_text
from kdna_deploy.reports.quantities import milliseconds
from kdna_deploy.reports.report import Facts, Report, document

_STANDARD_INPUT = Path("-")


def classes_report(done: Classification) -> Report:
    """Images with their classes, and what ran them on what."""
    rows = [
        ("model", f"{done.model}, {done.num_classes} classes, on {done.runtime}"),
        ("input", f"{shape_text(done.image_shape, done.size_assumed)}; {done.preprocessing}"),
    ]
    if done.times is not None:
        rows.append(("time", _times(done.times)))
    listed = tuple(row for image in done.images for row in _rows(image))
    cells = Cells("Classes", ("image", "class", "probability"), listed, left=2)
    return Report((Facts("", rows), cells), _data(done), done.notes)


def _rows(image: ClassifiedImage) -> list[tuple[str, str, str]]:
    name = "standard input" if image.path == _STANDARD_INPUT else str(image.path)
    names = [name, *[""] * (len(image.classes) - 1)]
    return [(shown, str(one), f"{one.probability:.2%}") for shown, one in zip(names, image.classes, strict=True)]


def _times(times: Times) -> str:
    inference = f"{milliseconds(times.inference)} an inference" + (f" of {times.batch}" if times.batch > 1 else "")
    over = f"medians over {times.images} images" if times.images > 1 else "of one image"
    return (
        f"{milliseconds(times.decoding)} ms to read and decode + {milliseconds(times.preparing)} to resize, crop and "
        f"normalise + {inference}; {over}, warm; opening the model is not in it"
    )


def _data(done: Classification) -> dict[str, Any]:
    return document(
        "run",
        {
            "model": done.model,
            "runtime": done.runtime,
            "image_shape": list(done.image_shape),
            "size_assumed": done.size_assumed,
            "preprocessing": done.preprocessing.to_record(),
            "num_classes": done.num_classes,
            "images": [
                {"image": str(image.path), "classes": [asdict(one) for one in image.classes]} for image in done.images
            ],
            "skipped": [{"image": str(path), "reason": reason} for path, reason in done.skipped],
            "times_ms": asdict(done.times) if done.times else None,
            "notes": list(done.notes),
        },
    )
