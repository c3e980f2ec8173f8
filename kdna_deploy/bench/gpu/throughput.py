"""The throughput protocol: the blocks, rounds and random order of `latency.py`, with other turns.

    turn       = one inference that is not timed, then `RUNS` spans, then `RUNS` single inferences, each of them timed
    span       = as many back-to-back inferences as take `SPAN_MS`, at least `FEWEST`
    throughput = images / time, of spans
    latency    = time of a single inference on the idle device, from its start by the host until it is done

Images lie on the device; copies from and to the host are part of what is timed only on request. Device clocks rise
under load, so that a session is warmed up for `WARM_UP_S` at least, and until its times are steady.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

import numpy as np

from kdna_deploy.bench.cpu.latency import RUNS, WARM_UP_RUNS, LatencySettings, interleave
from kdna_deploy.bench.statistics import Samples, is_steady
from kdna_deploy.images.batch import Images

SPAN_MS = 50.0
FEWEST = 3
WARM_UP_S = 0.5
GPU_SETTINGS = LatencySettings(iterations=60, min_time=3.0)


class Timed(Protocol):
    """The part of a `DeviceSession` that is measured."""

    def load_on_device(self, images: Images) -> None: ...

    def time_on_device(self, inferences: int, host_copies: bool = False) -> float: ...


@dataclass(frozen=True)
class Throughputs:
    """Samples of each candidate, of spans and of single inferences. Not `complete` after an interruption."""

    spans: tuple[Samples, ...]
    singles: tuple[Samples, ...]
    complete: bool


def measure_throughput(
    openers: Sequence[Callable[[], Timed]],
    images: Sequence[Images],
    settings: LatencySettings = GPU_SETTINGS,
    host_copies: bool = False,
    on_progress: Callable[[float], None] = lambda _: None,
) -> Throughputs:
    """Measure the sessions that `openers` open, each on its own `images`. Ctrl-C ends the measurement early."""
    pairs = zip(openers, images, strict=True)
    runners = [partial(_opened, opener, batch, host_copies) for opener, batch in pairs]
    measured = interleave(runners, settings, on_progress)
    return Throughputs(
        spans=tuple(Samples(samples.values[:, :RUNS], samples.blocks) for samples in measured.samples),
        singles=tuple(Samples(samples.values[:, RUNS:], samples.blocks) for samples in measured.samples),
        complete=measured.complete,
    )


def images_per_second(spans: Samples, batch: int) -> float:
    """Throughput of samples in milliseconds for each inference of `batch` images."""
    return 1000 * batch / float(np.median(spans.values))


def span_of(milliseconds: float) -> int:
    """How many inferences of so many milliseconds make a span."""
    return max(FEWEST, math.ceil(SPAN_MS / milliseconds))


def _opened(opener: Callable[[], Timed], images: Images, host_copies: bool) -> _Runner:
    session = opener()
    session.load_on_device(images)
    return _Runner(session, host_copies)


@dataclass
class _Runner:
    """A session on the device; the length of its span is known once it is warm."""

    session: Timed
    host_copies: bool
    span: int = field(default=FEWEST)

    def warm_up(self) -> None:
        seen: list[float] = []
        begin = time.perf_counter()
        while (len(seen) < WARM_UP_RUNS and not is_steady(seen)) or time.perf_counter() - begin < WARM_UP_S:
            seen.append(self._time(self.span))
            self.span = span_of(float(np.median(seen[-5:])))

    def turn(self) -> list[float]:
        self._time(1)
        spans = [self._time(self.span) for _ in range(RUNS)]
        return spans + [self._time(1) for _ in range(RUNS)]

    def _time(self, inferences: int) -> float:
        return self.session.time_on_device(inferences, self.host_copies)
