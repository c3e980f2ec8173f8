"""Where the time goes: what each kind of node takes in each file, and each node's time in the order of execution.

Files stand beside each other with one scale, the baseline first; the slowest nodes have their names.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kdna_deploy.benchmark.cpu.profile import GROUPS, Layer, Profile
from kdna_deploy.figures.drawing import Drawing
from kdna_deploy.figures.labels import name_ticks, shortened, told
from kdna_deploy.figures.panels import is_narrow, quiet_grid, set_height
from kdna_deploy.figures.style import BLUE, GREEN, GREY, PURPLE, VERMILLION

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLOURS = dict(zip(GROUPS, (BLUE, VERMILLION, GREEN, PURPLE, GREY), strict=True))
_HATCHES = dict(zip(GROUPS, ("", "////", "....", "xxxx", ""), strict=True))
_NAMED = 12  # of the slowest nodes
_LABEL_INCHES = 0.1
_NODE_INCHES, _FEWEST_INCHES, _MOST_INCHES = 0.075, 1.6, 7.0
_MOST_FILES = 4  # side by side


def layer_times(profiles: Sequence[Profile]) -> Drawing | None:
    """Of profiled files, the baseline's first; None where none was profiled, or nothing took any time."""
    found = tuple(one for one in profiles if any(one.by_group.values()))
    if not found:
        return None
    shares = "; ".join(_share(one) for one in found)
    caption = f"Where the time of an inference goes, node by node from top to bottom. {shares}."
    if len(found) > _MOST_FILES:
        caption += f" Node by node the first {_MOST_FILES} files are drawn."
    return Drawing("layer-times", "Where the time goes", caption, _Picture(found).draw, 1.0)


def _share(profile: Profile) -> str:
    group, most = max(profile.by_group.items(), key=lambda entry: entry[1])
    return f"{profile.name}: {most / sum(profile.by_group.values()):.0%} {group}"


@dataclass(frozen=True)
class _Picture:
    profiles: tuple[Profile, ...]

    def draw(self, figure: Figure) -> None:
        shown = self.profiles[:_MOST_FILES]
        nodes = max(len(one.layers) for one in shown)
        lower = min(max(_NODE_INCHES * nodes, _FEWEST_INCHES), _MOST_INCHES)
        upper = 0.35 + 0.26 * len(self.profiles)
        narrow = is_narrow(figure)
        rows = len(shown) if narrow else 1
        columns = 1 if narrow else len(shown)
        set_height(figure, upper + rows * (lower + 0.2) + 0.75)
        grid = figure.add_gridspec(1 + rows, columns, height_ratios=[upper, *[lower] * rows])
        self._draw_groups(figure.add_subplot(grid[0, :]), narrow)
        first: Axes | None = None
        for place, profile in enumerate(shown):
            cell = grid[1 + place, 0] if narrow else grid[1, place]
            axes = figure.add_subplot(cell, sharex=first)
            first = first or axes
            _draw_nodes(axes, profile, 0.85 * lower, 20 if narrow else 30)
        self._legend(figure, narrow)

    def _draw_groups(self, axes: Axes, narrow: bool) -> None:
        for place, profile in enumerate(self.profiles):
            start = 0.0
            for group, microseconds in profile.by_group.items():
                bar = axes.barh(place, microseconds / 1000, 0.6, left=start, **_look(group))[0]
                told(bar, f"{profile.name}, {group}: {microseconds:.0f} µs")
                start += microseconds / 1000
        names = [one.name for one in self.profiles]
        name_ticks(axes.yaxis, range(len(names)), names, 16 if narrow else 30)
        axes.set_ylim(len(names) - 0.5, -0.5)
        axes.tick_params(axis="y", length=0)
        axes.set_xlabel("ms of an inference")
        quiet_grid(axes, "x")

    def _legend(self, figure: Figure, narrow: bool) -> None:
        from matplotlib.patches import Patch

        there = [group for group in GROUPS if any(one.by_group[group] for one in self.profiles)]
        entries = [Patch(label=group, **_look(group)) for group in there]
        figure.legend(handles=entries, loc="outside upper center", ncols=2 if narrow else len(entries))


def _look(group: str) -> dict[str, Any]:
    colour, hatch = _COLOURS[group], _HATCHES[group]
    return {"facecolor": "none" if hatch else colour, "edgecolor": colour, "hatch": hatch, "linewidth": 0.6}


def _named(profile: Profile, inches: float) -> set[int]:
    """The slowest nodes, none so near to another that its name would lie on the other's, nodes being `inches` high."""
    apart = _LABEL_INCHES / inches
    found: list[int] = []
    for place in sorted(range(len(profile.layers)), key=lambda i: -profile.layers[i].microseconds):
        if len(found) < _NAMED and all(abs(place - other) >= apart for other in found):
            found.append(place)
    return set(found)


def _draw_nodes(axes: Axes, profile: Profile, inches: float, longest: int) -> None:
    named = _named(profile, inches / len(profile.layers))
    for place, layer in enumerate(profile.layers):
        bar = axes.barh(place, layer.microseconds, 0.8, **_look(layer.group))[0]
        told(bar, f"{layer.name}, {layer.operator}: {layer.microseconds:.0f} µs")
        if place in named:
            label = axes.annotate(
                shortened(layer.name, longest),
                (layer.microseconds, place),
                xytext=(2, 0),
                textcoords="offset points",
                va="center",
                fontsize=5,
            )
            told(label, _long(layer))
    axes.set_ylim(len(profile.layers) - 0.5, -0.5)
    axes.set_yticks([])
    axes.margins(x=0.45)
    axes.set_xlim(left=0)
    axes.set_xlabel("µs of a node")
    told(axes.set_title(shortened(profile.name, longest + 10)), profile.name)
    quiet_grid(axes, "x")


def _long(layer: Layer) -> str:
    return f"{layer.name}, {layer.operator}, {'×'.join(map(str, layer.shape))}"
