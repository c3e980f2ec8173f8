"""Architecture ↔ plain JSON data, as artifacts carry it in their provenance."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from kdna_deploy.errors import ArtifactError
from kdna_deploy.models import ARCHITECTURES
from kdna_deploy.models.architecture import Architecture


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


def from_record(record: Mapping[str, Any]) -> Architecture:
    """The architecture of a `to_record` dictionary.

    Raises:
        ArtifactError: it is damaged, or names an architecture or layout that this version does not know.
    """
    name = record.get("name")
    if name not in ARCHITECTURES:
        raise ArtifactError(f"The artifact names an unknown architecture '{name}'; update kdna-deploy.")
    entry = ARCHITECTURES[name]
    if record.get("layouts") != entry.layouts:
        raise ArtifactError(f"The artifact's {name} has layouts that this version does not know; update kdna-deploy.")
    try:
        return _restored(entry, record)
    except (KeyError, TypeError) as error:
        raise ArtifactError("The artifact's record of its architecture is damaged; make it again.") from error


def _restored(entry: Architecture, record: Mapping[str, Any]) -> Architecture:
    backbone = replace(entry.backbone, widths=tuple(record["widths"]), in_channels=record["in_channels"])  # type: ignore[type-var]
    sharing = entry.sharing and replace(
        entry.sharing, reductions=tuple(record["reductions"]), attentions=frozenset(record["attentions"])
    )
    return replace(entry, backbone=backbone, sharing=sharing, num_classes=record["num_classes"])
