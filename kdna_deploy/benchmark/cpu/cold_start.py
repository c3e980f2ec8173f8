"""Cold start and memory: what a service, or a device, pays before the second image.

    import   the runtime's own modules
    load     opening the file: reading, graph optimisation, packing of weights
    first    the first inference, which allocates
    memory   resident after it, and the highest until then, of the whole process with its interpreter

Each figure is the median over `PROCESSES` fresh processes, candidates taking turns.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

from kdna_deploy.errors import RuntimeFailure
from kdna_deploy.progress import SILENT, Listener
from kdna_deploy.runtimes.int8_kernels import int8_kernels_here
from kdna_deploy.runtimes.ort import SessionNeeds
from kdna_deploy.runtimes.table import Source

PROCESSES = 3
_LONGEST_SECONDS = 300


@dataclass(frozen=True)
class ColdStart:
    """Milliseconds and bytes."""

    import_ms: float
    load_ms: float
    first_ms: float
    resident_bytes: int
    peak_bytes: int


@dataclass(frozen=True)
class ColdRequest:
    """What a fresh process opens: a source on a runtime, with images of `shape` [n, c, h, w]."""

    name: str
    runtime: str
    source: Source
    threads: int
    shape: tuple[int, ...]
    needs: SessionNeeds = field(default_factory=SessionNeeds)


def measure_cold_starts(requests: Sequence[ColdRequest], listener: Listener = SILENT) -> list[ColdStart]:
    """Cold start of each request. Processes inherit the pinning of this one.

    Raises:
        RuntimeFailure: a process fails.
    """
    runs: list[list[ColdStart]] = [[] for _ in requests]
    listener.expect(PROCESSES * len(requests), "processes")
    for _ in range(PROCESSES):
        for index, request in enumerate(requests):
            runs[index].append(_fresh(request))
            listener.advance()
    return [_median(starts) for starts in runs]


def _fresh(request: ColdRequest) -> ColdStart:
    argument = json.dumps(
        {
            "runtime": request.runtime,
            "path": str(request.source.path),
            "source": {"arch": request.source.arch, "factory": request.source.factory, "ema": request.source.ema},
            "threads": request.threads,
            "shape": request.shape,
            "disabled_optimizers": request.needs.disabled_optimizers,
            "optimised": request.needs.prepared is not None,
            "session_config": int8_kernels_here().entries,
        }
    )
    command = [sys.executable, "-m", "kdna_deploy.benchmark.cpu.fresh_process", argument]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_LONGEST_SECONDS, check=True)
        return ColdStart(**json.loads(done.stdout.splitlines()[-1]))
    except (subprocess.SubprocessError, ValueError, IndexError, TypeError) as error:
        said = (getattr(error, "stderr", "") or str(error)).strip().splitlines()
        raise RuntimeFailure(
            f"A fresh process could not open {request.name}: {said[-1][:200] if said else error}; "
            "`cold_start=False` leaves this measurement out."
        ) from error


def _median(starts: list[ColdStart]) -> ColdStart:
    columns = {name: statistics.median(asdict(start)[name] for start in starts) for name in asdict(starts[0])}
    return ColdStart(**{name: int(value) if name.endswith("bytes") else value for name, value in columns.items()})
