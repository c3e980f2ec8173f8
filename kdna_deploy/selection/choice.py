"""The file to ship: of those that fit, the one with the least latency, size or memory.

    fits      size, drop, latency and private memory are within the limits; what is not told fits no limit
    least     what is measured to be least may be so by chance: every file that cannot be told from it is as good, and
              of these a portable one is taken before a prepared one, then the smallest, then the simplest
    none      the file that lies beyond its limits by the smallest share is the nearest

Nothing that fits is better than what is chosen, as far as measuring tells.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from kdna_deploy.selection.candidate import Candidate
from kdna_deploy.selection.front import Measured, Span, latency_span, memory_span
from kdna_deploy.selection.result import Figures, Limits, Minimize
from kdna_deploy.words import counted

# A drop is a difference of two shares of images.
_ROUNDING = 1e-9


@dataclass(frozen=True)
class Excess:
    """A limit that a file does not keep to.

    Attributes:
        what: the limit, by the parameter that sets it.
        said: by how much it is missed.
        share: of the limit, by which two are compared.
    """

    what: str
    said: str
    share: float


@dataclass(frozen=True)
class Choice:
    """The file to ship, None where none fits, and the reason."""

    candidate: Candidate | None
    reason: str


def excesses(figures: Figures, limits: Limits) -> tuple[Excess, ...]:
    """The limits that are not kept to."""
    pairs: tuple[tuple[str, float | None, float | None, Callable[[float], str]], ...] = (
        ("max_size", figures.bytes, limits.max_bytes, _megabytes),
        ("max_drop", figures.drop, limits.max_drop, _points),
        ("max_latency", figures.latency_ms, limits.max_latency_ms, _milliseconds),
        ("max_memory", figures.private_bytes, limits.max_memory, _megabytes),
    )
    found = []
    for what, value, limit, written in pairs:
        if limit is None:
            continue
        if value is None:
            why = "which was not measured" if figures.opening_ms is None else "which this system does not tell"
            found.append(Excess(what, why, math.inf))
        elif value > limit + _ROUNDING:
            share = (value - limit) / limit if limit else value
            found.append(Excess(what, f"by {written(value - limit)} beyond {written(limit)}", share))
    return tuple(found)


def choose(measured: Sequence[Measured], limits: Limits, minimize: Minimize) -> Choice:
    """Choose among what was measured."""
    fitting = [one for one in measured if not excesses(one[1], limits)]
    if not fitting:
        return Choice(None, _nearest(measured, limits))
    spans = [_span(figures, minimize) for _, figures in fitting]
    surely = min(span.high for span in spans)
    alike = [one for one, span in zip(fitting, spans, strict=True) if span.low <= surely]
    candidate, figures = min(alike, key=_preferred)
    told = _told(figures, minimize)
    portable = not candidate.prepared and any(one.prepared for one, _ in alike)
    if len(fitting) == 1:
        return Choice(candidate, f"{candidate.name} is the only file that fits: {told}")
    if len(alike) == 1:
        return Choice(candidate, f"{candidate.name} has the least {minimize} of {len(fitting)} files that fit: {told}")
    several = f"{len(alike)} files with the least {minimize}, which measuring does not tell apart"
    smallest = "smallest portable one" if portable else "smallest"
    return Choice(candidate, f"{candidate.name} is the {smallest} of {several}: {told}")


def _preferred(one: Measured) -> tuple[float | tuple[int, ...], ...]:
    """Of files that are as good: the portable, the smallest, the most exact, the simplest."""
    candidate, figures = one
    return (candidate.prepared, figures.bytes, figures.drop, candidate.simplicity)


def _span(figures: Figures, minimize: Minimize) -> Span:
    if minimize == "latency":
        return latency_span(figures)
    size = Span(figures.bytes, figures.bytes)
    return size if minimize == "size" else memory_span(figures) or Span(math.inf, math.inf)


def _told(figures: Figures, minimize: Minimize) -> str:
    """What it has the least of, and what that costs."""
    ratio = figures.ratio
    interval = f" ({ratio.low:.3f}–{ratio.high:.3f})" if ratio.low is not None and ratio.high is not None else ""
    latency = f"{ratio.median:.3f}{interval} of the baseline's latency"
    memory = "" if figures.private_bytes is None else f"{_megabytes(figures.private_bytes)} of private memory"
    told = {"size": _megabytes(figures.bytes), "latency": latency, "memory": memory}
    rest = [text for name, text in told.items() if name in ("size", "latency") and name != minimize]
    return ", ".join((told[minimize] or "memory is not told here", *rest, _lost(figures.drop)))


def _nearest(measured: Sequence[Measured], limits: Limits) -> str:
    if not measured:
        return "nothing was measured to its end"
    missed = [(candidate, excesses(figures, limits)) for candidate, figures in measured]
    candidate, beyond = min(missed, key=lambda one: (max(each.share for each in one[1]), one[0].simplicity))
    worst = max(beyond, key=lambda each: each.share)
    further = f", and {counted(len(beyond) - 1, 'other limit')}" if len(beyond) > 1 else ""
    return f"no file fits: the nearest, {candidate.name}, misses `{worst.what}`{further}, {worst.said}"


def _megabytes(size: float) -> str:
    return f"{size / 1e6:.2f} MB" if size >= 1e5 else f"{size / 1e3:.2f} kB"


def _lost(points: float) -> str:
    return f"{_points(abs(points))} of top-1 {'lost' if points >= 0 else 'gained'}"


def _points(points: float) -> str:
    return f"{points:.2f} points"


def _milliseconds(value: float) -> str:
    return f"{value:.3f} ms"
