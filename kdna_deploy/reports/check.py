"""What `export --check` tells."""

from __future__ import annotations

from kdna_deploy.reports.report import Facts, Report, document
from kdna_deploy.targets.reproduction import Reproduction


def check_report(found: Reproduction) -> Report:
    """Whether a file is what this version makes, and what differs."""
    data = {
        "file": str(found.path),
        "source": str(found.source),
        "version": found.version,
        "identical": found.identical,
        "differences": list(found.differences),
    }
    verdict = "is not" if found.differences else "is, byte for byte,"
    made = f"'{found.path}' {verdict} what kdna-deploy {found.version} makes of '{found.source}'."
    return Report((Facts("", [("", made)]),), document("check", data), found.differences[1:])
