"""Results as plain data: what ``--json`` prints and ``--save`` writes."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Any

from kdna_deploy.evaluation.parity import Agreement
from kdna_deploy.export.fuse import Fused
from kdna_deploy.export.onnx.export import OnnxExport
from kdna_deploy.graph.inspection import Inspection
from kdna_deploy.network.record import to_record

SCHEMA_VERSION = 1


def document(kind: str, content: dict[str, Any], schema: int = SCHEMA_VERSION) -> dict[str, Any]:
    """A JSON document of one command."""
    return {"schema_version": schema, "kind": kind, **content}


def fused_data(fused: Fused, output: str) -> dict[str, Any]:
    return document(
        "fuse",
        {
            "output": output,
            "passes": [{"name": step.name, **asdict(step.result)} for step in fused.steps],
            "ledger": asdict(fused.ledger),
            "channel_attentions": fused.channel_attentions,
            "parameters_trained": fused.parameters_before,
            "parameters_stored": fused.parameters_after,
            "rounding": {**asdict(fused.rounding), "agreements": agreements_data(fused.rounding.agreements)},
            **attention_data(fused),
        },
    )


def attention_data(fused: Fused) -> dict[str, Any]:
    """What became of the children and of channel attention; part of a document."""
    gates = [
        {
            "layer": row.site,
            "mean": float(row.mean.mean()),
            "variance": row.variance,
            "explained": row.explained,
            "frozen": row.node in fused.freezing.gates,
        }
        for row in fused.freezing.statistics
    ]
    return {
        "children": fused.children,
        "not_shared": [asdict(refusal) for refusal in fused.not_shared],
        "channel_attention": fused.freezing.done,
        "channel_attention_asked": fused.freezing.choice,
        "gates": gates,
        "gates_kept": [asdict(refusal) for refusal in fused.freezing.refused],
        "output_change": {k: finite(v) for k, v in asdict(fused.change).items()} if fused.change else None,
        "equivalent": fused.change is None,
    }


def onnx_data(result: OnnxExport) -> dict[str, Any]:
    return document(
        "export",
        {
            "output": str(result.path),
            "format": "onnx",
            "bytes": result.bytes,
            "opset": result.opset,
            "ir_version": result.ir_version,
            "nodes": dict(result.nodes),
            "reference": result.reference,
            "agreements": agreements_data(result.agreements),
            "ledger": [asdict(row) for row in result.storage],
            "half_storage": asdict(result.half_storage) if result.half_storage else None,
            "notes": list(result.notes),
        },
    )


def agreements_data(agreements: tuple[Agreement, ...]) -> list[dict[str, Any]]:
    return [{**{k: finite(v) for k, v in asdict(a).items()}, "passed": a.passed} for a in agreements]


def finite(value: Any) -> Any:
    """JSON has no NaN and no infinity."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def verify_data(candidate: str, reference: str, agreements: tuple[Agreement, ...]) -> dict[str, Any]:
    return document(
        "verify",
        {
            "candidate": candidate,
            "reference": reference,
            "passed": all(a.passed for a in agreements),
            "agreements": agreements_data(agreements),
        },
    )


def inspection_data(inspection: Inspection) -> dict[str, Any]:
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
