"""How numbers are written for people."""

from __future__ import annotations


def millions(count: int) -> str:
    """``9.24 M``; small counts in thousands."""
    return f"{count / 1e6:.2f} M" if count >= 1e5 else f"{count / 1e3:.1f} k"


def megabytes(size: int) -> str:
    """Decimal megabytes, ``72.35 MB``."""
    return f"{size / 1e6:.2f} MB"


def small(value: float) -> str:
    """A difference, in scientific notation."""
    return "0" if value == 0 else f"{value:.1e}"


def milliseconds(value: float) -> str:
    """Four significant digits, as far as a latency deserves them."""
    if value >= 1000:
        return f"{value:.0f}"
    return f"{value:.1f}" if value >= 100 else f"{value:.2f}" if value >= 10 else f"{value:.3f}"


def between(low: float | None, high: float | None, scale: float = 1.0, digits: int = 3) -> str:
    """An interval, times `scale`; a dash where it is not known."""
    if low is None or high is None:
        return "–"
    return f"{scale * low:.{digits}f}–{scale * high:.{digits}f}"
