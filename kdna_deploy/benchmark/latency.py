"""The latency protocol: all candidates interleaved round by round in one process, on pinned cores.

A round runs every candidate once, in an order that is reversed from round to round, so that drift of the machine
falls on all alike. Rounds go on until both the iterations and the minimum time are reached. Before them every
candidate warms up until its running median is steady.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from kdna_deploy.benchmark.statistics import Samples, is_steady
from kdna_deploy.runtimes.session import Images, Session

_WARM_UP_ROUNDS = 50


@dataclass(frozen=True)
class LatencySettings:
    """How long to measure: at least `iterations` rounds and `min_time` seconds."""

    iterations: int = 100
    min_time: float = 3.0


def measure_latency(
    sessions: Sequence[Session],
    images: Sequence[Images],
    settings: LatencySettings,
    on_progress: Callable[[float], None] = lambda _: None,
) -> list[Samples]:
    """Latency samples in milliseconds, one array a session, sample i of each from round i.

    `images` holds the input of each session. `on_progress` is told the fraction done.
    """
    for session, batch in zip(sessions, images, strict=True):
        _warm_up(session, batch)
    samples: list[list[float]] = [[] for _ in sessions]
    order = list(range(len(sessions)))
    start = time.perf_counter()
    while (done := _fraction(samples[0], start, settings)) < 1.0:
        on_progress(done)
        for index in order:
            samples[index].append(_time(sessions[index], images[index]))
        order.reverse()
    on_progress(1.0)
    return [np.asarray(values) for values in samples]


def _fraction(samples: list[float], start: float, settings: LatencySettings) -> float:
    elapsed = (time.perf_counter() - start) / settings.min_time if settings.min_time > 0 else 1.0
    return min(len(samples) / settings.iterations, elapsed, 1.0)


def _warm_up(session: Session, images: Images) -> None:
    seen: list[float] = []
    while not is_steady(seen) and len(seen) < _WARM_UP_ROUNDS:
        seen.append(_time(session, images))


def _time(session: Session, images: Images) -> float:
    begin = time.perf_counter_ns()
    session.run(images)
    return (time.perf_counter_ns() - begin) / 1e6
