"""Pinning: a measurement keeps to the cores that are idlest when it starts.

Does not apply where the operating system has no affinity (macOS): the measurement then runs unpinned and says so.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import psutil

from kdna_deploy.errors import UsageError

_LOOK_SECONDS = 0.2


@contextlib.contextmanager
def pinned(threads: int) -> Iterator[tuple[int, ...]]:
    """Pin this process to `threads` cores for the block; yields their numbers, none where pinning is not possible.

    Threads that the block starts inherit the pinning, so sessions must be opened inside it.

    Raises:
        UsageError: there are fewer cores than `threads`.
    """
    process = psutil.Process()
    if not hasattr(process, "cpu_affinity"):
        yield ()
        return
    allowed = process.cpu_affinity()
    if threads > len(allowed):
        raise UsageError(f"This process may use {len(allowed)} cores; --cpu-threads {threads} asks for more.")
    load = psutil.cpu_percent(interval=_LOOK_SECONDS, percpu=True)
    idlest = sorted(allowed, key=lambda core: load[core] if core < len(load) else 0.0)[:threads]
    process.cpu_affinity(idlest)
    try:
        yield tuple(sorted(idlest))
    finally:
        process.cpu_affinity(allowed)
