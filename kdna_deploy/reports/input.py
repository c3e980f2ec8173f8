"""What an artifact takes and returns, for every report: image size, preprocessing, classes."""

from __future__ import annotations

from typing import Any

from kdna_deploy.graph.provenance import Provenance
from kdna_deploy.images.interface import Interface
from kdna_deploy.images.preprocessing import from_record
from kdna_deploy.network.input_size import ASSUMED
from kdna_deploy.reports.report import Facts

_NAMED = 5


def input_facts(made: Provenance, interface: Interface | None = None) -> Facts:
    """Size, preprocessing and classes; what a file takes and returns where it prepares and answers by itself."""
    prepared = from_record(made.preprocessing, made.source)
    rows = [
        ("images", shape_text(made.image_shape, bool(made.options.get(ASSUMED))) + _other_sizes(made)),
        ("preprocessing", str(prepared) if prepared else "not recorded"),
    ]
    if interface is not None and not interface.plain:
        rows.append(("interface", str(interface)))
    if made.stage_names:
        rows.append(("outputs", f"{', '.join(made.stage_names)}, stage outputs in place of logits"))
    elif made.num_classes is not None:
        rows.append(("classes", classes_text(made.num_classes, made.class_names)))
    if made.recorded_top1 is not None:
        rows.append(("recorded top-1", f"{made.recorded_top1:.2f} %"))
    return Facts("Input and classes", rows)


def _other_sizes(made: Provenance) -> str:
    return ", or of any other height and width" if made.any_size else ""


def shape_text(shape: tuple[int, int, int], assumed: bool) -> str:
    return "×".join(map(str, shape)) + (" (the size was assumed)" if assumed else "")


def classes_text(count: int, names: list[str] | tuple[str, ...]) -> str:
    more = ", …" if len(names) > _NAMED else ""
    return f"{count}" + (f": {', '.join(names[:_NAMED])}{more}" if names else "")


def input_data(made: Provenance, interface: Interface | None = None) -> dict[str, Any]:
    """The same; part of a document."""
    return {
        "image_shape": list(made.image_shape),
        "size_assumed": bool(made.options.get(ASSUMED)),
        "dynamic_size": made.any_size,
        "preprocessing": made.preprocessing or None,
        "interface": None if interface is None or interface.plain else interface.to_record(),
        "outputs": list(made.stage_names),
        "num_classes": made.num_classes,
        "class_names": list(made.class_names),
        "recorded_top1": made.recorded_top1,
    }
