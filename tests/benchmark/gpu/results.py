"""Results of `bench --gpu` built by hand, from given samples."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from kdna_deploy.benchmark.device import BenchOptions
from kdna_deploy.benchmark.gpu.device import Gpu, GpuFigures, GpuFindings
from kdna_deploy.benchmark.gpu.state import GpuMachine, Sample, interpret
from kdna_deploy.benchmark.result import BenchResult, Floor, Row
from kdna_deploy.benchmark.statistics import Ratio, Samples, images_per_second, kept, summarise
from tests.benchmark.test_saved import MACHINE, SETTINGS

GPU = GpuMachine("NVIDIA GeForce RTX 4090", "8.9", "570.86", "13.0", 450.0, 3105)
PLAIN = "resnet18_plain 224×224"
STATE = interpret([Sample(2520, 10_501, 310.0, 64, 0), Sample(2535, 10_501, 330.0, 66, 0x04)])


def samples(milliseconds: float, seed: int = 0) -> Samples:
    noise = 1 + np.random.default_rng(seed).gamma(2.0, 0.002, (12, 3))
    return Samples((milliseconds * noise).round(6), np.repeat(np.arange(4), 3))


def gpu_row(
    model: str,
    milliseconds: float,
    runtime: str = "tensorrt",
    precision: str = "fp16",
    ratio: Ratio | None = None,
    **fields: Any,
) -> Row:
    """A row whose batches of 128 take about so many milliseconds."""
    spans, singles = samples(milliseconds), samples(milliseconds + 0.1, seed=1)
    row = Row(
        name=f"{model}, {runtime}, {precision}",
        model=model,
        runtime=runtime,
        precision=precision,
        figures=GpuFigures(precision, images_per_second(spans, 128), kept(ratio) if ratio else None, singles),
        parameters=9_240_000,
        macs=2_277_000_000,
        runtime_version="TensorRT 10.13.3.9",
        runtime_options={"streams": 1, "cuda_graphs": 1},
        file_bytes=38_200_000,
        latency=summarise(singles.values),
        ratio=ratio,
        samples=spans,
    )
    return replace(row, **fields)


def beside(model: str, milliseconds: float, plain: Row, ratio: Ratio, **fields: Any) -> Row:
    return gpu_row(model, milliseconds, plain.runtime, plain.precision, ratio, baseline=plain.name, **fields)


def gpu_result(*rows: Row, **fields: Any) -> BenchResult:
    floors = (Floor(rows[0].name, Ratio(1.001, 0.998, 1.004), 0.004),)
    options = BenchOptions(Gpu(), batch=Gpu.batch, settings=SETTINGS)
    result = BenchResult(rows, floors, GpuFindings(GPU, STATE), options, MACHINE, ("a note",), partial=False)
    return replace(result, **fields)


BASE = gpu_row(PLAIN, 15.0)
NET = beside("net.onnx", 16.5, BASE, Ratio(1.1, 1.09, 1.11, floor=0.004))
MISSING = replace(
    gpu_row("net.onnx", 1.0, "onnxruntime-cuda"),
    figures=GpuFigures("fp16"),
    latency=None,
    samples=None,
    unavailable="ONNX Runtime CUDA is not installed; run: pip install onnxruntime-gpu",
    baseline=f"{PLAIN}, onnxruntime-cuda, fp16",
)
FULL = gpu_result(BASE, NET, MISSING)
