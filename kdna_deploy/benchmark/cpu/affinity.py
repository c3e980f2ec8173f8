"""Pinning: a measurement keeps to the cores that are idlest when it starts.

All threads of the process are pinned, those too that were there before: PyTorch keeps the workers that it made while it
fused or exported, and they would otherwise go on wherever there is room, beside a runtime whose workers are new and
inherit the pinning. Within the cores ONNX Runtime's workers get one each, which it has an option for; those of PyTorch
and OpenVINO, which have as many threads on the same cores, are left to the operating system.

Opening or closing a session may move the thread that does it (OpenVINO puts back the cores that it found when it came),
so that this thread is put where it belongs again before it measures (`hold`).

Does not apply where the operating system has no affinity (macOS): the measurement then runs unpinned and says so.
Windows has one mask for the whole process, which does the same.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import psutil

from kdna_deploy.errors import UsageError

_LOOK_SECONDS = 0.2
_TASKS = Path("/proc/self/task")


@contextlib.contextmanager
def pinned(threads: int) -> Iterator[tuple[int, ...]]:
    """Pin this process to `threads` cores for the block; yields their numbers, none where pinning is not possible.

    Threads that the block starts inherit the pinning, and lose it at its end like the others.

    Raises:
        UsageError: there are fewer cores than `threads`.
    """
    process = psutil.Process()
    if not hasattr(process, "cpu_affinity"):
        yield ()
        return
    allowed = process.cpu_affinity()
    if threads > len(allowed):
        raise UsageError(f"This process may use {len(allowed)} cores; `cpu_threads={threads}` asks for more.")
    load = psutil.cpu_percent(interval=_LOOK_SECONDS, percpu=True)
    idlest = sorted(allowed, key=lambda core: load[core] if core < len(load) else 0.0)[:threads]
    before = {thread: _cores_of(thread) for thread in _threads()}
    _pin(process, idlest)
    try:
        yield tuple(sorted(idlest))
    finally:
        process.cpu_affinity(allowed)
        for thread in _threads():
            # A worker that the block made may have been given one of the cores by its runtime: it keeps that.
            own = before.get(thread, allowed if _cores_of(thread) == set(idlest) else None)
            if own:
                _place(thread, own)


def hold(cores: tuple[int, ...]) -> None:
    """Put the calling thread back on `cores` where it has been moved; its runtimes' workers stay where they are."""
    if cores and hasattr(os, "sched_getaffinity") and os.sched_getaffinity(0) != set(cores):
        os.sched_setaffinity(0, cores)


def _pin(process: psutil.Process, cores: list[int]) -> None:
    process.cpu_affinity(cores)  # of the calling thread on Linux, of the process on Windows
    for thread in _threads():
        _place(thread, cores)


def _threads() -> list[int]:
    """All threads of this process; none where the system does not list them."""
    try:
        return [int(task.name) for task in _TASKS.iterdir()]
    except OSError:
        return []


def _cores_of(thread: int) -> set[int]:
    with contextlib.suppress(OSError):  # it has ended meanwhile
        return set(os.sched_getaffinity(thread))
    return set()


def _place(thread: int, cores: Iterable[int]) -> None:
    with contextlib.suppress(OSError):
        os.sched_setaffinity(thread, cores)
