"""Architecture ↔ plain JSON data, as artifacts carry it in their provenance."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from kdna_deploy.errors import ArtifactError
from kdna_deploy.json_schema import Misfit, integer, list_of, mapping, one_of, record, text
from kdna_deploy.network.architecture import Architecture
from kdna_deploy.network.families import ARCHITECTURES


def to_record(architecture: Architecture) -> dict[str, Any]:
    """Everything by which `architecture` departs from its table entry, and what a reader wants to know."""
    return {
        "name": architecture.name,
        "widths": list(architecture.backbone.widths),
        "in_channels": architecture.backbone.in_channels,
        "num_classes": architecture.num_classes,
        "layouts": architecture.layouts,
        "attentions": sorted(architecture.sharing.attentions) if architecture.sharing else [],
        "reductions": list(architecture.sharing.reductions) if architecture.sharing else [],
    }


# Widths and classes that a network on one machine can have.
_WIDTH = integer(1, 1 << 16)
_RECORD = record(
    {
        "name": text(r".+", most=100),
        "widths": list_of(_WIDTH, most=100),
        "in_channels": _WIDTH,
        "num_classes": integer(1, 1 << 24),
        "layouts": mapping(text(most=100), text(most=1000), most=100),
        "attentions": list_of(one_of("channel", "filter", "spatial"), most=3),
        "reductions": list_of(_WIDTH, most=100),
    }
)


def check_record(value: Any) -> dict[str, Any]:
    """`value` as `to_record` makes one.

    Raises:
        Misfit: it is not of that form.
    """
    fitting: dict[str, Any] = _RECORD(value)
    return fitting


def from_record(stored: Mapping[str, Any]) -> Architecture:
    """The architecture of a `to_record` dictionary.

    Raises:
        ArtifactError: it is damaged, or names an architecture or layout that this version does not know.
    """
    try:
        stored = check_record(stored)
    except Misfit as misfit:
        raise ArtifactError(
            f"The artifact's record of its architecture is damaged ({misfit}); make it again."
        ) from misfit
    name = stored["name"]
    if name not in ARCHITECTURES:
        raise ArtifactError(f"The artifact names an unknown architecture '{name}'; update kdna-deploy.")
    entry = ARCHITECTURES[name]
    if stored["layouts"] != entry.layouts:
        raise ArtifactError(f"The artifact's {name} has layouts that this version does not know; update kdna-deploy.")
    if len(stored["widths"]) != len(entry.backbone.widths) or not _same_length(entry, stored["reductions"]):
        raise ArtifactError(f"The artifact's {name} has another number of layers; make it again.")
    return _restored(entry, stored)


def _same_length(entry: Architecture, reductions: list[int]) -> bool:
    return len(reductions) == (len(entry.sharing.reductions) if entry.sharing else 0)


def _restored(entry: Architecture, stored: Mapping[str, Any]) -> Architecture:
    backbone = replace(entry.backbone, widths=tuple(stored["widths"]), in_channels=stored["in_channels"])  # type: ignore[type-var]
    sharing = entry.sharing and replace(
        entry.sharing, reductions=tuple(stored["reductions"]), attentions=frozenset(stored["attentions"])
    )
    return replace(entry, backbone=backbone, sharing=sharing, num_classes=stored["num_classes"])
