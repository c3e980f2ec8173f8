"""Two saved runs of `bench` side by side."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from kdna_deploy.errors import UsageError
from kdna_deploy.input_files import Kind, check_input
from kdna_deploy.verbs.arguments import PathLike
from kdna_deploy.verbs.result import Result

if TYPE_CHECKING:
    from kdna_deploy.benchmark.compare import Comparison
    from kdna_deploy.reports.report import Report


@dataclass(frozen=True, repr=False)
class Compared(Result):
    """Two saved runs side by side."""

    comparison: Comparison

    @property
    def warning(self) -> str:
        """Why they are not comparable; empty where they are."""
        differences = self.comparison.differences
        return "the runs are not comparable, for they differ in: " + "; ".join(differences) if differences else ""

    @property
    def report(self) -> Report:
        from kdna_deploy.reports.bench import comparison_report

        return comparison_report(self.comparison)


def compare(*runs: PathLike) -> Compared:
    """Compare two runs that `bench` saved as ``.json``.

    Raises:
        UsageError: there are not two.
        InputError: one cannot be read.
    """
    if len(runs) != 2:
        raise UsageError("`compare` takes two saved runs: `bench('A.json', 'B.json', compare=True)`.")
    files = tuple(map(Path, runs))
    for path in files:
        check_input(path, (Kind.saved_run,), "`compare`")
    from kdna_deploy.benchmark.compare import compare_runs
    from kdna_deploy.benchmark.saved import read_run

    return Compared(compare_runs(*(read_run(path) for path in files)))
