"""What `verify` tells: how far an artifact agrees with its reference, and where it first departs."""

from __future__ import annotations

from kdna_deploy.evaluation.verify import FileVerification
from kdna_deploy.reports.agreement import agreement_cells, agreements_data
from kdna_deploy.reports.bisection import bisection_data, bisection_parts
from kdna_deploy.reports.report import Report, document
from kdna_deploy.targets.bisect import Bisection


def verify_report(result: FileVerification, found: Bisection | None) -> Report:
    """Of an artifact; `found` is where it first departs, where that was looked for."""
    title = f"{result.candidate} against {result.reference}"
    data = {
        "candidate": result.candidate,
        "reference": result.reference,
        "passed": result.passed,
        "agreements": agreements_data(result.agreements),
        **({"bisection": bisection_data(found)} if found else {}),
    }
    parts = (agreement_cells(result.agreements, title), *(bisection_parts(found) if found else ()))
    return Report(parts, document("verify", data), result.notes)
