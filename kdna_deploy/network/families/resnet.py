"""ResNet backbones (He et al. 2016, v1.5: the stride sits in the 3×3), plain and with KernelDNA stages.

A KernelDNA stage replaces ``layerN``. In a *basic* stage the layout's letters are the 3×3 convolutions of the
stage, numbered through: full kernels are ``conv1, conv2, …``, children are ``se.i``/``bns.i`` and row i of the
stacked static attentions. In a *bottleneck* stage a letter is a whole block and only its 3×3 is shared.

Does not apply: bottleneck layouts with more than one letter in a block.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdna_deploy.network.backbone import Backbone, KernelDNA, Shapes
from kdna_deploy.network.families.attention import channel_attention, modulate, static_filter, static_spatial
from kdna_deploy.network.families.row import SharedRow, kernels_of_row, numbered
from kdna_deploy.network.layout import Layout, Slot, known_layout, parse_layout, row_layout
from kdna_deploy.network.method import Gated
from kdna_deploy.network.staged import Staged

BOTTLENECK_EXPANSION = 4
# Of basic stages, in Table 3 of the KernelDNA paper. No two of them have as many kernels and as many children.
BASIC_LAYOUTS = ("FF-FF", "FF-FFF", "FF-FF-FF", "FS-FSF", "FS-SSF", "FS-SF-SF")


def _conv3x3(c_in: int, c_out: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(c_in, c_out, 3, stride=stride, padding=1, bias=False)


def _conv1x1(c_in: int, c_out: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(c_in, c_out, 1, stride=stride, bias=False)


def _downsample(c_in: int, c_out: int, stride: int) -> nn.Sequential | None:
    if stride == 1 and c_in == c_out:
        return None
    return nn.Sequential(_conv1x1(c_in, c_out, stride), nn.BatchNorm2d(c_out))


class BasicBlock(Gated):
    def __init__(self, c_in: int, width: int, stride: int) -> None:
        super().__init__(width)
        self.conv1 = _conv3x3(c_in, width, stride)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = _conv3x3(width, width)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample = _downsample(c_in, width, stride)

    def forward(self, x: Tensor) -> Tensor:
        identity = x if self.downsample is None else self.downsample(x)
        out = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.gated(self.bn2(self.conv2(out))) + identity)


class Bottleneck(Gated):
    def __init__(self, c_in: int, width: int, stride: int) -> None:
        c_out = width * BOTTLENECK_EXPANSION
        super().__init__(c_out)
        self.conv1 = _conv1x1(c_in, width)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = _conv3x3(width, width, stride)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = _conv1x1(width, c_out)
        self.bn3 = nn.BatchNorm2d(c_out)
        self.downsample = _downsample(c_in, c_out, stride)

    def forward(self, x: Tensor) -> Tensor:
        identity = x if self.downsample is None else self.downsample(x)
        out = F.relu(self.bn1(self.conv1(x)))
        out = F.relu(self.bn2(self.conv2(out)))
        return F.relu(self.gated(self.bn3(self.conv3(out))) + identity)


class SharedBasicStage(nn.Module):
    """A stage of 3×3 convolutions in which the children of `layout` share the kernels of later layers."""

    def __init__(self, c_in: int, width: int, stride: int, layout: Layout, sharing: KernelDNA) -> None:
        super().__init__()
        self.layout = layout
        for i in range(layout.full_kernels):
            first = i == 0
            self.add_module(f"conv{i + 1}", _conv3x3(c_in if first else width, width, stride if first else 1))
            self.add_module(f"bn{i + 1}", nn.BatchNorm2d(width))
        self.downsample = _downsample(c_in, width, stride)
        children = len(layout.children)
        self.static_spatial_attn = static_spatial(children, 3, sharing)
        self.static_filter_attn = static_filter(children, width, sharing)
        self.se = nn.ModuleList(
            channel_attention(width, sharing.reductions[0], "channel" in sharing.attentions) for _ in range(children)
        )
        self.bns = nn.ModuleList(nn.BatchNorm2d(width) for _ in range(children))

    def forward(self, x: Tensor) -> Tensor:
        identity = x if self.downsample is None else self.downsample(x)
        for block in self.layout.blocks:
            for slot in block[:-1]:
                x = F.relu(self._convolve(x, slot))
            x = identity = F.relu(self._convolve(x, block[-1]) + identity)
        return x

    def _convolve(self, x: Tensor, slot: Slot) -> Tensor:
        parent = self.get_submodule(f"conv{slot.parent + 1}")
        if not slot.is_child:
            return self.get_submodule(f"bn{slot.parent + 1}")(parent(x))
        weight = modulate(parent.get_parameter("weight"), self.static_filter_attn, self.static_spatial_attn, slot.index)
        return self.bns[slot.index](F.conv2d(self.se[slot.index](x), weight, padding=1))


class BottleneckParent(nn.Module):
    """A bottleneck block whose 3×3 (``layers.conv2``) children may share."""

    def __init__(self, c_in: int, width: int, stride: int) -> None:
        super().__init__()
        c_out = width * BOTTLENECK_EXPANSION
        self.layers = nn.Sequential()
        self.layers.add_module("conv1", _conv1x1(c_in, width))
        self.layers.add_module("bn1", nn.BatchNorm2d(width))
        self.layers.add_module("relu1", nn.ReLU())
        self.layers.add_module("conv2", _conv3x3(width, width, stride))
        self.layers.add_module("bn2", nn.BatchNorm2d(width))
        self.layers.add_module("relu2", nn.ReLU())
        self.layers.add_module("conv3", _conv1x1(width, c_out))
        self.layers.add_module("bn3", nn.BatchNorm2d(c_out))
        self.downsample = nn.Sequential() if (projection := _downsample(c_in, c_out, stride)) else None
        if projection is not None and self.downsample is not None:
            self.downsample.add_module("conv", projection[0])
            self.downsample.add_module("bn", projection[1])

    @property
    def kernel(self) -> Tensor:
        return self.layers.get_parameter("conv2.weight")

    def forward(self, x: Tensor) -> Tensor:
        identity = x if self.downsample is None else self.downsample(x)
        return F.relu(self.layers(x) + identity)


class BottleneckChild(nn.Module):
    """A bottleneck block whose 3×3 is a modulated parent kernel; channel attention precedes it."""

    def __init__(self, width: int, reduction: int, attention: bool) -> None:
        super().__init__()
        c_out = width * BOTTLENECK_EXPANSION
        self.half1 = nn.Module()
        self.half1.add_module("conv1", _conv1x1(c_out, width))
        self.half1.add_module("bn1", nn.BatchNorm2d(width))
        self.half1.add_module("se", channel_attention(width, reduction, attention))
        self.half2 = nn.Module()
        self.half2.add_module("bn2", nn.BatchNorm2d(width))
        self.half2.add_module("conv3", _conv1x1(width, c_out))
        self.half2.add_module("bn3", nn.BatchNorm2d(c_out))

    def forward(self, x: Tensor, weight: Tensor) -> Tensor:
        first, second = self.half1, self.half2
        out = first.get_submodule("se")(F.relu(first.get_submodule("bn1")(first.get_submodule("conv1")(x))))
        out = F.relu(second.get_submodule("bn2")(F.conv2d(out, weight, padding=1)))
        return F.relu(second.get_submodule("bn3")(second.get_submodule("conv3")(out)) + x)


class SharedBottleneckStage(SharedRow):
    """A stage of bottleneck blocks whose 3×3 children share; with one parent its filter attention has another name."""

    def __init__(self, c_in: int, width: int, stride: int, layout: Layout, sharing: KernelDNA) -> None:
        attention = "channel" in sharing.attentions
        super().__init__(
            *(layout, "block0", BottleneckParent(c_in, width, stride)),
            child=lambda: BottleneckChild(width, sharing.reductions[0], attention),
            parent=lambda: BottleneckParent(width * BOTTLENECK_EXPANSION, width, 1),
        )
        children = len(layout.children)
        self.filter_name = "static_filter_attn2" if self.single else "static_filter_attn"
        self.register_parameter(self.filter_name, static_filter(children, width, sharing))
        self.static_spatial_attn = static_spatial(children, 3, sharing)

    def convolved(self, child: nn.Module, x: Tensor, parent: Any, index: int) -> Tensor:
        filters = getattr(self, self.filter_name)
        return child(x, modulate(parent.kernel, filters, self.static_spatial_attn, index))


class ResNet(Staged):
    """Stem, four stages, global average pool and classifier; input [n, c, h, w], output logits [n, classes]."""

    def __init__(self, spec: ResNetSpec, sharing: KernelDNA | None, num_classes: int) -> None:
        super().__init__()
        stem, *stages = spec.widths
        self.conv1 = nn.Conv2d(spec.in_channels, stem, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(stem)
        c_in = stem
        for number, (width, depth) in enumerate(zip(stages, spec.depths, strict=True), start=1):
            name = f"layer{number}"
            stride = 1 if number == 1 else 2
            layout = sharing.layout(name) if sharing else None
            self.add_module(name, _stage(spec, c_in, width, stride, depth, layout, sharing))
            c_in = width * spec.expansion
        self.fc = nn.Linear(c_in, num_classes)
        self.classifier_name = "fc"

    def stage_outputs(self, x: Tensor) -> Iterator[Tensor]:
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(x))), 3, stride=2, padding=1)
        for number in range(1, 5):
            x = self.get_submodule(f"layer{number}")(x)
            yield x

    def rename_classifier(self, name: str, classifier: nn.Module) -> None:
        """Put `classifier` in the place of ``fc``, under another name."""
        del self.fc
        self.add_module(name, classifier)
        self.classifier_name = name

    def classified(self, last: Tensor) -> Tensor:
        features = torch.flatten(F.adaptive_avg_pool2d(last, 1), 1)
        return cast(Tensor, self.get_submodule(self.classifier_name)(features))


def _stage(
    spec: ResNetSpec, c_in: int, width: int, stride: int, depth: int, layout: str | None, sharing: KernelDNA | None
) -> nn.Module:
    if layout is not None and sharing is not None:
        shared = SharedBasicStage if spec.block == "basic" else SharedBottleneckStage
        return shared(c_in, width, stride, parse_layout(layout), sharing)
    block: Callable[[int, int, int], nn.Module] = BasicBlock if spec.block == "basic" else Bottleneck
    rest = (block(width * spec.expansion, width, 1) for _ in range(depth - 1))
    return nn.Sequential(block(c_in, width, stride), *rest)


@dataclass(frozen=True)
class ResNetSpec(Backbone):
    """Sizes of a ResNet: `widths` are the stem and the inner width of each of the four stages."""

    block: Literal["basic", "bottleneck"]
    depths: tuple[int, ...]
    widths: tuple[int, ...] = (64, 64, 128, 256, 512)
    in_channels: int = 3
    kind: ClassVar[str] = "resnet"
    classifier: ClassVar[str] = "fc.weight"
    head: ClassVar[tuple[str, ...]] = ("fc.", "classifier.")  # the latter in DCD

    @property
    def expansion(self) -> int:
        return 1 if self.block == "basic" else BOTTLENECK_EXPANSION

    @property
    def stages(self) -> tuple[str, ...]:
        return tuple(f"layer{number}" for number in range(1, 5))

    def build(self, sharing: KernelDNA | None, num_classes: int) -> nn.Module:
        return ResNet(self, sharing, num_classes)

    def fitted(self, shapes: Shapes) -> ResNetSpec:
        stem, in_channels = shapes["conv1.weight"][:2]
        return self.sized((stem, *(_stage_width(shapes, n) for n in range(1, 5))), in_channels)

    def kernels(self, stage: str, shapes: Shapes) -> tuple[int, int]:
        if self.block == "bottleneck":
            return kernels_of_row(stage, "block0", shapes)
        convolutions = (f"{stage}.conv{number}.weight" for number in itertools.count(1))
        full = len(list(itertools.takewhile(shapes.__contains__, convolutions)))
        return (full, numbered(shapes, f"{stage}.bns")) if full else (0, 0)

    def layout(self, full_kernels: int, children: int) -> tuple[str, bool]:
        if self.block == "bottleneck":
            return row_layout(full_kernels, children)
        return known_layout(full_kernels, children, BASIC_LAYOUTS)


def _stage_width(shapes: Shapes, number: int) -> int:
    """Inner width of a stage: the output channels of its first convolution, under whichever name it has.

    Of a kernel that is a bank, or is computed, the normalisation behind it tells them.
    """
    for first in ("0.conv1", "conv1", "block0.layers.conv1", "0.bn1"):
        shape = shapes.get(f"layer{number}.{first}.weight", ())
        if len(shape) == 4 or (shape and first == "0.bn1"):
            return shape[0]
    raise KeyError(f"layer{number}.0.conv1.weight")
