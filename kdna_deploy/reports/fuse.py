"""What `fuse` tells: what was folded, what was not and why, and what that changed."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from kdna_deploy.graph.dynamic_convolution import dynamic_convolutions
from kdna_deploy.graph.passes import FREEZING
from kdna_deploy.reports.agreement import agreements_data
from kdna_deploy.reports.attention import attention_cells, attention_data, attention_rows
from kdna_deploy.reports.cells import Cells
from kdna_deploy.reports.input import input_data, input_facts
from kdna_deploy.reports.ledger import assembled, bank_cells, ledger_cells, sharing
from kdna_deploy.reports.quantities import megabytes, small
from kdna_deploy.reports.report import Facts, Report, document
from kdna_deploy.targets.fuse import Fused, Rounding, Step
from kdna_deploy.targets.source import FusedSource

_CHILDREN = {"materialize": "materialised", "share": "shared: each parent is stored once"}


def fuse_report(source: FusedSource, path: Path | None, notes: tuple[str, ...] = ()) -> Report:
    """Of a network that was fused, and written to `path` if to any."""
    fused = source.fused
    assert fused is not None
    parts: list[Facts | Cells] = [ledger_cells(fused.ledger)] if fused.ledger.parents else []
    if fused.ledger.banks:
        parts.append(bank_cells(fused.ledger.banks))
    if fused.freezing.statistics:
        parts.append(attention_cells(fused))
    parts += [Facts("Fused", [*_rows(fused, path), *attention_rows(fused)]), input_facts(source.provenance)]
    return Report(tuple(parts), {**_data(fused, path), **input_data(source.provenance)}, notes)


def _rows(fused: Fused, path: Path | None) -> list[tuple[str, str]]:
    found = {step.name: step.result for step in fused.steps}
    r = fused.rounding
    rows = [
        *([("kernels for each image", assembled(fused.ledger.banks))] if fused.ledger.banks else []),
        *(
            [("sharing", sharing(fused.ledger, _CHILDREN[fused.children]))]
            if fused.ledger.parents or not fused.ledger.banks
            else []
        ),
        ("BatchNorms folded", str(found["fold_batchnorm"].changed)),
        *([("layer scales folded", str(scales))] if (scales := found["fold_layer_scale"].changed) else []),
        *([("input scales folded", str(scales))] if (scales := found["fold_input_scale"].changed) else []),
        *(
            [("LayerNorms folded", f"{norms}: their scales and biases")]
            if (norms := found["fold_layer_norm"].changed)
            else []
        ),
        ("still dynamic", _dynamic(fused)),
        (
            "parameters",
            f"{fused.parameters_before:,} trained → {fused.parameters_after:,} stored "
            f"({megabytes(4 * fused.parameters_after)})",
        ),
        (
            "largest difference",
            f"fused to original {small(r.fused_to_original)}{_to_float64(r)} (logits up to {r.scale:.2f})",
        ),
    ]
    if path is not None:
        rows.append(("written", f"{path} ({megabytes(path.stat().st_size)})"))
    rows += [("not shared", f"{refusal.site}: {refusal.reason}") for refusal in fused.not_shared]
    for step in fused.steps:
        if step.name not in ("share", FREEZING):  # see above, and below
            rows += [("not folded", sentence) for sentence in _refused(step)]
    return rows


def _refused(step: Step) -> list[str]:
    """What a pass refused, a sentence a reason."""
    sites: dict[str, list[str]] = {}
    for refusal in step.result.refused:
        sites.setdefault(refusal.reason, []).append(refusal.site)
    return [f"{', '.join(named)} ({step.name.replace('_', ' ')}): {reason}" for reason, named in sites.items()]


def _dynamic(fused: Fused) -> str:
    layers = len(dynamic_convolutions(fused.graph.module))
    kernels = f", {layers} convolutions with a kernel for each image" if layers else ""
    return f"{fused.channel_attentions} channel attentions{kernels}"


def _to_float64(r: Rounding) -> str:
    if r.original_to_reference is None or r.fused_to_reference is None:
        return "; the network does not run in float64"
    return f"; to float64: original {small(r.original_to_reference)}, fused {small(r.fused_to_reference)}"


def _data(fused: Fused, path: Path | None) -> dict[str, Any]:
    return document(
        "fuse",
        {
            "output": None if path is None else str(path),
            "passes": [{"name": step.name, **asdict(step.result)} for step in fused.steps],
            "ledger": asdict(fused.ledger),
            "channel_attentions": fused.channel_attentions,
            "parameters_trained": fused.parameters_before,
            "parameters_stored": fused.parameters_after,
            "rounding": {**asdict(fused.rounding), "agreements": agreements_data(fused.rounding.agreements)},
            **attention_data(fused),
        },
    )
