"""MobileNetV2 (Sandler et al. 2018), plain and with KernelDNA clusters.

A KernelDNA cluster is a run of inverted residual blocks of one width, a layout letter each (``F-S-F``: transition,
child, last block; `row`). Both 1×1 convolutions of a child are shared, with filter attention only; its depthwise
convolution stays its own. The cluster takes the index of its last block; the indices it absorbs hold empty
modules, so the numbering of ``features`` is that of the plain network.

Does not apply: spatial attention (a 1×1 kernel has no extent) and layouts with several letters in a block.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from kdna_deploy.network.backbone import Backbone, KernelDNA, Shapes
from kdna_deploy.network.families.attention import channel_attention, modulate, static_filter
from kdna_deploy.network.families.row import SharedRow, kernels_of_row
from kdna_deploy.network.layout import Layout, parse_layout
from kdna_deploy.network.method import Gated, c_in, c_out
from kdna_deploy.network.staged import Staged

# (expansion, blocks, stride) of the seven bottleneck groups, Table 2 of the MobileNetV2 paper.
GROUPS = ((1, 1, 1), (6, 2, 2), (6, 3, 2), (6, 4, 2), (6, 3, 1), (6, 3, 2), (6, 1, 1))
# In ``features``: where the stages C2 to C5 begin and end, the last maps of a size each; the head comes behind them.
_STAGE_ENDS = (0, 4, 7, 14, 18)
_HEAD = 18


def _conv_bn_relu6(c_in: int, c_out: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> nn.Sequential:
    conv = nn.Conv2d(c_in, c_out, kernel, stride=stride, padding=kernel // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(c_out), nn.ReLU6())


class InvertedResidual(Gated):
    def __init__(self, c_in: int, c_out: int, stride: int, expansion: int) -> None:
        super().__init__(c_out)
        hidden = c_in * expansion
        self.residual = stride == 1 and c_in == c_out
        expand = [] if expansion == 1 else [_conv_bn_relu6(c_in, hidden)]
        self.conv = nn.Sequential(
            *expand,
            _conv_bn_relu6(hidden, hidden, kernel=3, stride=stride, groups=hidden),
            nn.Conv2d(hidden, c_out, 1, bias=False),
            nn.BatchNorm2d(c_out),
        )

    def forward(self, x: Tensor) -> Tensor:
        out = self.gated(self.conv(x))
        return x + out if self.residual else out


class InvertedParent(nn.Module):
    """An inverted residual whose 1×1 kernels ``layers.pw1`` and ``layers.pw2`` children may share."""

    def __init__(self, c_in: int, c_out: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = c_in * expansion
        self.residual = stride == 1 and c_in == c_out
        self.layers = nn.Sequential()
        self.layers.add_module("pw1", nn.Conv2d(c_in, hidden, 1, bias=False))
        self.layers.add_module("bn1", nn.BatchNorm2d(hidden))
        self.layers.add_module("relu1", nn.ReLU6())
        self.layers.add_module("dw", nn.Conv2d(hidden, hidden, 3, stride=stride, padding=1, groups=hidden, bias=False))
        self.layers.add_module("bn2", nn.BatchNorm2d(hidden))
        self.layers.add_module("relu2", nn.ReLU6())
        self.layers.add_module("pw2", nn.Conv2d(hidden, c_out, 1, bias=False))
        self.layers.add_module("bn3", nn.BatchNorm2d(c_out))

    def kernel(self, name: str) -> Tensor:
        return self.layers.get_parameter(f"{name}.weight")

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x) if self.residual else self.layers(x)


class InvertedChild(nn.Module):
    """An inverted residual with borrowed 1×1 kernels: own depthwise, BatchNorms and channel attentions."""

    def __init__(self, width: int, expansion: int, reductions: tuple[int, ...], attention: bool) -> None:
        super().__init__()
        hidden = width * expansion
        self.se1 = channel_attention(width, reductions[0], attention)
        self.bn1 = nn.BatchNorm2d(hidden)
        self.dwconv = nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden, bias=False)
        self.bn2 = nn.BatchNorm2d(hidden)
        self.se3 = channel_attention(hidden, reductions[-1], attention)
        self.bn3 = nn.BatchNorm2d(width)

    def forward(self, x: Tensor, expand: Tensor, project: Tensor) -> Tensor:
        out = F.relu6(self.bn1(F.conv2d(self.se1(x), expand)))
        out = F.relu6(self.bn2(self.dwconv(out)))
        return x + self.bn3(F.conv2d(self.se3(out), project))


class SharedCluster(SharedRow):
    """A run of inverted residuals in which children share the 1×1 kernels of a later block."""

    def __init__(self, c_in: int, width: int, stride: int, expansion: int, layout: Layout, sharing: KernelDNA) -> None:
        attention = "channel" in sharing.attentions
        super().__init__(
            *(layout, "transition", InvertedParent(c_in, width, stride, expansion)),
            child=lambda: InvertedChild(width, expansion, sharing.reductions, attention),
            parent=lambda: InvertedParent(width, width, 1, expansion),
        )
        children = len(layout.children)
        self.static_filter_attn1 = static_filter(children, width * expansion, sharing)
        self.static_filter_attn3 = static_filter(children, width, sharing)

    def convolved(self, child: nn.Module, x: Tensor, parent: Any, index: int) -> Tensor:
        expand = modulate(parent.kernel("pw1"), self.static_filter_attn1, None, index)
        return child(x, expand, modulate(parent.kernel("pw2"), self.static_filter_attn3, None, index))


class MobileNetV2(Staged):
    """``features`` 0 to 18, global average pool and classifier; input [n, c, h, w], output logits [n, classes]."""

    def __init__(self, spec: MobileNetV2Spec, sharing: KernelDNA | None, num_classes: int) -> None:
        super().__init__()
        stem, *widths, head = spec.widths
        features: list[nn.Module] = [_conv_bn_relu6(spec.in_channels, stem, kernel=3, stride=2)]
        c_in = stem
        for width, (expansion, depth, stride) in zip(widths, GROUPS, strict=True):
            last = f"features.{len(features) + depth - 1}"
            layout = sharing.layout(last) if sharing else None
            if layout is not None and sharing is not None:
                cluster = SharedCluster(c_in, width, stride, expansion, parse_layout(layout), sharing)
                features += [*(nn.Sequential() for _ in range(depth - 1)), cluster]
            else:
                features.append(InvertedResidual(c_in, width, stride, expansion))
                features += [InvertedResidual(width, width, 1, expansion) for _ in range(depth - 1)]
            c_in = width
        features.append(_conv_bn_relu6(c_in, head))
        self.features = nn.Sequential(*features)
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(head, num_classes))

    def stage_outputs(self, x: Tensor) -> Iterator[Tensor]:
        blocks = list(self.features)
        for begin, end in itertools.pairwise(_STAGE_ENDS):
            for block in blocks[begin:end]:
                x = block(x)
            yield x

    def classified(self, last: Tensor) -> Tensor:
        return self.classifier(F.adaptive_avg_pool2d(self.features[_HEAD](last), 1).flatten(1))


@dataclass(frozen=True)
class MobileNetV2Spec(Backbone):
    """Sizes of a MobileNetV2: `widths` are the stem, the outputs of the seven groups, and the head."""

    widths: tuple[int, ...] = (32, 16, 24, 32, 64, 96, 160, 320, 1280)
    in_channels: int = 3
    kind: ClassVar[str] = "mobilenet_v2"
    classifier: ClassVar[str] = "classifier.1.weight"
    head: ClassVar[tuple[str, ...]] = ("classifier.", f"features.{_HEAD}.")
    reductions: ClassVar[tuple[str, ...]] = (".se1.se.fc1.weight", ".se3.se.fc1.weight")

    @property
    def stages(self) -> tuple[str, ...]:
        lasts = itertools.accumulate(depth for _, depth, _ in GROUPS)
        return tuple(f"features.{last}" for last, (_, depth, _) in zip(lasts, GROUPS, strict=True) if depth > 1)

    def build(self, sharing: KernelDNA | None, num_classes: int) -> nn.Module:
        return MobileNetV2(self, sharing, num_classes)

    def fitted(self, shapes: Shapes) -> MobileNetV2Spec:
        stem = c_out(shapes, "features.0.0", "features.0.1.weight")
        lasts = itertools.accumulate(depth for _, depth, _ in GROUPS)
        groups = (_block_width(shapes, last) for last in lasts)
        head = self.widths[-1]  # of a detector's backbone, which has none
        if any(name.startswith(f"features.{_HEAD}.") for name in shapes):
            head = c_out(shapes, f"features.{_HEAD}.0", f"features.{_HEAD}.1.weight")
        return self.sized((stem, *groups, head), c_in(shapes, "features.0.0"))

    def kernels(self, stage: str, shapes: Shapes) -> tuple[int, int]:
        return kernels_of_row(stage, "transition", shapes)

    def scaled(self, factor: float) -> MobileNetV2Spec:
        """By the rule of the published networks: multiples of 8, by no more than a tenth too narrow, a full head."""
        *body, head = (_multiple_of_8(width * factor) for width in self.widths)
        return self.sized((*body, max(head, self.widths[-1])), self.in_channels)


def _multiple_of_8(width: float) -> int:
    nearest = max(8, int(width + 4) // 8 * 8)
    return nearest if nearest >= 0.9 * width else nearest + 8


def _block_width(shapes: Shapes, index: int) -> int:
    """Output channels of ``features.index``: of its projection, under whichever name it has, or its BatchNorm."""
    block = f"features.{index}"
    for projection in ("transition.layers.pw2", "conv.1"):
        if len(shape := shapes.get(f"{block}.{projection}.weight", ())) == 4:
            return shape[0]
    return c_out(shapes, f"{block}.conv.2", f"{block}.conv.3.weight", f"{block}.conv.2.weight")
