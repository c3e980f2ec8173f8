"""What `prepare` tells: the file, what it is for, and how it agrees with the portable one."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from kdna_deploy.reports.agreement import agreement_cells, agreements_data
from kdna_deploy.reports.quantities import megabytes
from kdna_deploy.reports.report import Facts, Report, document
from kdna_deploy.targets.onnx.prepare import PreparedFile


def prepare_report(result: PreparedFile) -> Report:
    """Of a prepared file."""
    settings = ", ".join(f"{name} = {value}" for name, value in result.record.session.items())
    rows = (
        ("written", f"{result.path} ({megabytes(result.bytes)} with the weights beside it)"),
        ("made from", f"{result.source} ({megabytes(result.source_bytes)})"),
        ("for", result.record.made_for),
        ("opens with", settings),
        *(("note", note) for note in result.notes),
    )
    against = agreement_cells(result.agreements, "Against the portable file")
    return Report((Facts("Prepared", rows), against), document("prepare", prepared_data(result)))


def prepared_data(result: PreparedFile) -> dict[str, Any]:
    return {
        "output": str(result.path),
        "bytes": result.bytes,
        "source": str(result.source),
        "source_bytes": result.source_bytes,
        "record": asdict(result.record),
        "agreements": agreements_data(result.agreements),
        "notes": list(result.notes),
    }
