"""Being told to end: Ctrl-C, SIGTERM (of schedulers and ``timeout``) and SIGHUP (of a closed terminal) are alike.

    signal → KeyboardInterrupt in the main thread → folders are removed, child processes ended → exit code 128 + signal

The library knows KeyboardInterrupt alone; handlers are installed by the command line, for as long as it runs. What was
ignored from the start (``nohup``) stays ignored. Does not apply to SIGKILL, which nobody can handle.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import FrameType

from kdna_deploy.cli.early import raising_again

INTERRUPTED = 128 + signal.SIGINT  # exit code after Ctrl-C
_ENDING = ("SIGTERM", "SIGHUP")  # not every platform has both


class Ended(KeyboardInterrupt):
    """Another signal than Ctrl-C's asks the process to end."""


@dataclass
class Received:
    """The first signal that asked the process to end, if any."""

    number: int | None = None

    @property
    def exit_code(self) -> int:
        return INTERRUPTED if self.number is None else 128 + self.number

    @property
    def sentence(self) -> str:
        return (
            "interrupted." if self.number in (None, signal.SIGINT) else f"ended by {signal.Signals(self.number).name}."
        )


@contextlib.contextmanager
def ending_signals() -> Iterator[Received]:
    """Let the signals that end a process interrupt it as Ctrl-C does."""
    received = Received()
    if threading.current_thread() is not threading.main_thread():  # handlers can be set there alone
        yield received
        return

    def end(number: int, frame: FrameType | None) -> None:
        if received.number is None:  # ``timeout`` sends it twice; the second one must not stop the cleaning up
            received.number = number
            raise Ended

    def interrupt(number: int, frame: FrameType | None) -> None:
        received.number = received.number or number  # what an import that is interrupted raises may be anything
        raise KeyboardInterrupt

    numbers = [getattr(signal, name) for name in _ENDING if hasattr(signal, name)]
    taken = [number for number in numbers if signal.getsignal(number) is signal.SIG_DFL]
    for number in taken:
        signal.signal(number, end)
    try:
        with raising_again(), _in_place_of_pythons(interrupt):
            yield received
    finally:
        for number in taken:
            signal.signal(number, signal.SIG_DFL)


@contextlib.contextmanager
def _in_place_of_pythons(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Let `handler` handle Ctrl-C, unless somebody else than Python does, or it is ignored."""
    taken = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if taken:
        signal.signal(signal.SIGINT, handler)
    try:
        yield
    finally:
        if taken:
            signal.signal(signal.SIGINT, signal.default_int_handler)
