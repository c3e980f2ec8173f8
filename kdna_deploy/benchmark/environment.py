"""What a latency figure depends on besides the model: the machine and the versions."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from pathlib import Path

import psutil

from kdna_deploy.provenance import package_versions


@dataclass(frozen=True)
class Environment:
    """The machine of a measurement. `load` is the one-minute load average before it began."""

    cpu: str
    cores: int
    memory_gib: float
    system: str
    python: str
    load: float
    versions: dict[str, str]


def environment() -> Environment:
    """This machine, now."""
    return Environment(
        cpu=_cpu_model(),
        cores=psutil.cpu_count() or 1,
        memory_gib=round(psutil.virtual_memory().total / 1024**3, 1),
        system=f"{platform.system()} {platform.release()}",
        python=platform.python_version(),
        load=round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else 0.0,
        versions=package_versions(),
    )


def _cpu_model() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
