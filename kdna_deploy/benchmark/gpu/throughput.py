"""Throughput on a GPU: what is timed are spans of inferences on images that lie on the device.

    turn       = one inference that is not timed, then `RUNS` spans, then `RUNS` single inferences, each of them timed
    span       = as many back-to-back inferences as take `SPAN_MS`, at least `FEWEST`
    throughput = images / time, of spans
    latency    = time of a single inference on the idle device, from its start by the host until it is done

Copies from and to the host are part of what is timed only on request. Device clocks rise under load, so that a session
is warmed up for `WARM_UP_S` at least, and until its times are steady.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from kdna_deploy.benchmark.protocol import RUNS, WARM_UP_RUNS
from kdna_deploy.benchmark.statistics import is_steady

SPAN_MS = 50.0
FEWEST = 3
WARM_UP_S = 0.5


class Timed(Protocol):
    """The part of a `DeviceSession` that is measured."""

    def time_on_device(self, inferences: int, host_copies: bool = False) -> float: ...


@dataclass
class SpanRunner:
    """A session with images on the device; the length of its span is known once it is warm."""

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


def span_of(milliseconds: float) -> int:
    """How many inferences of so many milliseconds make a span."""
    return max(FEWEST, math.ceil(SPAN_MS / milliseconds))
