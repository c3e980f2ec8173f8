"""Where an artifact first departs, as a table and as data."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from kdna_deploy.reports.agreement import agreements_data
from kdna_deploy.reports.cells import Cells
from kdna_deploy.reports.quantities import small
from kdna_deploy.reports.report import Facts
from kdna_deploy.targets.bisect import Bisection, StageValue
from kdna_deploy.targets.layer_values import OUTPUT


def bisection_parts(found: Bisection) -> tuple[Facts | Cells, ...]:
    """The first layer that departs, the stages there, and the one at fault."""
    missing = [("not compared", f"the artifact does not name {', '.join(found.missing)}")] if found.missing else []
    if found.layer is None:
        return (Facts("Bisection", [("departs", f"nowhere: all {found.layers} layers agree"), *missing]),)
    rows = [("first layer that departs", "the output alone" if found.layer == OUTPUT else found.layer)]
    if found.parent:
        rows.append(("parent kernel", f"{found.parent.removesuffix('.weight')} ({found.role})"))
    facts = Facts("Bisection", [*rows, ("stage at fault", found.stage), *missing])
    return (facts, _stages(found.stages)) if found.stages else (facts,)


def _stages(stages: tuple[StageValue, ...]) -> Cells:
    rows = tuple(
        (row.stage, "", "", "no such layer")
        if row.agreement is None
        else (
            *(row.stage, small(row.agreement.worst), small(row.agreement.allowed)),
            "departs" if row.departs else "agrees",
        )
        for row in stages
    )
    title = "That layer after each stage, against the network in float64"
    return Cells(title, ("stage", "worst |Δ|", "allowed", ""), rows)


def bisection_data(found: Bisection) -> dict[str, Any]:
    """The same for ``--json``."""
    stages = [
        {"stage": row.stage, **(agreements_data((row.agreement,))[0] if row.agreement else {})} for row in found.stages
    ]
    return {**asdict(found), "stages": stages}
