"""What the operating system tells of the processor: Linux does, in /proc/cpuinfo; macOS and Windows do not."""

from __future__ import annotations

import itertools
from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")


def first_processor(cpuinfo: Path = CPUINFO) -> dict[str, str]:
    """The first block of /proc/cpuinfo; empty where there is none."""
    try:
        with cpuinfo.open(errors="replace") as lines:
            # No further: the kernel writes the file while it is read, and asks every processor in it.
            pairs = [line.partition(":") for line in itertools.takewhile(str.strip, lines)]
    except OSError:
        return {}
    return {name.strip(): value.strip() for name, _, value in pairs}


def instruction_sets(processor: dict[str, str]) -> frozenset[str] | None:
    """Flags of a block of /proc/cpuinfo as the kernel names them (ARM calls them features); None where it has none."""
    flags = processor.get("flags", processor.get("Features", "")).split()
    return frozenset(flags) or None
