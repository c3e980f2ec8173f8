"""What became of attention: each gate and kernel over the calibration images, and what freezing or dropping changed."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from kdna_deploy.reports.agreement import finite
from kdna_deploy.reports.cells import Cells
from kdna_deploy.reports.quantities import small
from kdna_deploy.reports.refusals import by_reason
from kdna_deploy.reports.report import Facts
from kdna_deploy.targets.fuse import Fused

_DONE = {"freeze": "frozen", "drop": "dropped"}


def attention_parts(fused: Fused | None) -> tuple[Facts | Cells, ...]:
    """Nothing where it was kept."""
    if fused is None or fused.freezing.choice == "keep":
        return ()
    table = (attention_cells(fused),) if fused.freezing.statistics else ()
    return (*table, Facts("Attention", attention_rows(fused)))


def attention_rows(fused: Fused) -> list[tuple[str, str]]:
    """What freezing or dropping did, and why it did not where it was asked for."""
    freezing = fused.freezing
    if freezing.choice == "keep":
        return []
    word = _DONE[freezing.choice]
    rows = [(f"not {word}", sentence) for sentence in by_reason(freezing.refused)]
    if not freezing.gates:
        found = "nothing else depends on the image" if freezing.refused else "no gate or kernel depends on the image"
        why = "every gate varies more than was allowed" if freezing.statistics and not freezing.refused else found
        rows.append((f"nothing {word}", f"{why}; the network is as it was trained"))
    rows += [("not folded", f"{sentence}; the mean stays a product") for sentence in by_reason(freezing.unfolded)]
    return rows if fused.change is None else [*rows, ("changed", _change(fused))]


def _change(fused: Fused) -> str:
    """What freezing or dropping did: never an equivalence."""
    change = fused.change
    assert change is not None
    of_class = "images of your own, named with `calibration`, tell what became of top-1"
    if change.same_top1 is not None:
        of_class = (
            f"top-1 is the same for {change.same_top1} of {change.images} ({change.same_top1 / change.images:.2%})"
        )
    kind = "random images" if change.same_top1 is None else "images"
    return (
        f"this network is NOT equivalent to the trained one: over {change.images} {kind} the logits differ by up to "
        f"{small(change.max_difference)}, {small(change.mean_difference)} on average "
        f"(logits up to {change.scale:.2f}); {of_class}"
    )


def attention_cells(fused: Fused) -> Cells:
    """How much each attention moves over the calibration images, and what became of it."""
    rows = tuple(
        (
            row.site,
            f"{float(row.mean.mean()):.3f}",
            f"{row.variance**0.5:.4f}",
            small(row.variance),
            f"{row.explained:.1%}",
            _DONE[fused.freezing.choice] if row.node in fused.freezing.gates else "kept",
        )
        for row in fused.freezing.statistics
    )
    headings = ("layer", "mean", "deviation", "variance", "explained by mean", "")
    return Cells("Attention over the calibration images", headings, rows)


def attention_data(fused: Fused) -> dict[str, Any]:
    """What became of the children and of attention; part of a document."""
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
        "gates_not_folded": [asdict(left) for left in fused.freezing.unfolded],
        "gates_kept": [asdict(refusal) for refusal in fused.freezing.refused],
        "output_change": {k: finite(v) for k, v in asdict(fused.change).items()} if fused.change else None,
        "equivalent": fused.change is None,
    }
