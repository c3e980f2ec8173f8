"""Cold start and memory: what a service, or a device, pays before the second image.

    import   the runtime's own modules
    load     opening the file: reading, graph optimisation, packing of weights
    first    the first inference, which allocates
    memory   resident after it, and the highest until then, of the whole process with its interpreter
             resident = private, which no other process uses + shared, pages of files, which others may use as well
    together proportional set size of `TOGETHER` processes at once: private pages, and of each shared one its share

Each figure is the median over `PROCESSES` fresh processes, candidates taking turns. Processes at once are started where
one of the candidates is a prepared file, whose weights they share, and on Linux, which tells what is shared.
"""

from __future__ import annotations

import contextlib
import json
import statistics
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from kdna_deploy.errors import RuntimeFailure
from kdna_deploy.network.configuration import configured
from kdna_deploy.progress import SILENT, Listener
from kdna_deploy.runtimes.int8_kernels import int8_kernels_here
from kdna_deploy.runtimes.ort import SessionNeeds
from kdna_deploy.runtimes.table import Source

PROCESSES = 3
TOGETHER = 4
_LONGEST_SECONDS = 300
_ROLLUP = "/proc/{}/smaps_rollup"


@dataclass(frozen=True)
class ColdStart:
    """Milliseconds and bytes; None where that is not told, or was not measured."""

    import_ms: float
    load_ms: float
    first_ms: float
    resident_bytes: int
    peak_bytes: int
    private_bytes: int | None = None
    shared_bytes: int | None = None
    together_bytes: int | None = None


@dataclass(frozen=True)
class ColdRequest:
    """What a fresh process opens: a source on a runtime, with images of `shape`, its axes as the source has them.

    All its `outputs` are computed.
    """

    name: str
    runtime: str
    source: Source
    threads: int
    shape: tuple[int, ...]
    needs: SessionNeeds = field(default_factory=SessionNeeds)
    outputs: int = 1


def measure_cold_starts(requests: Sequence[ColdRequest], listener: Listener = SILENT) -> list[ColdStart]:
    """Cold start of each request. Processes inherit the pinning of this one.

    Raises:
        RuntimeFailure: a process fails.
    """
    runs: list[list[ColdStart]] = [[] for _ in requests]
    at_once = any(request.needs.prepared for request in requests) and Path(_ROLLUP.format("self")).is_file()
    listener.expect((PROCESSES + at_once) * len(requests), "processes")
    for _ in range(PROCESSES):
        for index, request in enumerate(requests):
            runs[index].append(_fresh(request))
            listener.advance()
    medians = [_median(starts) for starts in runs]
    if not at_once:
        return medians
    together = []
    for request in requests:
        together.append(_together(request))
        listener.advance()
    return [replace(start, together_bytes=size) for start, size in zip(medians, together, strict=True)]


def _command(request: ColdRequest, held: bool = False) -> list[str]:
    argument = json.dumps(
        {
            "runtime": request.runtime,
            "path": str(request.source.path),
            "source": {
                "arch": asdict(configured(request.source.arch)),
                "factory": request.source.factory,
                "ema": request.source.ema,
            },
            "threads": request.threads,
            "shape": request.shape,
            "outputs": request.outputs,
            "disabled_optimizers": request.needs.disabled_optimizers,
            "optimised": request.needs.prepared is not None,
            "session_config": int8_kernels_here().entries,
            "held": held,
        }
    )
    return [sys.executable, "-m", "kdna_deploy.benchmark.cpu.fresh_process", argument]


def _fresh(request: ColdRequest) -> ColdStart:
    try:
        done = subprocess.run(_command(request), capture_output=True, text=True, timeout=_LONGEST_SECONDS, check=True)
        return ColdStart(**json.loads(done.stdout.splitlines()[-1]))
    except (subprocess.SubprocessError, OSError, ValueError, IndexError, TypeError) as error:
        said = (getattr(error, "stderr", "") or str(error)).strip().splitlines()
        raise _failure(request, said[-1][:200] if said else str(error)) from error


def _together(request: ColdRequest) -> int:
    """Bytes of `TOGETHER` processes that have all opened it and run it once, each shared page counted once."""
    no_room = f"there is no room for {TOGETHER} at once"
    try:
        with contextlib.ExitStack() as stack:
            processes = [stack.enter_context(_held(request)) for _ in range(TOGETHER)]
            for process in processes:
                assert process.stdout is not None
                if not process.stdout.readline():  # it has ended: what one could open, several cannot
                    raise _failure(request, no_room)
            return sum(_proportional_bytes(process.pid) for process in processes)
    except OSError as error:  # no process more may be started, or one of them was ended meanwhile
        raise _failure(request, no_room) from error


@contextlib.contextmanager
def _held(request: ColdRequest) -> Iterator[subprocess.Popen[str]]:
    pipe: Any = subprocess.PIPE
    with subprocess.Popen(
        _command(request, held=True), stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def _proportional_bytes(pid: int) -> int:
    """Raises OSError where the process has ended."""
    lines = Path(_ROLLUP.format(pid)).read_text().splitlines()
    if (told := next((line for line in lines if line.startswith("Pss:")), None)) is None:
        raise ProcessLookupError(pid)
    return int(told.split()[1]) * 1024


def _failure(request: ColdRequest, why: str) -> RuntimeFailure:
    return RuntimeFailure(
        f"A fresh process could not open {request.name}: {why}; `cold_start=False` leaves this measurement out."
    )


def _median(starts: list[ColdStart]) -> ColdStart:
    columns = {name: [getattr(start, name) for start in starts] for name in asdict(starts[0])}
    return ColdStart(**{name: _middle(name, values) for name, values in columns.items()})


def _middle(name: str, values: list[Any]) -> Any:
    if None in values:
        return None
    return int(statistics.median(values)) if name.endswith("bytes") else statistics.median(values)
