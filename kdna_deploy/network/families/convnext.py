"""ConvNeXt (Liu et al. 2022), plain and with a KernelDNA row of blocks.

Plain networks have the state-dict names of the original authors' checkpoints or of torchvision's, whichever a file has.
The KernelDNA form is a reconstruction, for its code was not published: a row of blocks, a layout letter each, with the
original authors' names; both pointwise kernels of a child are shared, with filter attention and a channel attention in
front of each; its depthwise convolution, LayerNorm, biases and layer scale stay its own. With the last stage ``F-S-F``
and reductions 4 and 128 it has the 24.32 M parameters that the paper prints.

Does not apply: spatial attention (a pointwise kernel has no extent) and layouts with several letters in a block.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdna_deploy.network.backbone import Backbone, KernelDNA, Shapes
from kdna_deploy.network.families.attention import channel_attention, modulate, static_filter
from kdna_deploy.network.families.row import SharedRow, kernels_of_row
from kdna_deploy.network.layout import Layout, parse_layout
from kdna_deploy.network.method import c_in, c_out
from kdna_deploy.network.staged import Staged

EXPANSION = 4
_EPSILON = 1e-6

Names = Literal["torchvision", "original"]


class LayerNorm2d(nn.LayerNorm):
    """LayerNorm over the channels of a map [n, c, h, w]."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def _depthwise(width: int) -> nn.Conv2d:
    return nn.Conv2d(width, width, 7, padding=3, groups=width)


def _pointwise(x: Tensor, weight: Any, bias: Any) -> Tensor:
    """A linear layer [c', c] over the channels of a map, as the convolution that it is: ONNX Runtime is faster so."""
    return F.conv2d(x, weight[:, :, None, None], bias)


def _over_channels(x: Tensor, layer: nn.Module) -> Tensor:
    """A linear layer over the channels of a map, or the convolution that a method has in its place."""
    return _pointwise(x, layer.weight, layer.bias) if isinstance(layer, nn.Linear) else cast(Tensor, layer(x))


class Block(nn.Module):
    """A block with the original authors' names, whose pointwise kernels children may share."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.dwconv = _depthwise(width)
        self.norm = LayerNorm2d(width, eps=_EPSILON)
        self.pwconv1 = nn.Linear(width, EXPANSION * width)
        self.pwconv2 = nn.Linear(EXPANSION * width, width)
        self.gamma = nn.Parameter(torch.full((width,), 1e-6))

    def forward(self, x: Tensor) -> Tensor:
        out = F.gelu(_over_channels(self.norm(self.dwconv(x)), self.pwconv1))
        gamma = self.gamma if self.gamma.dim() > 1 else self.gamma[:, None, None]  # [1, c, 1, 1] in KernelWarehouse's
        return x + gamma * _over_channels(out, self.pwconv2)


class TorchvisionBlock(nn.Module):
    """The same block with torchvision's names; what its own ``block`` has at 1, 4 and 6 is without weights."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layer_scale = nn.Parameter(torch.full((width, 1, 1), 1e-6))
        self.block = nn.ModuleDict(
            {
                "0": _depthwise(width),
                "2": LayerNorm2d(width, eps=_EPSILON),
                "3": nn.Linear(width, EXPANSION * width),
                "5": nn.Linear(EXPANSION * width, width),
            }
        )

    def forward(self, x: Tensor) -> Tensor:
        depthwise, norm, expand, project = self.block.values()
        out = F.gelu(_pointwise(norm(depthwise(x)), expand.weight, expand.bias))
        return x + self.layer_scale * _pointwise(out, project.weight, project.bias)


class Child(nn.Module):
    """A block with borrowed pointwise kernels [4c, c] and [c, 4c]."""

    def __init__(self, width: int, sharing: KernelDNA) -> None:
        super().__init__()
        attention = "channel" in sharing.attentions
        self.dwconv = _depthwise(width)
        self.norm = LayerNorm2d(width, eps=_EPSILON)
        self.se1 = channel_attention(width, sharing.reductions[0], attention)
        self.bias1 = nn.Parameter(torch.zeros(EXPANSION * width))
        self.se2 = channel_attention(EXPANSION * width, sharing.reductions[-1], attention)
        self.bias2 = nn.Parameter(torch.zeros(width))
        self.gamma = nn.Parameter(torch.full((width,), 1e-6))

    def forward(self, x: Tensor, expand: Tensor, project: Tensor) -> Tensor:
        out = F.gelu(_pointwise(self.se1(self.norm(self.dwconv(x))), expand, self.bias1))
        return x + self.gamma[:, None, None] * _pointwise(self.se2(out), project, self.bias2)


class SharedStage(SharedRow):
    """A stage in which children share both pointwise kernels of a later block."""

    def __init__(self, width: int, layout: Layout, sharing: KernelDNA) -> None:
        super().__init__(
            *(layout, "block0", Block(width)),
            child=lambda: Child(width, sharing),
            parent=lambda: Block(width),
        )
        children = len(layout.children)
        self.static_filter_attn1 = _filters(children, EXPANSION * width, sharing)
        self.static_filter_attn2 = _filters(children, width, sharing)

    def convolved(self, child: nn.Module, x: Tensor, parent: Any, index: int) -> Tensor:
        expand = modulate(parent.pwconv1.weight, self.static_filter_attn1, None, index)
        return child(x, expand, modulate(parent.pwconv2.weight, self.static_filter_attn2, None, index))


