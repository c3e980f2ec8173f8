"""What `inspect` tells: layout, parents and children, parameters, MACs, attention of a checkpoint."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from kdna_deploy.graph.classes import shown
from kdna_deploy.graph.inspection import Inspection
from kdna_deploy.network.record import to_record
from kdna_deploy.reports.cells import Cells
from kdna_deploy.reports.ledger import assembled, bank_cells, ledger_cells, sharing
from kdna_deploy.reports.quantities import megabytes
from kdna_deploy.reports.report import Facts, Report, document


def inspection_report(inspection: Inspection) -> Report:
    """Everything about a network."""
    checkpoint = inspection.network.checkpoint
    parts: list[Facts | Cells] = [Facts(checkpoint.path.name or inspection.network.name, _rows(inspection))]
    if inspection.ledger.parents:
        parts.append(ledger_cells(inspection.ledger.parents))
    if inspection.ledger.banks:
        parts.append(bank_cells(inspection.ledger.banks))
    if _learned(inspection):
        parts.append(_attention(inspection))
    return Report(tuple(parts), _data(inspection), (*checkpoint.notes, *inspection.size.notes))


def _rows(inspection: Inspection) -> list[tuple[str, str]]:
    network, cost = inspection.network, inspection.cost
    checkpoint, architecture = network.checkpoint, network.architecture
    attentions = inspection.channel_attentions
    c, h, w = inspection.image_shape
    rows = [("architecture", network.name)]
    if architecture:
        rows += [("layout", f"{stage}: {layout}") for stage, layout in architecture.layouts.items()]
        rows.append(("widths", ", ".join(map(str, architecture.backbone.widths))))
    rows += [
        *_returned(inspection),
        ("parameters", f"{cost.parameters:,}"),
        (f"MACs at {c}×{h}×{w}", f"{cost.macs:,} (as the paper counts FLOPs: {cost.table_flops:,})"),
        ("channel attentions", f"{attentions}, dynamic" if attentions else "none"),
    ]
    if checkpoint.epoch is not None:
        rows.append(("epoch", str(checkpoint.epoch)))
    if checkpoint.training.preprocessing is not None:
        rows.append(("recorded preprocessing", str(checkpoint.training.preprocessing)))
    if checkpoint.accuracy is not None:
        rows.append(("recorded top-1", f"{checkpoint.accuracy:.2f} %"))
    ledger = inspection.ledger
    unique, materialised = ledger.storage.unique_bytes, ledger.storage.materialised_bytes
    if ledger.banks:
        rows.append(("kernels for each image", assembled(ledger.banks)))
    if ledger.parents or not ledger.banks:
        rows.append(("sharing", sharing(ledger, f"{megabytes(unique)} unique, {megabytes(materialised)} materialised")))
    rows += [("not static", f"{refusal.site}: {refusal.reason}") for refusal in inspection.refused]
    if ledger.parents and not _learned(inspection):
        rows.append(("static attention", "no static attention learned: every child is its parent's kernel as it is"))
    return rows


def _returned(inspection: Inspection) -> list[tuple[str, str]]:
    if inspection.num_classes is None:
        return [("returns", f"{shown(inspection.returned)}, no logits")]
    if not inspection.stages:
        return [("classes", str(inspection.num_classes))]
    return [("stage output", f"{name}: {'×'.join(map(str, shape))}") for name, shape in inspection.stages.items()]


def _learned(inspection: Inspection) -> bool:
    """Whether the table would show anything but M = 1."""
    return any(
        max(row.filter_spread, row.spatial_spread) >= 0.00005 or max(abs(row.low - 1), abs(row.high - 1)) >= 0.0005
        for row in inspection.attention
    )


def _attention(inspection: Inspection) -> Cells:
    rows = tuple(
        (row.child, f"{row.filter_spread:.4f}", f"{row.spatial_spread:.4f}", f"{row.low:.3f}", f"{row.high:.3f}")
        for row in inspection.attention
    )
    headings = ("child", "spread over filters", "over positions", "min", "max")
    return Cells("Static attention: M = (1 + α_f)(1 + α_s) of each child", headings, rows)


def _data(inspection: Inspection) -> dict[str, Any]:
    network = inspection.network
    return document(
        "inspect",
        {
            "checkpoint": str(network.checkpoint.path),
            "sha256": network.checkpoint.sha256,
            "name": network.name,
            "architecture": to_record(network.architecture) if network.architecture else None,
            "image_shape": list(inspection.image_shape),
            "size_assumed": inspection.size.assumed,
            "num_classes": inspection.num_classes,
            "outputs": {name: list(shape) for name, shape in inspection.stages.items()},
            "class_names": list(network.checkpoint.training.class_names),
            "preprocessing": network.checkpoint.training.preprocessing_record(),
            "parameters": inspection.cost.parameters,
            "macs": inspection.cost.macs,
            "table_flops": inspection.cost.table_flops,
            "channel_attentions": inspection.channel_attentions,
            "epoch": network.checkpoint.epoch,
            "recorded_top1": network.checkpoint.accuracy,
            "ledger": asdict(inspection.ledger),
            "attention": [asdict(row) for row in inspection.attention],
            "refused": [asdict(refusal) for refusal in inspection.refused],
            "notes": [*network.checkpoint.notes, *inspection.size.notes],
        },
    )
