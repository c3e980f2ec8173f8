"""Architecture ↔ plain JSON data, as artifacts carry it in their provenance."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from kdna_deploy.errors import ArtifactError, UsageError
from kdna_deploy.json_schema import Misfit, integer, list_of, mapping, number, one_of, record, text
from kdna_deploy.network.architecture import Architecture
from kdna_deploy.network.configuration import Configuration
from kdna_deploy.network.stages import STAGES, stage_outputs


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
        **({"outputs": list(architecture.outputs)} if architecture.outputs else {}),
        **({"sizes": architecture.backbone.sizes} if architecture.backbone.sizes else {}),
        **({"method": _told(architecture)} if _told(architecture) else {}),
    }


def _told(architecture: Architecture) -> dict[str, Any]:
    method = architecture.method
    told = {name: getattr(method, name) for name in method.told} if method else {}
    return {name: list(one) if isinstance(one, tuple) else one for name, one in told.items() if one is not None}


def _number_or_several(value: Any) -> Any:
    return list_of(number, most=100)(value) if isinstance(value, list) else number(value)


# Widths and classes that a network on one machine can have.
_WIDTH = integer(1, 1 << 16)
_RECORD = record(
    {
        "name": text(r".+", most=100),
        "widths": list_of(_WIDTH, most=100),
        "in_channels": _WIDTH,
        "num_classes": integer(0, 1 << 24),
        "layouts": mapping(text(most=100), text(most=1000), most=100),
        "attentions": list_of(one_of("channel", "filter", "spatial"), most=3),
        "reductions": list_of(_WIDTH, most=100),
    },
    {
        "outputs": list_of(one_of(*STAGES), least=1, most=len(STAGES)),
        "sizes": mapping(text(most=100), _WIDTH, most=100),
        "method": mapping(text(most=100), _number_or_several, most=100),
    },
)


def check_record(value: Any) -> dict[str, Any]:
    """`value` as `to_record` makes one.

    Raises:
        Misfit: it is not of that form.
    """
    fitting: dict[str, Any] = _RECORD(value)
    if bool(fitting["num_classes"]) == bool(fitting.get("outputs")):  # stage outputs have no classes
        raise Misfit("out of range", ("num_classes",))
    return fitting


def from_record(stored: Mapping[str, Any]) -> Architecture:
    """The architecture of a `to_record` dictionary.

    Raises:
        ArtifactError: it is damaged, or names an architecture or layout that this version does not know.
    """
    from kdna_deploy.network.families import ARCHITECTURES  # with PyTorch, without which a record is checked

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
    if len(stored["widths"]) != len(entry.backbone.widths) or bool(stored["layouts"]) != bool(entry.sharing):
        raise ArtifactError(f"The artifact's {name} has another number of layers; make it again.")
    try:
        asked = entry.configured(_said(stored))
    except UsageError as error:
        raise ArtifactError(f"The artifact's {name} is none that this version knows: {error}") from error
    backbone = entry.backbone.sized(tuple(stored["widths"]), stored["in_channels"])
    told, sizes, known = stored.get("method", {}), stored.get("sizes", {}), _told(entry)
    all_known = set(known) <= set(told) <= set(entry.method.told if entry.method else ())
    listed = all(isinstance(told.get(name), list) == isinstance(value, list) for name, value in known.items())
    if set(sizes) != set(backbone.sizes) or not (all_known and listed):
        raise ArtifactError(f"The artifact's {name} is none that this version knows; make it again.")
    backbone = backbone.with_sizes(sizes)
    told = {name: tuple(value) if isinstance(value, list) else value for name, value in told.items()}
    method = entry.method and replace(entry.method, **told)  # type: ignore[type-var]
    return replace(asked, backbone=backbone, num_classes=stored["num_classes"], method=method)


def configuration_of(architecture: Architecture) -> Configuration:
    """Everything that can be said of `architecture`, so that it is recognised again."""
    return _said(to_record(architecture))


def _said(stored: Mapping[str, Any]) -> Configuration:
    outputs = stage_outputs(stored.get("outputs", ()))
    if not stored["layouts"]:
        told = stored.get("method", {})
        said = {word: told.get(word) for word in ("temperature", "multiplier")}
        return Configuration(stored["name"], outputs=outputs, **said)
    has = stored["attentions"]
    return Configuration(
        stored["name"],
        ",".join(f"{stage}={layout}" for stage, layout in stored["layouts"].items()),
        *("channel" in has, "filter" in has, "spatial" in has),
        tuple(stored["reductions"]),
        outputs=outputs,
    )
