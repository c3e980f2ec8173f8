"""What `fuse` tells: what was folded, what was not and why, and what that changed."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

from kdna_deploy.graph.gates import dynamic_values, image_products
from kdna_deploy.graph.passes import FREEZING
from kdna_deploy.reports.agreement import agreements_data
from kdna_deploy.reports.attention import attention_cells, attention_data, attention_rows
from kdna_deploy.reports.cells import Cells
from kdna_deploy.reports.input import input_data, input_facts
from kdna_deploy.reports.ledger import assembled, bank_cells, ledger_cells, sharing
from kdna_deploy.reports.quantities import megabytes, small
from kdna_deploy.reports.refusals import by_reason
from kdna_deploy.reports.report import Facts, Report, document
from kdna_deploy.targets.fuse import Fused
from kdna_deploy.targets.fused_rounding import Rounding
from kdna_deploy.targets.source import FusedSource
from kdna_deploy.words import counted

_CHILDREN = {"materialize": "materialised", "share": "shared: each parent is stored once"}


def fuse_report(source: FusedSource, path: Path | None, notes: tuple[str, ...] = ()) -> Report:
    """Of a network that was fused, and written to `path` if to any."""
    fused = source.fused
    assert fused is not None
    parts: list[Facts | Cells] = [ledger_cells(fused.ledger.parents)] if fused.ledger.parents else []
    if fused.ledger.banks:
        parts.append(bank_cells(fused.ledger.banks))
    if fused.freezing.statistics:
        parts.append(attention_cells(fused))
    parts += [Facts("Fused", [*_rows(fused, path), *attention_rows(fused)]), input_facts(source.provenance)]
    return Report(tuple(parts), {**_data(fused, path), **input_data(source.provenance)}, notes)


def _rows(fused: Fused, path: Path | None) -> list[tuple[str, str]]:
    found = {step.name: step.result for step in fused.steps}  # of a pass that ran twice, what it left in the end
    changed = Counter[str]()
    for step in fused.steps:
        changed[step.name] += step.result.changed
    r = fused.compared
    rows = [
        *([("kernels for each image", assembled(fused.ledger.banks))] if fused.ledger.banks else []),
        *(
            [("sharing", sharing(fused.ledger, _CHILDREN[fused.children]))]
            if fused.ledger.parents or not fused.ledger.banks
            else []
        ),
        ("BatchNorms folded", str(changed["fold_batchnorm"])),
        *([("layer scales folded", str(scales))] if (scales := changed["fold_layer_scale"]) else []),
        *([("input scales folded", str(scales))] if (scales := changed["fold_input_scale"]) else []),
        *([("LayerNorm affines folded", str(norms))] if (norms := changed["fold_layer_norm"]) else []),
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
    for name, result in found.items():
        if name not in ("share", FREEZING):  # see above, and below
            rows += [("not folded", sentence) for sentence in by_reason(result.refused, name.replace("_", " "))]
    return rows


def _dynamic(fused: Fused) -> str:
    """What still depends on the image."""
    left = [one for one in dynamic_values(fused.graph.module) if not one.is_bias]
    kernels = sum(one.is_kernel for one in left)
    gates = sum(not one.is_kernel and one.obstacle is None and not one.is_channel_attention for one in left)
    further = [f"{gates} other gates"] if gates else []
    further += [f"{kernels} convolutions with a kernel for each image"] if kernels else []
    matrices = len(image_products(fused.graph.module))
    further += [f"{counted(matrices, 'product')} with a matrix for each image"] if matrices else []
    return ", ".join([f"{fused.channel_attentions} channel attentions", *further])


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
            "rounding": {**asdict(fused.compared), "agreements": agreements_data(fused.compared.agreements)},
            **attention_data(fused),
        },
    )
