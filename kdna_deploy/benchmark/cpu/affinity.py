"""Pinning: a measurement keeps to the cores that were idlest when the process first measured.

A process keeps to its choice, and N cores are the first N of it: OpenVINO puts its workers, and the thread that calls
it, on cores that it saw when it was first used, for as long as the process lives. On others, chosen anew, they would
compute beside the core that is named. For the same reason what a run tries beforehand is tried pinned.

All threads of the process are pinned, those too that were there before: PyTorch keeps the workers that it made while it
fused or exported, and they would otherwise go on wherever there is room, beside a runtime whose workers are new and
inherit the pinning. Within the cores ONNX Runtime's workers get one each, which it has an option for; those of PyTorch
and OpenVINO, which have as many threads on the same cores, are left to the operating system.

Opening or closing a session may move the thread that does it (OpenVINO puts back the cores that it found when it came),
so that this thread is put where it belongs again before it measures (`hold`).

Does not apply where the operating system has no affinity (macOS): the measurement then runs unpinned and says so.
Windows has one mask for the whole process, which does the same. Nor does it apply to OpenVINO where something else in
the process has used it before, or a later run asks for more cores than the first: it then keeps to what it saw.
"""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import psutil

from kdna_deploy.errors import UsageError

_LOOK_SECONDS = 0.2
_TASKS = Path("/proc/self/task")


@contextlib.contextmanager
def pinned(threads: int, within: tuple[int, ...] = ()) -> Iterator[tuple[int, ...]]:
    """Pin this process to `threads` cores for the block; yields their numbers, none where pinning is not possible.

    Threads that the block starts inherit the pinning, and lose it at its end like the others. The cores are among those
    of the process, or `within` others, for a block inside another.

    Raises:
        UsageError: there are fewer cores than `threads`.
    """
    process = psutil.Process()
    if not hasattr(process, "cpu_affinity"):
        yield ()
        return
    allowed = process.cpu_affinity()
    possible = within or allowed_cores()
    check_cores(threads, possible)
    idlest = list(idlest_first(possible)[:threads])
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


def allowed_cores() -> tuple[int, ...]:
    """Those that this process may use; none where that cannot be told."""
    process = psutil.Process()
    return tuple(sorted(process.cpu_affinity())) if hasattr(process, "cpu_affinity") else ()


def check_cores(threads: int, possible: tuple[int, ...]) -> None:
    """Refuse more threads than there are cores, where these are known.

    Raises:
        UsageError: there are.
    """
    if possible and threads > len(possible):
        raise UsageError(f"This process may use {len(possible)} cores; `cpu_threads={threads}` asks for more.")


@functools.cache  # once for the process, see above
def idlest_first(cores: tuple[int, ...]) -> tuple[int, ...]:
    """`cores` in the order of their load when this was first asked of them."""
    load = psutil.cpu_percent(interval=_LOOK_SECONDS, percpu=True)
    return tuple(sorted(cores, key=lambda core: load[core] if core < len(load) else 0.0))


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
