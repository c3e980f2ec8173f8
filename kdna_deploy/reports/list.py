"""What `list` tells: architectures, their layouts, parameters as built and printed, what each was checked against."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from kdna_deploy.benchmark.paper import Known
from kdna_deploy.network.architecture import Architecture
from kdna_deploy.network.record import to_record
from kdna_deploy.reports.cells import Cells
from kdna_deploy.reports.report import Report, document

_HEADINGS = ("architecture", "said with", "checked against", "parameters", "printed")
_OWN_TABLES = ("KernelDNA", "KernelWarehouse", "KARST")
_CAPTION = (
    "Layouts are of the stages that share kernels. Widths, classes, attentions and reductions are told from a "
    "checkpoint; its layout by its numbers of kernels, or by what is said."
)


def list_report(networks: Sequence[Known]) -> Report:
    """Of networks that are known: a table of KernelDNA's and plain ones, of KernelWarehouse's, of other methods'."""
    counts = [parameters(one.architecture) for one in networks]
    counted = list(zip(networks, counts, strict=True))
    data = [
        {
            "arch": one.said.arch,
            "said": _said(one),
            "system": one.system,
            "architecture": to_record(one.architecture),
            "parameters": count,
            "printed_m": float(one.printed) if one.printed else None,
            "checked": one.checked,
        }
        for one, count in counted
    ]
    tables = dict.fromkeys(_table(one) for one in networks)
    parts = tuple(_cells(table, [pair for pair in counted if _table(pair[0]) == table]) for table in tables)
    return Report(parts, document("list", {"networks": data}))


def _table(one: Known) -> str:
    return one.system if one.system in _OWN_TABLES else "Other methods"


def _cells(system: str, counted: Sequence[tuple[Known, int]]) -> Cells:
    own = system == "KernelDNA"  # whose networks alone have something to say beside their names
    rows = tuple(
        (
            str(one.said.arch),
            *((_said(one),) if own else ()),
            one.checked,
            f"{count:,}",
            f"{one.printed} M" if one.printed else "",
        )
        for one, count in counted
    )
    if own:
        return Cells("Architectures and configurations", _HEADINGS, rows, left=3, caption=_CAPTION, whole=True)
    headings = tuple(heading for heading in _HEADINGS if heading != "said with")
    return Cells(system, headings, rows, left=2, whole=True)


def parameters(architecture: Architecture) -> int:
    """Trained parameters, counted without memory."""
    with torch.device("meta"):
        return sum(one.numel() for one in architecture.build().parameters())


def _said(one: Known) -> str:
    """Beside the name; of what is published, the layout."""
    said = str(replace(one.said, arch=None))
    layouts = dict.fromkeys(one.architecture.layouts.values())
    return said or ", ".join(layouts)
