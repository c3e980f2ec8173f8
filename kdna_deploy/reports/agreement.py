"""How far two sessions agree: a row for each kind of images, as a table and as data."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

from kdna_deploy.evaluation.agreement import Agreement
from kdna_deploy.images.probes import GIVEN
from kdna_deploy.reports.cells import Cells
from kdna_deploy.reports.quantities import small

_STAR = "* what rounding explains, more than the spread allows"


def agreement_cells(agreements: Sequence[Agreement], title: str) -> Cells:
    """One row a probe; of the user's own images, however many, the one that uses most of what it is allowed."""
    generated, given = ([a for a in agreements if (a.images == GIVEN) is users] for users in (False, True))
    rows = [(*_named(a), str(a.batch), *_cells(a)) for a in generated]
    for own in ([a for a in given if a.stage == stage] for stage in dict.fromkeys(a.stage for a in given)):
        worst = max(own, key=lambda each: (not each.passed, each.used))
        same = [each.same_top1 for each in own if each.same_top1 is not None]
        whole = replace(
            worst,
            batch=sum(each.batch for each in own),
            same_top1=sum(same) if same else None,
            ties=sum(each.ties for each in own),
        )
        rows.append((*_named(whole), str(whole.batch), *_cells(whole)[:-1], _verdict(worst)))
    remarks = [_STAR] if any(a.explained for a in agreements) else []
    remarks += dict.fromkeys(f"{a.images} skipped: {a.skipped}" for a in agreements if a.skipped)
    named = ("images", "output") if agreements and agreements[0].stage else ("images",)
    headings = (*named, "batch", "worst |Δ|", "allowed", "spread", "same top-1", "")
    return Cells(title, headings, tuple(rows), caption="\n".join(remarks))


def _named(a: Agreement) -> tuple[str, ...]:
    """The images, and the stage output where it is one."""
    return (a.images, a.stage) if a.stage else (a.images,)


def _cells(a: Agreement) -> tuple[str, ...]:
    if a.skipped:
        return ("", "", "", "", "skipped")
    tied = f" + {a.ties} tied" if a.ties else ""
    return (
        small(a.worst),
        small(a.allowed) + ("*" if a.explained else ""),
        small(a.spread),
        "–" if a.same_top1 is None else f"{a.same_top1}/{a.batch}{tied}",
        _verdict(a),
    )


def _verdict(a: Agreement) -> str:
    return "pass" if a.passed else "FAIL"


def agreements_data(agreements: Sequence[Agreement]) -> list[dict[str, Any]]:
    return [{**{k: finite(v) for k, v in asdict(a).items()}, "passed": a.passed} for a in agreements]


def finite(value: Any) -> Any:
    """JSON has no NaN and no infinity."""
    return None if isinstance(value, float) and not math.isfinite(value) else value
