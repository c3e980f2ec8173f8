"""What a latency figure depends on besides the model: the machine, its limits and the versions."""

from __future__ import annotations

import os
import platform
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
