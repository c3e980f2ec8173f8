"""Where an artifact first departs, as a table and as data."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table

from kdna_deploy.export.bisect import Bisection, StageValue
from kdna_deploy.export.layer_values import OUTPUT
from kdna_deploy.reports.data import agreements_data
from kdna_deploy.reports.quantities import small
from kdna_deploy.reports.tables import facts


def bisection_report(found: Bisection) -> RenderableType:
    """The first layer that departs, the stages there, and the one at fault."""
    missing = [("not compared", f"the artifact does not name {', '.join(found.missing)}")] if found.missing else []
    if found.layer is None:
        return facts("Bisection", [("departs", f"nowhere: all {found.layers} layers agree"), *missing])
    rows = [("first layer that departs", "the output alone" if found.layer == OUTPUT else found.layer)]
    if found.parent:
        rows.append(("parent kernel", f"{found.parent.removesuffix('.weight')} ({found.role})"))
    stages = [_stage_table(found.stages)] if found.stages else []
    return Group(facts("Bisection", [*rows, ("stage at fault", found.stage), *missing]), *stages)


def _stage_table(stages: tuple[StageValue, ...]) -> Table:
    table = Table(title="That layer after each stage, against the network in float64", title_justify="left")
    table.add_column("stage", overflow="fold")
    for heading in ("worst |Δ|", "allowed", ""):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in stages:
        if row.agreement is None:
            table.add_row(escape(row.stage), "", "", "no such layer")
            continue
        verdict = "[red]departs[/]" if row.departs else "[green]agrees[/]"
        table.add_row(escape(row.stage), small(row.agreement.worst), small(row.agreement.allowed), verdict)
    return table


def bisection_data(found: Bisection) -> dict[str, Any]:
    """The same for ``--json``."""
    stages = [
        {"stage": row.stage, **(agreements_data((row.agreement,))[0] if row.agreement else {})} for row in found.stages
    ]
    return {**asdict(found), "stages": stages}
