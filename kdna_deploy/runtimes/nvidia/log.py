"""What a library says while it works: one logger a process, one listener at a time.

The libraries keep the first logger that they meet and ignore any later one, so the logger lives as long as the process
and forwards to whoever listens at the moment. Without a listener messages are dropped.
"""

from __future__ import annotations

import contextlib
import functools
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from kdna_deploy.runtimes.nvidia.library import OpenedLibrary

# "[checkMacros.cpp::catchCudaError::250] Error Code 1: Cuda Runtime (In … at /_src/x.cpp:35 (…))": where in their code.
_PLACE = re.compile(
    r"^(?:\[[^\]]*\] |I\w+::\w+: |\w+\.cpp:\d+: )|Error Code \d+: |In \S+ at \S+:\d+ ?|\[\w+\.\w+:\d+(?:: \w+)?\] "
)
# "Myelin (…)": their compiler's name around its message.
_COMPILER = re.compile(r"^\w+ \((.*)\)$")


@dataclass(frozen=True)
class Notice:
    """A warning, and how often it was given."""

    text: str
    count: int


@dataclass
class Messages:
    """Messages by severity, collected while listening."""

    warnings: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    details: list[str] = field(default_factory=list)

    def add(self, severity: str, text: str) -> None:
        if severity == "WARNING":
            self.warnings.append(text)
        elif severity in ("ERROR", "INTERNAL_ERROR"):
            self.errors.append(text)
        elif "LayerType:" in text:  # the layers of the engine; the rest of the chatter is dropped
            self.details.append(text)

    def notices(self) -> tuple[Notice, ...]:
        """The warnings, each once, the most frequent first."""
        return summarise(self.warnings)

    def cause(self) -> str:
        """The first error without its place in the library's source, on one line."""
        return _readable(self.errors[0]) if self.errors else "it gives no reason"


def summarise(warnings: list[str]) -> tuple[Notice, ...]:
    """Warnings with the number of times each was given."""
    return tuple(Notice(text, count) for text, count in Counter(map(_readable, warnings)).most_common())


def _readable(text: str) -> str:
    line = (text.strip().splitlines() or ["nothing"])[0]
    previous = None
    while previous != line:
        previous, line = line, _PLACE.sub("", line).strip()
    return _COMPILER.sub(r"\1", line).rstrip(". ")[:300]


@contextlib.contextmanager
def listening(opened: OpenedLibrary) -> Iterator[tuple[Any, Messages]]:
    """Yield the logger to hand to the library, and the messages that come in while the block runs."""
    logger, messages = _logger(opened.trt), Messages()
    previous, logger.listener = logger.listener, messages
    try:
        yield logger, messages
    finally:
        logger.listener = previous


@functools.cache
def _logger(trt: Any) -> Any:
    class Logger(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.listener: Messages | None = None

        def log(self, severity: Any, message: str) -> None:
            if self.listener is not None:
                self.listener.add(severity.name, message)

    return Logger()
