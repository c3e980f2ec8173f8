"""``kdna-deploy bench --gpu``: which options belong to it, and what they mean there. Imports nothing heavy."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich.console import RenderableType

from kdna_deploy.cli.console import Sink
from kdna_deploy.errors import UsageError

if TYPE_CHECKING:
    from kdna_deploy.bench.gpu.plan import GpuOptions
    from kdna_deploy.bench.gpu.result import GpuResult

# As in `runtimes/gpu_catalogue.py`, which imports torch.
RUNTIMES = ("tensorrt", "tensorrt-rtx", "onnxruntime-cuda", "pytorch-cuda", "pytorch-cuda-graph", "torch-compile")
_GPU_ONLY = {
    "precision": "--precision",
    "streams": "--streams",
    "cuda_graphs": "--cuda-graphs",
    "host_copies": "--host-copies",
}
_CPU_ONLY = {
    "cpu_threads": "--cpu-threads",
    "profile": "--profile",
    "cold_start": "--cold-start",
    "protocol": "--protocol",
}


@dataclass(frozen=True)
class Rendering:
    """The forms of a result: for the terminal, as a JSON document, and as the text of a file."""

    table: Callable[[], RenderableType]
    data: Callable[[], dict[str, Any]]
    written: Callable[[Path], str]


class Precision(str, Enum):
    fp32 = "fp32"
    tf32 = "tf32"
    fp16 = "fp16"
    int8 = "int8"


def check_device(ctx: typer.Context, gpu: bool, runtimes: Collection[str]) -> None:
    """Refuse what belongs to the other device.

    Raises:
        UsageError: an option or a runtime does.
    """
    for parameter, option in (_CPU_ONLY if gpu else _GPU_ONLY).items():
        source = ctx.get_parameter_source(parameter)
        if source is not None and source.name == "COMMANDLINE":
            device = (
                "is for the CPU; leave it out, or --gpu." if gpu else "belongs to --gpu; add that, or leave it out."
            )
            raise UsageError(f"{option} {device}")
    for name in runtimes:
        if gpu and name not in RUNTIMES:
            raise UsageError(f"--runtime {name} runs on the CPU; with --gpu choose from {', '.join(RUNTIMES)}.")
        if not gpu and name in RUNTIMES:
            raise UsageError(f"--runtime {name} runs on the GPU; add --gpu.")


def check_gpu(suite: str | None) -> None:
    """Refuse before anything is loaded or built.

    Raises:
        UsageError: there is no such suite on the GPU.
        RuntimeFailure: there is no GPU.
    """
    from kdna_deploy.runtimes.nvidia.gpu import needed_gpu

    if suite not in (None, "table1"):
        raise UsageError(f"--suite {suite} measures on the CPU; with --gpu there is --suite table1.")
    needed_gpu("bench --gpu measures")


def gpu_options(
    batch: int | None,
    runtimes: Collection[str],
    precisions: Sequence[Precision] | None,
    baseline: str | None,
    iterations: int | None,
    min_time: float | None,
    streams: int,
    cuda_graphs: bool,
    host_copies: bool,
    arch: str | None,
    factory: str | None,
    size: tuple[int, int] | None,
) -> GpuOptions:
    """What the command line asks for."""
    from kdna_deploy.bench.cpu.latency import LatencySettings
    from kdna_deploy.bench.gpu.plan import DEFAULT_BATCH, GpuOptions
    from kdna_deploy.bench.gpu.throughput import GPU_SETTINGS

    return GpuOptions(
        batch=batch or DEFAULT_BATCH,
        runtimes=tuple(dict.fromkeys(runtimes)),
        precisions=tuple(dict.fromkeys(one.value for one in precisions or ())),
        baseline=Path(baseline) if baseline else None,
        settings=LatencySettings(
            iterations if iterations is not None else GPU_SETTINGS.iterations,
            min_time if min_time is not None else GPU_SETTINGS.min_time,
        ),
        streams=streams,
        cuda_graphs=cuda_graphs,
        host_copies=host_copies,
        factory=factory,
        arch=arch,
        size=size,
    )


def check_baseline(baseline: str | None, runtimes: Collection[str]) -> None:
    """Refuse what only the CPU can be compared with.

    Raises:
        UsageError: a runtime or a saved run.
    """
    if baseline in runtimes:
        raise UsageError(f"With --gpu, --baseline is a model file, not the runtime '{baseline}'.")
    if baseline and baseline.endswith(".json"):
        raise UsageError(
            f"With --gpu, --baseline is a model file, not the saved run '{baseline}'; compare saved runs by --compare."
        )


def measure(sink: Sink, models: list[Path], suite: str | None, options: GpuOptions) -> GpuResult:
    """Run the measurement, its progress shown."""
    from kdna_deploy.bench.gpu.files import Reports
    from kdna_deploy.bench.gpu.run import bench_gpu, bench_gpu_table1

    with sink.progress() as (label, fraction):
        reports = Reports(label, fraction)
        return bench_gpu_table1(options, reports) if suite else bench_gpu(models, options, reports)


def rendering(result: GpuResult) -> Rendering:
    """How a result is shown."""
    from kdna_deploy.reports import gpu_data, gpu_tables

    return Rendering(
        lambda: gpu_tables.gpu_report(result),
        lambda: gpu_data.gpu_data(result),
        lambda path: gpu_data.written(result, path),
    )
