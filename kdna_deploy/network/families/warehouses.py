"""Which cells a layer of KernelWarehouse is assembled from: warehouses, grids and first cells, derived.

    cell [co, ci, 1, 1]  gcd of the layers' c' × gcd of their c/g, times the ratios, at least 1
    m                    k·k · c'/co · (c/g)/ci, the mixtures of a layer: its kernel is cut into so many cells
    cells                max(int(Σ m · ratio), 1) of the warehouse

No checkpoint tells the layers of a warehouse. They are those of a stage, and depthwise, pointwise and other kernels are
apart in MobileNetV2 and ConvNeXt. A layer that changes the width is of the stage in front of it: in ResNets the first
block's first convolution and its projection, in MobileNetV2 the whole block. Warehouses are numbered as they are met.

Source: Li and Yao, KernelWarehouse (ICML 2024), github.com/OSVAI/KernelWarehouse.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from kdna_deploy.errors import ArchitectureError
from kdna_deploy.network.backbone import Backbone
from kdna_deploy.network.families.mobilenet import GROUPS, MobileNetV2Spec
from kdna_deploy.network.families.resnet import ResNetSpec
from kdna_deploy.network.method import Place

CLASSIFIER = "classifier"


@dataclass(frozen=True)
class Ratios:
    """Cells for each mixture, and a cell's output and input channels as a part of the greatest common divisors."""

    cells: float = 1
    c_out: float = 1
    c_in: float = 1


@dataclass(frozen=True)
class Share:
    """What a layer has of its warehouse.

    Attributes:
        grid: cells along the kernel's positions (row by row), its output and its input channels; a mixture each.
        start: number of the first cell that the layer brings, of `local` cells.
    """

    place: Place
    grid: tuple[int, int, int]
    start: int
    local: int

    @property
    def mixtures(self) -> int:
        return math.prod(self.grid)


@dataclass(frozen=True)
class Warehouse:
    """`cells` of [c', c, 1, 1] ([c', c, 1] for the classifier), and the layers that read them, in their order."""

    name: str
    cells: int
    cell: tuple[int, int]
    shares: tuple[Share, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.cells, *self.cell, *((1,) if self.name == CLASSIFIER else (1, 1)))


def warehouses(
    places: Sequence[Place], backbone: Backbone, ratios: Sequence[tuple[str, Ratios]], apart: bool
) -> tuple[Warehouse, ...]:
    """The warehouses of those `places` of a plain network whose warehouse's name matches one of the `ratios`' patterns.

    `apart`: the two pointwise convolutions of a block are of different warehouses.

    Raises:
        ArchitectureError: cells of these ratios do not fill the kernels of these widths.
    """
    grouped: dict[str, list[Place]] = {}
    for place in places:
        name = warehouse_name(place, backbone)
        name = name if name is None or apart else re.sub(r"pwconv\d", "pwconv", name)
        if name is not None and any(re.fullmatch(pattern, name) for pattern, _ in ratios):
            grouped.setdefault(name, []).append(place)
    return tuple(
        _warehouse(name, layers, next(ratio for pattern, ratio in ratios if re.fullmatch(pattern, name)))
        for name, layers in grouped.items()
    )


def _warehouse(name: str, layers: Sequence[Place], ratios: Ratios) -> Warehouse:
    c_out = max(int(math.gcd(*(layer.c_out for layer in layers)) * ratios.c_out), 1)
    c_in = max(int(math.gcd(*(layer.c_in // layer.groups for layer in layers)) * ratios.c_in), 1)
    shares: list[Share] = []
    start = 0
    for layer in layers:
        grid = (math.prod(layer.kernel), layer.c_out // c_out, layer.c_in // layer.groups // c_in)
        if grid[1] * c_out != layer.c_out or grid[2] * c_in * layer.groups != layer.c_in:
            raise ArchitectureError(
                f"Cells of {c_out} × {c_in} do not fill the kernel of {layer.name}; use other widths."
            )
        local = int(ratios.cells * math.prod(grid))
        shares.append(Share(layer, grid, start, local))
        start += local
    cells = max(int(sum(share.mixtures for share in shares) * ratios.cells), 1)
    return Warehouse(name, cells, (c_out, c_in), tuple(shares))


def warehouse_name(place: Place, backbone: Backbone) -> str | None:
    """Name of the warehouse that a layer can be of, as ours: KernelWarehouse's are in no checkpoint."""
    if place.linear and not place.name.endswith(("pwconv1", "pwconv2")):
        return CLASSIFIER
    if isinstance(backbone, ResNetSpec):
        return _in_resnet(place, bottleneck=backbone.block == "bottleneck")
    return _in_mobilenet(place) if isinstance(backbone, MobileNetV2Spec) else _in_convnext(place)


def _in_resnet(place: Place, bottleneck: bool) -> str | None:
    match = re.fullmatch(r"layer(\d+)\.(\d+)\.(.+)", place.name)
    if match is None:
        return None  # the stem
    stage = int(match[1]) - 1
    if match[2] == "0" and match[3] in ("conv1", "downsample.0"):
        stage -= 1
    if stage < 0 and bottleneck:
        return None
    return f"stage{max(stage, 0)}"


def _in_mobilenet(place: Place) -> str:
    index = int(place.name.split(".")[1])
    if index == 0:
        return "stem"
    firsts = [1 + sum(depth for _, depth, _ in GROUPS[:group]) for group in range(len(GROUPS))]
    stage = sum(first < index for first in firsts)  # the first block of a group is of the stage before
    last = len(GROUPS) - 1
    part = "dwconv" if place.groups > 1 else "pwconv0" if place.name.endswith("conv.0.0") else "pwconv1"
    return f"stage{min(max(stage, 1), last)}_{part}"


def _in_convnext(place: Place) -> str:
    top, number, *rest = place.name.split(".")
    if top == "stages":
        return f"stage{number}_{rest[-1]}"
    return "stem" if number == "0" else f"stage{int(number) - 1}_downsampling"
