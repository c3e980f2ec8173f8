"""``kdna-deploy bench --gpu``: which options belong to it, and what they mean there. Imports nothing heavy."""

from __future__ import annotations

from collections.abc import Collection
from enum import Enum

import typer

from kdna_deploy.errors import UsageError

# As in `runtimes/table.py`, which imports torch.
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
