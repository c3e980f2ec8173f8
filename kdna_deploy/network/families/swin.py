"""Swin Transformer (Liu et al. 2021), with the state-dict names of timm's `swin_base_patch4_window7_224` from 0.9 on.

    windows of w×w tokens, every second block's moved by w/2:  x ← x + attention(norm x);  x ← x + mlp(norm x)
    four tokens of a square become one of twice the width between the stages

Position bias and the mask that keeps moved windows' parts apart depend on no image: they are one constant of a block in
files. Depths, widths, heads, window and perceptron are told from a checkpoint's shapes. A map no larger than the window
is one window and not moved; one that windows do not divide is padded with zeros at its right and lower edge.

Does not apply: Swin V2, and checkpoints whose downsampling ends a stage (timm before 0.9, the original authors').
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdna_deploy.network.backbone import Backbone, KernelDNA, Shapes
from kdna_deploy.network.families.row import numbered
from kdna_deploy.network.families.transformer import Mlp, SelfAttention
from kdna_deploy.network.families.vit import PatchEmbedding


class WindowAttention(SelfAttention):
    """Attention within windows [n, windows, w·w, c], with a bias for each difference of positions."""

    def __init__(self, width: int, heads: int, window: int) -> None:
        super().__init__(width, heads)
        self.relative_position_bias_table = nn.Parameter(torch.randn((2 * window - 1) ** 2, heads) * 0.02)
        self.window = window

    def bias(self) -> Tensor:
        """[heads, w·w, w·w]."""
        return self.relative_position_bias_table[_places(self.window)].permute(2, 0, 1)


def _places(window: int) -> Tensor:
    """Of two positions of a window, the row of its table, [window², window²]: first by rows, then by columns apart."""
    line = torch.arange(window)
    apart = line[:, None] - line[None] + window - 1
    return (apart[:, None, :, None] * (2 * window - 1) + apart[None, :, None]).reshape(window**2, window**2)


class Block(nn.Module):
    """A block of a map [n, h, w, c], whose windows are moved by `shift`."""

    def __init__(self, width: int, heads: int, hidden: int, window: int, shift: int) -> None:
        super().__init__()
        self.window, self.shift = window, shift
        self.norm1 = nn.LayerNorm(width)
        self.attn = WindowAttention(width, heads, window)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = Mlp(width, hidden)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self._windowed(self.norm1(x))
        return x + self.mlp(self.norm2(x))

    def _windowed(self, x: Tensor) -> Tensor:
        height, width, channels = x.shape[1:]
        side = self.window
        shift = self.shift if min(height, width) > side else 0
        rows, columns = math.ceil(height / side), math.ceil(width / side)
        if rows * side > height or columns * side > width:
            x = F.pad(x, (0, 0, 0, columns * side - width, 0, rows * side - height))
        if shift:
            x = torch.roll(x, (-shift, -shift), (1, 2))
        x = x.reshape(-1, rows, side, columns, side, channels).transpose(2, 3)
        x = self.attn(x.reshape(-1, rows * columns, side * side, channels), self._bias(rows, columns, shift))
        x = x.reshape(-1, rows, columns, side, side, channels).transpose(2, 3)
        x = x.reshape(-1, rows * side, columns * side, channels)
        if shift:
            x = torch.roll(x, (shift, shift), (1, 2))
        return x[:, :height, :width]

    def _bias(self, rows: int, columns: int, shift: int) -> Tensor:
        bias = self.attn.bias()
        return torch.where(_apart(rows, columns, self.window, shift), bias - 100, bias) if shift else bias


def _apart(rows: int, columns: int, side: int, shift: int) -> Tensor:
    """Which tokens lie in a window only since the map was rolled, [windows, 1, side², side²]."""
    height, width = rows * side, columns * side
    below, across = (_rolled(count, side, shift) for count in (rows, columns))
    regions = torch.cat((below[:, :, None].expand(2, height, width), across[:, None].expand(2, height, width)))
    windows = regions.reshape(4, rows, side, columns, side).transpose(2, 3).reshape(4, rows * columns, 1, side * side)
    return (windows[..., :, None] != windows[..., None, :]).any(0)


def _rolled(count: int, side: int, shift: int) -> Tensor:
    """Along a side of the rolled map: what lies in its last window, and what was rolled there, [2, count · side]."""
    places = torch.arange(count * side)
    return torch.stack((places >= (count - 1) * side, places >= count * side - shift))


class Downsampling(nn.Module):
    """[n, h, w, c] → [n, h/2, w/2, 2c]: the four tokens of a square, normalised, in one."""

    def __init__(self, width: int, out: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4 * width)
        self.reduction = nn.Linear(4 * width, out, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        height, width, channels = x.shape[1:]
        x = F.pad(x, (0, 0, 0, width % 2, 0, height % 2)) if height % 2 or width % 2 else x
        # By column, then by row: (0, 0), (1, 0), (0, 1), (1, 1).
        squares = x.reshape(-1, (height + 1) // 2, 2, (width + 1) // 2, 2, channels).permute(0, 1, 3, 4, 2, 5)
        return self.reduction(self.norm(squares.flatten(3)))


class Stage(nn.Module):
    """A row of blocks, behind its downsampling."""

    def __init__(self, downsample: nn.Module, blocks: Sequence[nn.Module]) -> None:
        super().__init__()
        self.downsample = downsample
        self.blocks = nn.Sequential(*blocks)

    def forward(self, x: Tensor) -> Tensor:
        return self.blocks(self.downsample(x))


class SwinTransformer(nn.Module):
    """Input [n, c, h, w], output logits [n, classes]."""

    def __init__(self, spec: SwinSpec, num_classes: int) -> None:
        super().__init__()
        self.patch_embed = PatchEmbedding(spec.in_channels, spec.widths[0], spec.patch, normalised=True)
        before = (None, *spec.widths[:-1])
        self.layers = nn.Sequential(
            *(
                Stage(
                    nn.Identity() if last is None else Downsampling(last, width),
                    [
                        Block(width, heads, spec.expansion * width, spec.window, spec.window // 2 * (number % 2))
                        for number in range(depth)
                    ],
                )
                for last, width, depth, heads in zip(before, spec.widths, spec.depths, spec.heads, strict=True)
            )
        )
        self.norm = nn.LayerNorm(spec.widths[-1])
        self.head = nn.ModuleDict({"fc": nn.Linear(spec.widths[-1], num_classes)})

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.layers(self.patch_embed(x)))
        return self.head["fc"](x.mean((1, 2)))


@dataclass(frozen=True)
class SwinSpec(Backbone):
    """Sizes of a Swin: of each stage the width, blocks and heads."""

    widths: tuple[int, ...] = (128, 256, 512, 1024)
    in_channels: int = 3
    depths: tuple[int, ...] = (2, 2, 18, 2)
    heads: tuple[int, ...] = (4, 8, 16, 32)
    expansion: int = 4
    patch: int = 4
    window: int = 7
    kind: ClassVar[str] = "swin"
    classifier: ClassVar[str] = "head.fc.weight"

    @property
    def sizes(self) -> dict[str, int]:
        several = {"depth": self.depths, "heads": self.heads}
        one = {"expansion": self.expansion, "patch": self.patch, "window": self.window}
        return one | {f"{name}.{i}": size for name, found in several.items() for i, size in enumerate(found)}

    def with_sizes(self, sizes: Mapping[str, int]) -> SwinSpec:
        stages = range(len(self.widths))
        return replace(
            self,
            depths=tuple(sizes[f"depth.{i}"] for i in stages),
            heads=tuple(sizes[f"heads.{i}"] for i in stages),
            expansion=sizes["expansion"],
            patch=sizes["patch"],
            window=sizes["window"],
        )

    def build(self, sharing: KernelDNA | None, num_classes: int) -> nn.Module:
        return SwinTransformer(self, num_classes)

    def fitted(self, shapes: Shapes) -> SwinSpec:
        width, in_channels, patch, _ = shapes["patch_embed.proj.weight"]
        stages = range(len(self.widths))
        tables = [shapes[f"layers.{i}.blocks.0.attn.relative_position_bias_table"] for i in stages]
        return SwinSpec(
            (width, *(shapes[f"layers.{i}.downsample.reduction.weight"][0] for i in stages[1:])),
            in_channels,
            depths=tuple(numbered(shapes, f"layers.{i}.blocks") for i in stages),
            heads=tuple(heads for _, heads in tables),
            expansion=shapes["layers.0.blocks.0.mlp.fc1.weight"][0] // width,
            patch=patch,
            window=(math.isqrt(tables[0][0]) + 1) // 2,
        )
