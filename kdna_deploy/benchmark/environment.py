"""What a latency figure depends on besides the model: the machine, its limits and the versions."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil

from kdna_deploy.graph.provenance import package_versions
from kdna_deploy.runtimes.processor import CPUINFO, first_processor, instruction_sets

_CGROUP = Path("/sys/fs/cgroup")
_GOVERNOR = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
_CPUINFO = CPUINFO
# Instruction sets that inference kernels are written for, as the kernel names them.
_KERNEL_FLAGS = (
    *("sse4_2", "avx", "f16c", "fma", "avx2", "avx_vnni"),
    *("avx512f", "avx512bw", "avx512vl", "avx512_vnni", "avx512_bf16", "avx512_fp16"),
    *("amx_tile", "amx_int8", "amx_bf16"),
    *("asimd", "asimddp", "asimdhp", "i8mm", "bf16", "sve", "sve2"),
)
# The widest of a kind first; then what products of int8 need.
_WIDEST = {"avx512f": "AVX-512", "avx2": "AVX2", "avx": "AVX", "sse4_2": "SSE4.2", "sve": "SVE", "asimd": "NEON"}
_OF_INT8 = {"avx512_vnni": "VNNI", "avx_vnni": "VNNI", "amx_int8": "AMX", "asimddp": "dot products", "i8mm": "I8MM"}


@dataclass(frozen=True)
class Environment:
    """The machine of a measurement; None where the system does not tell.

    Attributes:
        flags: instruction sets for inference kernels.
        governor: of the clock frequency.
        load: one-minute load average before the measurement began.
        cgroup_cpus: CPUs' worth of time that the control group grants; None without a limit.
        cgroup_memory_gib: likewise memory.
    """

    cpu: str
    flags: tuple[str, ...]
    cores: int
    memory_gib: float
    governor: str | None
    load: float | None
    cgroup_cpus: float | None
    cgroup_memory_gib: float | None
    system: str
    python: str
    versions: dict[str, str]

    @property
    def record(self) -> dict[str, Any]:
        """As it is stored, in types that JSON has."""
        return {**asdict(self), "flags": list(self.flags)}

    @property
    def processor(self) -> str:
        """Its name and what tells it from others of that name: ``AMD EPYC (AVX2, no VNNI)``."""
        return processor(self.cpu, self.flags)


def environment() -> Environment:
    """This machine, now."""
    info = first_processor(_CPUINFO)
    return Environment(
        cpu=info.get("model name") or platform.processor() or platform.machine(),
        flags=_kernel_flags(info),
        cores=psutil.cpu_count() or 1,
        memory_gib=round(psutil.virtual_memory().total / 1024**3, 1),
        governor=_read(_GOVERNOR),
        load=round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        cgroup_cpus=_cgroup_cpus(),
        cgroup_memory_gib=_cgroup_memory(),
        system=f"{platform.system()} {platform.release()}",
        python=platform.python_version(),
        versions=package_versions(),
    )


def processor(cpu: str, flags: Iterable[str]) -> str:
    """Name of a processor with the instruction sets `flags`: a provider may give one name to several kinds."""
    present = set(flags)
    widest = next((name for flag, name in _WIDEST.items() if flag in present), None)
    if widest is None:
        return cpu
    products = dict.fromkeys(name for flag, name in _OF_INT8.items() if flag in present)
    without = "no dot products" if widest in ("SVE", "NEON") else "no VNNI"
    return f"{cpu} ({', '.join((widest, *products) if products else (widest, without))})"


def _kernel_flags(info: dict[str, str]) -> tuple[str, ...]:
    present = instruction_sets(info) or frozenset()
    return tuple(flag for flag in _KERNEL_FLAGS if flag in present)


def _cgroup_cpus() -> float | None:
    quota, _, period = (_read(_CGROUP / "cpu.max") or "max").partition(" ")
    return None if quota == "max" else round(int(quota) / int(period or 100_000), 2)


def _cgroup_memory() -> float | None:
    limit = _read(_CGROUP / "memory.max") or "max"
    return None if limit == "max" else round(int(limit) / 1024**3, 2)


def _read(path: Path) -> str | None:
    try:
        return path.read_text().strip()
    except OSError:
        return None
