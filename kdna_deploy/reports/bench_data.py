"""A benchmark's result as JSON (docs/bench-file.md describes it), CSV and Markdown."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from kdna_deploy.benchmark.compare import ComparedRow, Comparison
from kdna_deploy.benchmark.cpu.cold_start import ColdStart
from kdna_deploy.benchmark.result import BenchResult, Floor, Row
from kdna_deploy.benchmark.saved import SCHEMA_VERSION
from kdna_deploy.benchmark.statistics import Estimate, Ratio, Summary
from kdna_deploy.reports.bench_tables import bench_cells, bench_facts
from kdna_deploy.reports.markdown import markdown
from kdna_deploy.reports.report import Facts, Report, document

_NESTED = {
    "latency_ms": tuple(field.name for field in fields(Summary)),
    "ratio": ("value", "low", "high", "bootstrap_low", "bootstrap_high", "noise_floor", "verdict"),
    "cold_start": tuple(field.name for field in fields(ColdStart)),
    "kept": tuple(field.name for field in fields(Estimate)),
}
_LEFT_OUT = ("samples_ms", "single_ms", "blocks", "runtime_options", "image_shape")
# What every document and row has, whichever device fills it.
_DOCUMENT: dict[str, Any] = {"cores": [], "peak": None, "profiles": [], "differences": [], "cpu_streams": []}
_ROW: dict[str, Any] = {"share_of_peak": None, "cold_start": None}


def bench_data(result: BenchResult) -> dict[str, Any]:
    """The JSON document: everything, raw samples included."""
    return document(
        "bench",
        {
            "partial": result.partial,
            "suite": result.suite.name if result.suite else None,
            "options": result.options.record,
            "environment": {**result.environment.record, **result.findings.environment},
            **_DOCUMENT,
            **result.findings.record,
            "noise_floors": [_floor(floor) for floor in result.floors],
            "notes": list(result.notes),
            "networks": [asdict(entry) for entry in result.suite.entries] if result.suite else [],
            "rows": [_row(row) for row in result.rows],
        },
        schema=SCHEMA_VERSION,
    )


def _floor(floor: Floor) -> dict[str, Any]:
    return {"baseline": floor.baseline, "value": floor.value, "ratio": _ratio(floor.ratio)}


def _ratio(ratio: Ratio | None) -> dict[str, Any] | None:
    if ratio is None:
        return None
    low, high = ratio.interval or (None, None)
    return {
        "value": ratio.value,
        "low": low,
        "high": high,
        "bootstrap_low": ratio.low,
        "bootstrap_high": ratio.high,
        "noise_floor": ratio.floor,
        "verdict": ratio.verdict,
    }


def _row(row: Row) -> dict[str, Any]:
    return {
        "name": row.name,
        "model": row.model,
        "runtime": row.runtime,
        "runtime_version": row.runtime_version,
        "runtime_options": dict(row.runtime_options),
        "parameters": row.parameters,
        "macs": row.macs,
        "image_shape": list(row.image_shape),
        "file_bytes": row.file_bytes,
        "latency_ms": asdict(row.latency) if row.latency else None,
        "baseline": row.baseline,
        "ratio": _ratio(row.ratio),
        **_ROW,
        **row.figures.record,
        "unavailable": row.unavailable or None,
        "samples_ms": row.samples.values.round(6).tolist() if row.samples else [],
        "blocks": row.samples.blocks.tolist() if row.samples else [],
    }


def comparison_data(comparison: Comparison) -> dict[str, Any]:
    return document(
        "bench-comparison",
        {
            "first": str(comparison.first.path),
            "second": str(comparison.second.path),
            "differences": list(comparison.differences),
            "rows": [_compared(row) for row in comparison.rows],
        },
        schema=SCHEMA_VERSION,
    )


def _compared(row: ComparedRow) -> dict[str, Any]:
    return {
        "model": row.model,
        "runtime": row.runtime,
        "first_ms": asdict(row.first) if row.first else None,
        "second_ms": asdict(row.second) if row.second else None,
        "first_ratio": asdict(row.first_ratio) if row.first_ratio else None,
        "second_ratio": asdict(row.second_ratio) if row.second_ratio else None,
        "change": asdict(row.change) if row.change else None,
        "verdict": row.verdict,
    }


def written(result: BenchResult, path: Path) -> str:
    """The text of a file to save `result` to, in the format that its name tells."""
    if path.suffix == ".json":
        return json.dumps(bench_data(result), indent=1)
    if path.suffix == ".csv":
        return _csv(result.rows)
    return markdown(Report((*bench_cells(result), Facts("", bench_facts(result))), {}, result.notes))


def _csv(rows: Sequence[Row]) -> str:
    """One line a model, without the samples; the columns are always the same, empty where nothing was measured."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    lines = [_flat(_row(row)) for row in rows]
    writer.writerow(lines[0])
    writer.writerows(line.values() for line in lines)
    return text.getvalue()


def _flat(record: dict[str, Any]) -> dict[str, Any]:
    """Nested fields → ``outer.inner`` columns."""
    flat: dict[str, Any] = {}
    for name, value in record.items():
        if name in _NESTED:
            flat |= {f"{name}.{inner}": (value or {}).get(inner) for inner in _NESTED[name]}
        elif name not in _LEFT_OUT:
            flat[name] = value
    return flat
