"""Calls into a library that can be watched, and interrupted.

While the builder works no Python code runs in the thread that called it, so Ctrl-C would wait until it is done; the
parser, which calls the logger all the time, would even swallow it. Both are called in a second thread. The first one
passes progress on, and when it is interrupted, there or by Ctrl-C, the progress monitor tells the builder to stop at
its next step; the parser is done within a second.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

from kdna_deploy.progress import Listener

T = TypeVar("T")

_LOOK_EVERY_S = 0.1


@dataclass(frozen=True)
class Progress:
    """A phase of the build, and how many of its steps are done."""

    phase: str
    done: int
    steps: int


def watched(trt: Any, call: Callable[[Any], T], listener: Listener) -> T:
    """The result of `call`, made with a progress monitor; `listener` is told in this thread, a phase being a step."""
    steps: queue.SimpleQueue[Progress | None] = queue.SimpleQueue()
    stop = threading.Event()

    def ended(_: Future[T]) -> None:
        steps.put(None)

    with ThreadPoolExecutor(1) as pool:
        result = pool.submit(call, _monitor(trt, steps.put, stop))
        result.add_done_callback(ended)
        try:
            tell = _Told(listener)
            while (progress := _next(steps)) is not None:
                tell(progress)
        except BaseException:
            stop.set()
            raise
    return result.result()


class _Told:
    """What `listener` was told last: phases lie in each other, and come back to where they were."""

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self._phase = ""
        self._done = 0

    def __call__(self, progress: Progress) -> None:
        if progress.phase != self._phase or progress.done < self._done:
            self._listener.step(progress.phase)
            self._listener.expect(progress.steps, "steps")
            self._phase, self._done = progress.phase, 0
        self._listener.advance(progress.done - self._done)
        self._done = progress.done


def _next(steps: queue.SimpleQueue[Progress | None]) -> Progress | None:
    # A wait without a limit cannot be interrupted on every platform.
    while True:
        try:
            return steps.get(timeout=_LOOK_EVERY_S)
        except queue.Empty:
            continue


def _monitor(trt: Any, report: Callable[[Progress], None], stop: threading.Event) -> Any:
    """A progress monitor that reports each step, and ends the build once `stop` is set."""

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self._steps: dict[str, int] = {}

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            self._steps[phase_name] = num_steps
            report(Progress(phase_name, 0, num_steps))

        def step_complete(self, phase_name: str, step: int) -> bool:
            report(Progress(phase_name, step + 1, self._steps.get(phase_name, step + 1)))
            return not stop.is_set()

        def phase_finish(self, phase_name: str) -> None:
            steps = self._steps.pop(phase_name, 0)
            report(Progress(phase_name, steps, steps))

    return Monitor()
