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
