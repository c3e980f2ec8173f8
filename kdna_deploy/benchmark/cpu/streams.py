"""Throughput of a CPU with several inferences under way at once, as a server runs it.

    stream     = a thread of this process that runs one inference after another, each on one thread
    turn       = one inference of each stream that is not timed, then `RUNS` spans
    span       = inferences that the streams share out among them, as many as take `SPAN_MS`, and as many for each
    throughput = batch · inferences of a span / its time         median over the spans

A stream of ONNX Runtime is a session of its own, which holds the weights once more; OpenVINO is asked for throughput,
with one model that shares its streams out itself. Streams run on as many cores as there are, where the machine has
these, and the operating system places them. Candidates and baseline take turns as they do for latency; each number of
streams and each batch is measured by itself.

Does not apply to PyTorch, whose streams would wait for Python's lock. It does not tell the latency of a request, which
waits for its batch and for those before it, nor what a process for each stream would reach.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np

from kdna_deploy.benchmark.cpu.affinity import hold, pinned
from kdna_deploy.benchmark.device import BenchOptions, Candidate, Group
from kdna_deploy.benchmark.plan import images_for
from kdna_deploy.benchmark.protocol import RUNS, WARM_UP_RUNS, Runner, Settings, interleave
from kdna_deploy.benchmark.statistics import (
    Estimate,
    Samples,
    images_per_second,
    is_steady,
    kept,
    noise_floor,
    paired_ratio,
)
from kdna_deploy.images.batch import Images
from kdna_deploy.progress import SILENT, Listener
from kdna_deploy.runtimes.session import Session, runner
from kdna_deploy.runtimes.table import RUNTIMES, Cores, OnCpu
from kdna_deploy.words import counted

SPAN_MS = 50.0
_BATCH = 8
_SPANS = 0.3  # of the iterations of a latency: a span is many inferences


@dataclass(frozen=True)
class Throughput:
    """Of a candidate with so many streams and images in an inference.

    Attributes:
        name: of its row.
        images_per_second: median over the spans.
        kept: the share of the baseline's; None for a baseline, or where there is none.
        floor: the noise floor of the measurement, relative; None after too few rounds.
        options: of the runtime, as they were set.
        samples: milliseconds for each inference of a span.
    """

    name: str
    streams: int
    batch: int
    images_per_second: float
    kept: Estimate | None
    floor: float | None
    options: dict[str, str | int]
    samples: Samples

    @property
    def record(self) -> dict[str, Any]:
        """As it is stored, in types that JSON has."""
        return {
            "name": self.name,
            "streams": self.streams,
            "batch": self.batch,
            "throughput": self.images_per_second,
            "kept": asdict(self.kept) if self.kept else None,
            "noise_floor": self.floor,
            "runtime_options": self.options,
            "samples_ms": self.samples.values.round(6).tolist(),
            "blocks": self.samples.blocks.tolist(),
        }


@dataclass
class StreamsRunner:
    """As many `runs` as streams, each of which runs an inference of `images`; on `cores`, wherever that leaves them."""

    runs: Sequence[Callable[[Images], object]]
    images: Images
    pool: ThreadPoolExecutor
    cores: Cores = ()
    span: int = 0

    def warm_up(self) -> None:
        hold(self.cores)
        self.span = len(self.runs)
        seen: list[float] = []
        while not is_steady(seen) and len(seen) < WARM_UP_RUNS:
            seen.append(self._time(self.span))
            self.span = span_of(float(np.median(seen[-5:])), len(self.runs))

    def turn(self) -> list[float]:
        self._time(len(self.runs))
        return [self._time(self.span) for _ in range(RUNS)]

    def _time(self, inferences: int) -> float:
        """Milliseconds for each of so many inferences."""
        numbers = itertools.count()
        begin = time.perf_counter()
        for done in [self.pool.submit(self._work, run, numbers, inferences) for run in self.runs]:
            done.result()
        return 1000 * (time.perf_counter() - begin) / inferences

    def _work(self, run: Callable[[Images], object], numbers: Iterator[int], inferences: int) -> None:
        hold(self.cores)
        while next(numbers) < inferences:
            run(self.images)


def span_of(milliseconds: float, streams: int) -> int:
    """How many inferences of so many milliseconds each make a span, as many for each stream."""
    return streams * max(1, math.ceil(SPAN_MS / (milliseconds * streams)))


def measure_streams(
    groups: Sequence[Group], streams: int, options: BenchOptions, allowed: Cores, listener: Listener = SILENT
) -> Iterator[tuple[Throughput, ...]]:
    """Throughputs for one and for `streams` inferences at once and for every batch, group by group.

    `allowed` are the cores that the process may use when it is not pinned.

    Raises:
        KeyboardInterrupt: the user interrupted, after what was measured until then.
    """
    with pinned(min(streams, cores_of(allowed)), allowed) as cores:
        for number, batch in itertools.product(sorted({1, streams}), _batches(options.batch)):
            for group in groups:
                if group.available:
                    listener.step(f"{counted(number, 'stream')}, batch {batch}: {group.available[-1].name}")
                    found, complete = _measured(group, number, batch, options, cores, listener)
                    yield found
                    if not complete:
                        raise KeyboardInterrupt


def limits(groups: Sequence[Group], streams: int, options: BenchOptions, allowed: Cores) -> Iterator[str]:
    """Sentences on more streams than cores, candidates that streams do not apply to, and those of a fixed batch."""
    if streams > cores_of(allowed):
        yield f"{streams} streams share {cores_of(allowed)} cores: more of them than cores add no throughput"
    every = [one for group in groups for one in group.available]
    without = {one.name: RUNTIMES[one.variant.runtime] for one in every if not RUNTIMES[one.variant.runtime].streams}
    for title in dict.fromkeys(runtime.title for runtime in without.values()):
        names = ", ".join(name for name, runtime in without.items() if runtime.title == title)
        yield f"throughput is not measured in {title}, whose inferences are not run side by side here: {names}"
    for batch in _batches(options.batch):
        fixed = [one.name for one in every if one.name not in without and not _applies(one, batch)]
        if fixed:
            yield f"throughput of batch {batch} is not measured of files that take another alone: {', '.join(fixed)}"


def _measured(
    group: Group, streams: int, batch: int, options: BenchOptions, cores: Cores, listener: Listener
) -> tuple[tuple[Throughput, ...], bool]:
    """The throughputs of a group, of those candidates that streams apply to; and whether it was not interrupted."""
    members = [one for one in group.available if _applies(one, batch)]
    if not members:
        return (), True
    ran: dict[str, dict[str, str | int]] = {}
    opened = [partial(_opened, one, streams, batch, cores, ran) for one in (*members, members[0])]
    settings = Settings(max(RUNS, round(_SPANS * options.settings.iterations)), options.settings.min_time)
    measured = interleave(opened, settings, listener)
    first, *_, again = measured.samples
    if not first.rounds:
        return (), measured.complete
    floor = noise_floor(paired_ratio(again, first, statistic=options.statistic))
    compared = group.saved is None and members[0] is group.candidates[0]
    found = []
    for one, samples in zip(members, measured.samples, strict=False):
        share = None
        if compared and one is not members[0]:
            share = kept(paired_ratio(samples, first, floor or 0.0, options.statistic))
        rate = images_per_second(samples, batch)
        found.append(Throughput(one.name, streams, batch, rate, share, floor, ran[one.name], samples))
    return tuple(found), measured.complete


def _batches(asked: int) -> tuple[int, ...]:
    """Single images, and as many as were `asked` for, or 8."""
    return (1, asked if asked > 1 else _BATCH)


def cores_of(allowed: Cores) -> int:
    """How many cores the process may use, `allowed` being empty where that cannot be told."""
    return len(allowed) or os.cpu_count() or 1


def _applies(candidate: Candidate, batch: int) -> bool:
    return bool(RUNTIMES[candidate.variant.runtime].streams) and candidate.subject.batch in (None, batch)


@contextlib.contextmanager
def _opened(
    candidate: Candidate, streams: int, batch: int, cores: Cores, ran: dict[str, dict[str, str | int]]
) -> Iterator[Runner]:
    """Streams of a candidate; what was set for them is noted in `ran`."""
    assert candidate.source is not None
    entry = RUNTIMES[candidate.variant.runtime]
    with contextlib.ExitStack() as opened:
        sessions: list[Session]
        if entry.streams == "own":
            opener = entry.prepare(candidate.source, OnCpu(streams, streams, batch))
            sessions = [opened.enter_context(opener())] * streams
        else:
            opener = entry.prepare(candidate.source, OnCpu(batch=batch))
            sessions = [opened.enter_context(opener()) for _ in range(streams)]
        images = images_for(candidate.subject.image_shape, batch, sessions[0].interface)
        ran[candidate.name] = dict(sessions[0].options)
        pool = opened.enter_context(ThreadPoolExecutor(streams, "stream"))
        yield StreamsRunner([runner(session) for session in sessions], images, pool, cores)
