"""Accuracy over latency: a disc a file, its area the file's size, the Pareto front, and the baseline beside it.

The front is that of the picture: the files that no other beats in both accuracy and latency.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kdna_deploy.figures.drawing import Drawing
from kdna_deploy.figures.labels import shortened, told
from kdna_deploy.figures.panels import is_narrow, quiet_grid, set_height, size_text
from kdna_deploy.figures.style import BLUE, INK, PLAIN, VERMILLION
from kdna_deploy.words import counted

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_ABOVE_ALL = 0.1  # of the height, above 100 %
_LARGEST, _LARGEST_NARROW = 400.0, 200.0  # square points, of the largest file
_LONGEST_LABEL, _LONGEST_NARROW = 36, 22
_LABEL_WIDTH, _LABEL_HEIGHT = 0.4, 0.06  # of the axes: nearer than that, a name would lie on another


@dataclass(frozen=True)
class Point:
    """A file that was measured.

    Attributes:
        name: of the file or candidate.
        latency_ms: median.
        top1: per cent; None where nothing tells it, as of an untrained backbone.
        size: in bytes.
        recommended: whether it is the one to ship.
    """

    name: str
    latency_ms: float
    top1: float | None
    size: int
    recommended: bool = False


def front(points: Sequence[Point], baseline: Point | None = None) -> Drawing:
    """Of measured files; `baseline` is what they are compared with, a line where its accuracy is not known."""
    judged = [point for point in points if point.top1 is not None]
    best = pareto(judged)
    chosen = next((point for point in judged if point.recommended), None)
    said = f" The recommended one is {chosen.name}." if chosen else ""
    beside = f" The baseline, {baseline.name}, takes {baseline.latency_ms:.3g} ms." if baseline else ""
    files = counted(len(judged), "file")
    caption = (
        f"Top-1 accuracy over latency of {files}; the area is a file's size. On the line is what no other file beats "
        f"in both, {counted(len(best), 'file')}.{said}{beside}"
    )
    picture = _Picture(tuple(judged), tuple(best), baseline)
    return Drawing("accuracy-over-latency", "Accuracy over latency", caption, picture.draw, 0.62)


def pareto(points: Sequence[Point]) -> list[Point]:
    """Those that no other beats in accuracy and latency, the fastest first."""
    found: list[Point] = []
    for point in sorted(points, key=lambda one: (one.latency_ms, -(one.top1 or 0.0))):
        if not found or (point.top1 or 0.0) > (found[-1].top1 or 0.0):
            found.append(point)
    return found


@dataclass(frozen=True)
class _Picture:
    points: tuple[Point, ...]
    best: tuple[Point, ...]
    baseline: Point | None

    @property
    def largest(self) -> int:
        known = (self.baseline,) if self.baseline else ()
        return max((point.size for point in (*self.points, *known)), default=1) or 1

    def area(self, narrow: bool) -> float:
        return _LARGEST_NARROW if narrow else _LARGEST

    def draw(self, figure: Figure) -> None:
        narrow = is_narrow(figure)
        if narrow:
            set_height(figure, 3.1)
        axes = figure.subplots()
        quiet_grid(axes, "both")
        self._front(axes)
        for point in sorted(self.points, key=lambda one: (one.recommended, -one.size)):  # what is behind is larger
            colour, filled = (VERMILLION, True) if point.recommended else (BLUE, point in self.best)
            self._disc(axes, point, colour, self.area(narrow), filled)
        self._plain(axes, self.area(narrow))
        axes.margins(0.08, 0.16)
        self._heights(axes)
        axes.set_xlabel("latency, ms")
        axes.set_ylabel("top-1, %")
        self._names(axes, narrow)
        self._legend(figure, narrow)

    def _heights(self, axes: Axes) -> None:
        """A point of accuracy at least, and no height that is none."""
        known = [point.top1 for point in (*self.points, self.baseline) if point and point.top1 is not None]
        if not known:
            return
        low, high = min(known), max(known)
        room = 0.25 * max(high - low, 1.0)
        height = high - low + 2 * room
        top = min(high + room, 100.0 + _ABOVE_ALL * height)  # discs of 100 % and their names are whole
        axes.set_ylim(low - room, top)
        axes.set_yticks([tick for tick in axes.get_yticks() if low - room <= tick <= min(top, 100.0)])

    def _front(self, axes: Axes) -> None:
        steps = [(point.latency_ms, point.top1 or 0.0) for point in self.best]
        if steps:
            axes.step(*zip(*steps, strict=True), where="post", color=BLUE, linewidth=1, zorder=1)

    def _disc(self, axes: Axes, point: Point, colour: str, area: float, filled: bool = True, marker: str = "o") -> None:
        width = (area * point.size / self.largest) ** 0.5
        (disc,) = axes.plot(
            [point.latency_ms],
            [point.top1 or 0.0],
            marker,
            markersize=max(width, 2.5),
            color=colour,
            markerfacecolor=colour if filled else "none",
            alpha=0.75 if filled else 1.0,
            markeredgewidth=1,
        )
        told(disc, f"{point.name}: {point.latency_ms:.4g} ms, {point.top1:.2f} %, {size_text(point.size)}")

    def _plain(self, axes: Axes, area: float) -> None:
        if self.baseline is None:
            return
        if self.baseline.top1 is not None:
            self._disc(axes, self.baseline, PLAIN, area, marker="s")
            return
        line = axes.axvline(self.baseline.latency_ms, color=PLAIN, linestyle=(0, (4, 2)), linewidth=1)
        told(line, f"{self.baseline.name}: {self.baseline.latency_ms:.4g} ms, {size_text(self.baseline.size)}")

    def _names(self, axes: Axes, narrow: bool) -> None:
        """Above and left of the discs on the front, where no disc can be, and of the recommended one.

        The others say theirs when they are pointed at, and so do those whose names would lie on another.
        """
        named = [*(one for one in self.points if one.recommended), *(one for one in self.best if not one.recommended)]
        axes.autoscale_view()
        low, high = axes.get_xlim()
        axes.set_xlim(low - (0.65 if narrow else 0.25) * (high - low), high)  # room for the name of the fastest
        axes.set_xticks([tick for tick in axes.get_xticks() if 0 <= tick <= high])
        to_axes = axes.transData + axes.transAxes.inverted()
        taken: list[tuple[float, float]] = []
        for point in named:
            x, y = to_axes.transform((point.latency_ms, point.top1 or 0.0))
            if any(abs(x - other) < _LABEL_WIDTH and abs(y - height) < _LABEL_HEIGHT for other, height in taken):
                continue
            taken.append((x, y))
            label = axes.annotate(
                shortened(point.name, _LONGEST_NARROW if narrow else _LONGEST_LABEL),
                (point.latency_ms, point.top1 or 0.0),
                textcoords="offset points",
                va="bottom",
                fontsize=6,
                **self._beside(point, narrow),
            )
            told(label, point.name)

    def _beside(self, point: Point, narrow: bool) -> dict[str, Any]:
        """Where a name stands: above all discs, with a line to its own, where that is not on the front."""
        area = self.area(narrow)
        if point not in self.best:
            line = {"arrowstyle": "-", "color": INK, "linewidth": 0.5, "shrinkB": 2}
            return {"xytext": (0, area**0.5 + 10), "ha": "center", "arrowprops": line}
        radius = (area * point.size / self.largest) ** 0.5 / 2
        return {"xytext": (-0.7 * radius - 1, 0.7 * radius + 1), "ha": "right"}

    def _legend(self, figure: Figure, narrow: bool) -> None:
        from matplotlib.lines import Line2D

        def disc(label: str, colour: str, size: float, filled: bool = True, marker: str = "o") -> Line2D:
            face = colour if filled else "none"
            width = (self.area(narrow) * size / self.largest) ** 0.5
            return Line2D(
                [], [], linestyle="", marker=marker, color=colour, markerfacecolor=face, markersize=width, label=label
            )

        unit = self.largest * 36 / self.area(narrow)
        entries = [disc("on the front", BLUE, unit)]
        if len(self.best) < len(self.points):
            entries.append(disc("others", BLUE, unit, filled=False))
        if any(point.recommended for point in self.points):
            entries.append(disc("recommended", VERMILLION, unit))
        if self.baseline is not None and self.baseline.top1 is not None:
            entries.append(disc("baseline", PLAIN, unit, marker="s"))
        elif self.baseline is not None:
            entries.append(Line2D([], [], color=PLAIN, linestyle=(0, (4, 2)), label="baseline's latency"))
        entries += [
            disc(size_text(self.largest * part), INK, self.largest * part, filled=False) for part in (0.25, 1.0)
        ]
        columns = 2 if narrow else len(entries)
        figure.legend(
            handles=entries,
            loc="outside upper center",
            ncols=columns,
            borderpad=0.9,
            handletextpad=0.8,
            columnspacing=1.5,
        )
