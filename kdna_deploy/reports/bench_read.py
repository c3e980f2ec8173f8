"""The inverse of `bench_data`: what ``bench --save FILE.json`` wrote → the result that it was written of.

    bench_data(read_result(path)) = the document, as far as docs/bench-file.md describes it

Not stored, and therefore not there again: how checkpoints were loaded, whether profiles and cold starts were asked for,
and the precision of a row on the CPU, which is called that of its file.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from kdna_deploy.benchmark.cpu.cold_start import ColdStart
from kdna_deploy.benchmark.cpu.device import Cpu
from kdna_deploy.benchmark.cpu.findings import CpuFigures, CpuFindings
from kdna_deploy.benchmark.cpu.profile import Explanation, Layer, Profile
from kdna_deploy.benchmark.cpu.roofline import Kernel, Peak
from kdna_deploy.benchmark.cpu.streams import Throughput
from kdna_deploy.benchmark.device import BenchOptions
from kdna_deploy.benchmark.environment import Environment
from kdna_deploy.benchmark.gpu.device import Gpu, GpuFigures, GpuFindings
from kdna_deploy.benchmark.gpu.state import GpuMachine, GpuState, Sample
from kdna_deploy.benchmark.paper import Printed
from kdna_deploy.benchmark.protocol import Settings
from kdna_deploy.benchmark.result import BenchResult, Floor, Row
from kdna_deploy.benchmark.saved import read_run
from kdna_deploy.benchmark.statistics import Estimate, Ratio, Samples, Summary
from kdna_deploy.benchmark.suites import Entry, Suite
from kdna_deploy.errors import ArtifactError
from kdna_deploy.reports.bench_schema import document
from kdna_deploy.reports.bench_tables import bench_cells


def read_result(path: Path) -> BenchResult:
    """The result in a saved run.

    Raises:
        ArtifactError: it is none of ours, damaged, or of another schema.
    """
    read_run(path)  # which refuses what is none of ours, and samples that cannot be
    try:
        result = _result(document(json.loads(path.read_text(encoding="utf-8"))))
        bench_cells(result)  # rows of names that are not there, and the like
    except (ArithmeticError, KeyError, TypeError, ValueError) as error:
        raise ArtifactError(f"'{path}' is damaged; measure it again.") from error
    return result


def _result(data: dict[str, Any]) -> BenchResult:
    on_gpu = "gpu" in data["environment"]
    options = _read_options(data["options"], on_gpu)
    entries = tuple(Entry(**{**one, "printed": _of(Printed, one["printed"])}) for one in data["networks"])
    return BenchResult(
        rows=tuple(_read_row(row, on_gpu) for row in data["rows"]),
        floors=tuple(Floor(one["baseline"], _read_ratio(one["ratio"]), one["value"]) for one in data["noise_floors"]),
        findings=_gpu_findings(data) if on_gpu else _cpu_findings(data),
        options=options,
        environment=_machine(data["environment"]),
        notes=tuple(data["notes"]),
        partial=data["partial"],
        suite=Suite(data["suite"], (), entries, options) if data["suite"] else None,
    )


def _of(kind: Any, fields: dict[str, Any] | None) -> Any:
    return None if fields is None else kind(**fields)


def _machine(fields: dict[str, Any]) -> Environment:
    own = {name: value for name, value in fields.items() if not name.startswith("gpu")}
    return Environment(**{**own, "flags": tuple(own["flags"])})


def _read_options(said: dict[str, Any], on_gpu: bool) -> BenchOptions:
    words = {name: said[name] for name in ("streams", "cuda_graphs", "host_copies") if name in said}
    device = Gpu(tuple(said.get("precisions", ())), **words) if on_gpu else Cpu(said["threads"])
    return BenchOptions(
        device,
        batch=said["batch"],
        runtimes=tuple(said["runtimes"]),
        baseline=None if said["baseline"] == "plain backbone" else said["baseline"],
        settings=Settings(said["iterations"], said["min_time_s"]),
        protocol=said["protocol"],
        methods=tuple(said["methods"]),
    )


def _read_row(row: dict[str, Any], on_gpu: bool) -> Row:
    cold, kept = _of(ColdStart, row["cold_start"]), _of(Estimate, row.get("kept"))
    samples = _read_samples(row["samples_ms"], row["blocks"])
    if on_gpu:
        singles = _read_samples(row["single_ms"], row["blocks"]) if row.get("single_ms") else None
        figures: Any = GpuFigures(row["precision"], row.get("throughput"), kept, singles)
    else:
        figures = CpuFigures(row["share_of_peak"], cold)
    same = ("name", "model", "runtime", "runtime_version", "runtime_options", "parameters", "macs", "file_bytes")
    return Row(
        **{name: row[name] for name in same},
        precision=row.get("precision", "its own"),
        figures=figures,
        latency=_of(Summary, row["latency_ms"]),
        baseline=row["baseline"],
        ratio=_read_ratio(row["ratio"]) if row["ratio"] else None,
        samples=samples,
        unavailable=row["unavailable"] or "",
        image_shape=tuple(row.get("image_shape", ())),
    )


def _read_ratio(ratio: dict[str, Any]) -> Ratio:
    paired = ratio["verdict"] != "other run"
    return Ratio(ratio["value"], ratio["bootstrap_low"], ratio["bootstrap_high"], ratio["noise_floor"], paired)


def _read_samples(values_ms: list[list[float]], blocks: list[int]) -> Samples | None:
    return Samples(np.asarray(values_ms, np.float64), np.asarray(blocks, np.int64)) if values_ms else None


def _cpu_findings(data: dict[str, Any]) -> CpuFindings:
    peak = data["peak"]
    return CpuFindings(
        cores=tuple(data["cores"]),
        peak=Peak(Kernel(**peak["best"]), tuple(Kernel(**one) for one in peak["tried"])) if peak else None,
        profiles=tuple(
            Profile(one["name"], tuple(Layer(**{**layer, "shape": tuple(layer["shape"])}) for layer in one["layers"]))
            for one in data["profiles"]
        ),
        explanations=tuple(Explanation(**one) for one in data["differences"]),
        streams=tuple(_throughput(one) for one in data["cpu_streams"]),
    )


def _throughput(one: dict[str, Any]) -> Throughput:
    samples = _read_samples(one["samples_ms"], one["blocks"])
    if samples is None:
        raise ValueError("a throughput without samples")
    return Throughput(
        *(one["name"], one["streams"], one["batch"], one["throughput"], _of(Estimate, one["kept"])),
        *(one["noise_floor"], one["runtime_options"], samples),
    )


def _gpu_findings(data: dict[str, Any]) -> GpuFindings:
    told = {name.removeprefix("gpu_"): value for name, value in data["environment"].items() if name.startswith("gpu_")}
    state = data.get("gpu_state")
    if state is not None:
        ranges = {name: tuple(state[name]) if state[name] else None for name in ("sm_mhz", "power_w")}
        rest = {name: _of(Sample, state[name]) for name in ("before", "after")}
        state = GpuState(**{**state, **ranges, **rest})
    return GpuFindings(GpuMachine(name=data["environment"]["gpu"], **told), state)