def _filters(children: int, rows: int, sharing: KernelDNA) -> nn.Parameter | None:
    """As `static_filter`, for the kernels of linear layers: [children, rows, 1]."""
    stacked = static_filter(children, rows, sharing)
    return None if stacked is None else nn.Parameter(stacked.detach().flatten(2))


class ConvNeXt(Staged):
    """The original authors' names; input [n, c, h, w], output logits [n, classes]."""

    def __init__(self, spec: ConvNeXtSpec, sharing: KernelDNA | None, num_classes: int) -> None:
        super().__init__()
        widths = spec.widths
        self.downsample_layers = nn.ModuleList([_stem(spec), *_downsampling(widths)])
        stages: list[nn.Module] = []
        for number, (width, depth) in enumerate(zip(widths, spec.depths, strict=True)):
            layout = sharing.layout(f"stages.{number}") if sharing else None
            shared = layout is not None and sharing is not None
            stages.append(
                SharedStage(width, parse_layout(layout), sharing)  # type: ignore[arg-type]
                if shared
                else nn.Sequential(*(Block(width) for _ in range(depth)))
            )
        self.stages = nn.ModuleList(stages)
        self.norm = nn.LayerNorm(widths[-1], eps=_EPSILON)
        self.head = nn.Linear(widths[-1], num_classes)

    def stage_outputs(self, x: Tensor) -> Iterator[Tensor]:
        for downsampling, stage in zip(self.downsample_layers, self.stages, strict=True):
            x = stage(downsampling(x))
            yield x

    def classified(self, last: Tensor) -> Tensor:
        return self.head(self.norm(last.mean((2, 3))))


class TorchvisionConvNeXt(Staged):
    """The plain network with torchvision's names."""

    def __init__(self, spec: ConvNeXtSpec, num_classes: int) -> None:
        super().__init__()
        downsampling = [_stem(spec), *_downsampling(spec.widths)]
        blocks = [
            nn.Sequential(*(TorchvisionBlock(width) for _ in range(depth)))
            for width, depth in zip(spec.widths, spec.depths, strict=True)
        ]
        self.features = nn.Sequential(*(part for pair in zip(downsampling, blocks, strict=True) for part in pair))
        last = spec.widths[-1]
        self.classifier = nn.Sequential(LayerNorm2d(last, eps=_EPSILON), nn.Flatten(1), nn.Linear(last, num_classes))

    def stage_outputs(self, x: Tensor) -> Iterator[Tensor]:
        for number in range(0, len(self.features), 2):
            x = self.features[number + 1](self.features[number](x))
            yield x

    def classified(self, last: Tensor) -> Tensor:
        return self.classifier(F.adaptive_avg_pool2d(last, 1))


def _stem(spec: ConvNeXtSpec) -> nn.Sequential:
    first = spec.widths[0]
    return nn.Sequential(nn.Conv2d(spec.in_channels, first, 4, stride=4), LayerNorm2d(first, eps=_EPSILON))


def _downsampling(widths: tuple[int, ...]) -> list[nn.Sequential]:
    return [
        nn.Sequential(LayerNorm2d(c_in, eps=_EPSILON), nn.Conv2d(c_in, c_out, 2, stride=2))
        for c_in, c_out in itertools.pairwise(widths)
    ]


@dataclass(frozen=True)
class ConvNeXtSpec(Backbone):
    """Sizes of a ConvNeXt: the widths of its four stages. `names` are those of plain networks."""

    depths: tuple[int, ...] = (3, 3, 9, 3)
    widths: tuple[int, ...] = (96, 192, 384, 768)
    in_channels: int = 3
    names: Names = "original"
    kind: ClassVar[str] = "convnext"
    head: ClassVar[tuple[str, ...]] = ("head.", "classifier.", "norm.")
    reductions: ClassVar[tuple[str, ...]] = (".se1.se.fc1.weight", ".se2.se.fc1.weight")

    @property
    def stages(self) -> tuple[str, ...]:
        return tuple(f"stages.{number}" for number in range(len(self.depths)))

    def build(self, sharing: KernelDNA | None, num_classes: int) -> nn.Module:
        if sharing is None and self.names == "torchvision":
            return TorchvisionConvNeXt(self, num_classes)
        return ConvNeXt(self, sharing, num_classes)

    def fitted(self, shapes: Shapes) -> ConvNeXtSpec:
        original = any(name.startswith("downsample_layers.0.0.") for name in shapes)
        stem, *places = (f"downsample_layers.{i}" if original else f"features.{2 * i}" for i in range(4))
        convolutions = (f"{stem}.0", *(f"{place}.1" for place in places))
        widths = tuple(c_out(shapes, one, f"{one}.bias") for one in convolutions)
        names: Names = "original" if original else "torchvision"
        return replace(self.sized(widths, c_in(shapes, convolutions[0])), names=names)

    def classes(self, shapes: Shapes) -> int:
        return shapes["head.weight" if "head.weight" in shapes else "classifier.2.weight"][0]

    def kernels(self, stage: str, shapes: Shapes) -> tuple[int, int]:
        return kernels_of_row(stage, "block0", shapes)
