"""The roofline with every file on it: latency over multiply-accumulates, and the lines below which no latency can lie.

    floor = 2 · MACs / peak          share = floor / latency

Both axes are logarithmic, so that a share of the peak is a line of its own, parallel to the floor. The peak is that of
float32: files of lower precision may lie below it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from kdna_deploy.figures.drawing import Drawing
from kdna_deploy.figures.labels import shortened, told
from kdna_deploy.figures.panels import is_narrow, quiet_grid, set_height
from kdna_deploy.figures.style import GREY, INK, VERMILLION

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

_SHARES = (1.0, 0.5, 0.25, 0.1)


@dataclass(frozen=True)
class Placed:
    """A measured file.

    Attributes:
        name: of its row.
        macs: multiply-accumulates of one inference.
        latency_ms: median of single inferences.
        baseline: whether others are compared with it.
    """

    name: str
    macs: int
    latency_ms: float
    baseline: bool = False


def roofline(files: Sequence[Placed], peak_gflops: float) -> Drawing | None:
    """Of measured files, on a core that does `peak_gflops` in float32; None where none multiplies anything."""
    found = tuple(one for one in files if one.macs)
    if not found:
        return None
    shares = {one.name: _share(one, peak_gflops) for one in found}
    best = max(shares, key=lambda name: shares[name])
    caption = (
        f"Latency over multiply-accumulates of {len(found)} files; no float32 file can lie below the full line, the "
        f"peak of {peak_gflops:.0f} GFLOP/s, and those of lower precision may. {best} has the largest share of it, "
        f"{shares[best]:.0%}." + (" Squares are baselines." if any(one.baseline for one in found) else "")
    )
    return Drawing("roofline", "Roofline", caption, _Picture(found, peak_gflops).draw, 0.62)


def _share(one: Placed, peak: float) -> float:
    return 2 * one.macs / peak / 1e6 / one.latency_ms


@dataclass(frozen=True)
class _Picture:
    files: tuple[Placed, ...]
    peak: float

    def draw(self, figure: Figure) -> None:
        if is_narrow(figure):
            set_height(figure, 2.9)
        axes = figure.subplots()
        axes.set_xscale("log")
        axes.set_yscale("log")
        macs = np.array([one.macs for one in self.files]) / 1e6
        floors = 2e6 * macs / self.peak / 1e6
        latencies = np.array([one.latency_ms for one in self.files])
        axes.set_xlim(macs.min() / 1.6, macs.max() * 2.4)
        axes.set_ylim(min(floors.min(), latencies.min()) / 1.5, latencies.max() * 2.0)
        self._lines(axes)
        self._points(axes, is_narrow(figure))
        axes.set_xlabel("multiply-accumulates of an inference, millions")
        axes.set_ylabel("latency, ms")
        for axis in (axes.xaxis, axes.yaxis):
            _plain_numbers(axis)
        quiet_grid(axes, "both")

    def _lines(self, axes: Axes) -> None:
        """Of equal shares of the peak."""
        ends = np.array(axes.get_xlim())
        for share in _SHARES:
            y = 2 * ends / self.peak / share
            axes.plot(ends, y, color=GREY if share < 1 else INK, linewidth=1 if share == 1 else 0.7, zorder=1)
            low, high = axes.get_ylim()
            x_top = min(ends[1], high * self.peak * share / 2)
            y_top = 2 * x_top / self.peak / share
            if y_top > low and x_top > ends[0]:
                said = "peak" if share == 1 else f"{share:.0%}"
                at_top = y_top >= high * 0.99
                axes.annotate(
                    said,
                    (x_top, y_top),
                    xytext=(-14, -1) if at_top else (-3, 3),
                    textcoords="offset points",
                    ha="right",
                    va="top" if at_top else "bottom",
                    fontsize=6,
                )

    def _points(self, axes: Axes, narrow: bool) -> None:
        for place, one in enumerate(sorted(self.files, key=lambda one: one.latency_ms)):
            marker, colour = ("s", GREY) if one.baseline else ("o", VERMILLION)
            (point,) = axes.plot([one.macs / 1e6], [one.latency_ms], marker, color=colour, markersize=5)
            told(point, f"{one.name}: {one.latency_ms:.4g} ms, {_share(one, self.peak):.1%} of the peak")
            label = axes.annotate(
                shortened(one.name, 16 if narrow else 28),
                (one.macs / 1e6, one.latency_ms),
                xytext=(6, 0) if place % 2 == 0 else (-6, 0),
                textcoords="offset points",
                ha="left" if place % 2 == 0 else "right",
                va="center",
                fontsize=6,
            )
            told(label, one.name)


def _plain_numbers(axis: Axis) -> None:
    """1 2 5 10 20, not powers of ten; more of them where they are within ten of each other."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    low, high = axis.get_view_interval()
    subs = (1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 7.0) if high < 10 * low else (1.0, 2.0, 5.0)
    axis.set_major_locator(LogLocator(subs=subs))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())
