"""What `bench` tells: of a run on any device, and of two saved runs side by side."""

from __future__ import annotations

from kdna_deploy.benchmark.compare import Comparison
from kdna_deploy.benchmark.result import BenchResult
from kdna_deploy.reports.bench_data import bench_data, comparison_data
from kdna_deploy.reports.bench_tables import bench_cells, bench_facts, comparison_cells, comparison_facts
from kdna_deploy.reports.report import Facts, Report


def bench_report(result: BenchResult) -> Report:
    """Everything that was measured."""
    return Report((*bench_cells(result), Facts("", bench_facts(result))), bench_data(result), result.notes)


def comparison_report(comparison: Comparison) -> Report:
    """Two saved runs."""
    parts = (comparison_cells(comparison), Facts("", comparison_facts(comparison)))
    return Report(parts, comparison_data(comparison))
