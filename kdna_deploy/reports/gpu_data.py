"""A measurement on the GPU as JSON (docs/bench-file.md describes it), CSV and Markdown."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from kdna_deploy.bench.gpu.result import GpuResult, GpuRow
from kdna_deploy.bench.saved import SCHEMA_VERSION
from kdna_deploy.bench.statistics import Samples
from kdna_deploy.reports.bench_data import as_csv, as_markdown, floor_data, ratio_data
from kdna_deploy.reports.data import document
from kdna_deploy.reports.gpu_tables import gpu_cells, gpu_facts


def gpu_data(result: GpuResult) -> dict[str, Any]:
    """The JSON document: that of a run on the CPU, without what only a CPU has, with what only a GPU has."""
    machine = result.machine
    return document(
        "bench",
        {
            "partial": result.partial,
            "suite": result.suite.name if result.suite else None,
            "options": result.options.record,
            "environment": {
                **result.environment.record,
                "gpu": machine.name,
                "gpu_compute_capability": machine.compute_capability,
                "gpu_driver": machine.driver,
                "gpu_cuda": machine.cuda,
                "gpu_power_limit_w": machine.power_limit_w,
                "gpu_max_sm_mhz": machine.max_sm_mhz,
            },
            "cores": [],
            "peak": None,
            "gpu_state": result.state.record if result.state else None,
            "noise_floors": [floor_data(floor) for floor in result.floors],
            "notes": list(result.notes),
            "networks": [{"name": name, "printed": asdict(row)} for name, row in _printed(result).items()],
            "rows": [_row(row) for row in result.rows],
            "profiles": [],
            "differences": [],
        },
        schema=SCHEMA_VERSION,
    )


def _printed(result: GpuResult) -> dict[str, Any]:
    return result.suite.printed if result.suite else {}


def _row(row: GpuRow) -> dict[str, Any]:
    return {
        "name": row.name,
        "model": row.model,
        "runtime": row.runtime,
        "precision": row.precision,
        "runtime_version": row.runtime_version,
        "runtime_options": dict(row.runtime_options),
        "parameters": row.parameters,
        "macs": row.macs,
        "file_bytes": row.file_bytes,
        "throughput": row.throughput,
        "latency_ms": asdict(row.latency) if row.latency else None,
        "baseline": row.baseline,
        "ratio": ratio_data(row.ratio),
        "kept": asdict(row.kept) if row.kept else None,
        "share_of_peak": None,
        "cold_start": None,
        "unavailable": row.unavailable or None,
        "samples_ms": _values(row.spans),
        "single_ms": _values(row.singles),
        "blocks": row.spans.blocks.tolist() if row.spans else [],
    }


def _values(samples: Samples | None) -> list[list[float]]:
    return samples.values.round(6).tolist() if samples else []


def written(result: GpuResult, path: Path) -> str:
    """The text of a file to save `result` to, in the format that its name tells."""
    if path.suffix == ".json":
        return json.dumps(gpu_data(result), indent=1)
    if path.suffix == ".csv":
        return as_csv([_row(row) for row in result.rows])
    return as_markdown(gpu_cells(result), gpu_facts(result), result.notes)
