"""Latency on the CPU: what is timed is a single inference, by the host's clock.

turn = one inference that is not timed, then `RUNS` that are
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial

from kdna_deploy.benchmark.cpu.affinity import hold
from kdna_deploy.benchmark.protocol import RUNS, WARM_UP_RUNS, Measured, Runner, Settings, interleave
from kdna_deploy.benchmark.statistics import is_steady
from kdna_deploy.images.batch import Images
from kdna_deploy.progress import SILENT, Listener
from kdna_deploy.runtimes.session import Session, runner


@dataclass(frozen=True)
class LatencyRunner:
    """A session with its images, which the calling thread runs on `cores`, wherever opening a session has left it."""

    session: Session
    images: Images
    cores: tuple[int, ...] = ()

    def warm_up(self) -> None:
        hold(self.cores)
        seen: list[float] = []
        while not is_steady(seen) and len(seen) < WARM_UP_RUNS:
            seen.append(self._time())

    def turn(self) -> list[float]:
        self._run(self.images)
        return [self._time() for _ in range(RUNS)]

    @cached_property
    def _run(self) -> Callable[[Images], object]:
        return runner(self.session)

    def _time(self) -> float:
        begin = time.perf_counter_ns()
        self._run(self.images)
        return (time.perf_counter_ns() - begin) / 1e6


def measure_latency(
    openers: Sequence[Callable[[], Session]],
    images: Sequence[Images],
    settings: Settings,
    listener: Listener = SILENT,
) -> Measured:
    """Measure the sessions that `openers` open, each on its own `images`."""
    pairs = zip(openers, images, strict=True)
    return interleave([partial(_opened, opener, batch) for opener, batch in pairs], settings, listener)


@contextlib.contextmanager
def _opened(opener: Callable[[], Session], images: Images) -> Iterator[Runner]:
    with opener() as session:
        yield LatencyRunner(session, images)
