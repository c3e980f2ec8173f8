"""ODConv: omni-dimensional dynamic convolution (Li, Zhou, Yao 2022; github.com/OSVAI/ODConv).

    z = ReLU(BN(fc GAP(x)))                                       hidden = max(⌊c/16⌋, 16)
    W(x) = σ(spatial_fc z) ⊙ Σ_i softmax(kernel_fc z)_i W_i       [n, c', c/g, k, k]
    y = σ(filter_fc z) ⊙ conv(σ(channel_fc z) ⊙ x, W(x))

A depthwise layer has no filter attention, a 1×1 no spatial one, and a single kernel (1×) is not mixed; a 1×1 layer of
that kind has a static kernel between its two gates. The softmax's temperature ends training at 1, which is
evaluated here. Stem and downsampling are plain convolutions.

    <conv>.weight [K, c', c/g, k, k]                      K = 4 (4×) or 1
    <conv>.attention.{fc.weight, bn.*, {channel,filter,spatial,kernel}_fc.{weight,bias}}       1×1 convolutions

Parameters, equal to the printed ones: 4× ResNet-18 44,901,640, ResNet-50 90,670,888, MobileNetV2 11,512,149 and 0.5×
4,435,501.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdna_deploy.network.backbone import Backbone, Shapes
from kdna_deploy.network.families.per_image import (
    behind_stem,
    convolve_all,
    convolve_each,
    fresh_bank,
    mixed,
    pooled,
)
from kdna_deploy.network.method import Method, Place

_REDUCTION, _LEAST_HIDDEN = 16, 16


class Attentions(nn.Module):
    """The four attentions of a layer, those that it has; hidden features [n, hidden, 1, 1] of x [n, c, h, w]."""

    def __init__(self, place: Place, kernels: int) -> None:
        super().__init__()
        hidden = max(place.c_in // _REDUCTION, _LEAST_HIDDEN)
        depthwise = place.c_in == place.c_out == place.groups
        self.fc = nn.Conv2d(place.c_in, hidden, 1, bias=False)
        self.bn = nn.BatchNorm2d(hidden)
        self.channel_fc = nn.Conv2d(hidden, place.c_in, 1)
        self.filter_fc = None if depthwise else nn.Conv2d(hidden, place.c_out, 1)
        self.spatial_fc = None if place.pointwise else nn.Conv2d(hidden, math.prod(place.kernel), 1)
        self.kernel_fc = nn.Conv2d(hidden, kernels, 1) if kernels > 1 else None

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.fc(pooled(x))))


class ODConv(nn.Module):
    """x [n, c, h, w] → [n, c', h', w'], with `kernels` kernels in its bank."""

    def __init__(self, place: Place, kernels: int) -> None:
        super().__init__()
        self.place = place
        self.weight = fresh_bank(kernels, place)
        self.attention = Attentions(place, kernels)

    def forward(self, x: Tensor) -> Tensor:
        z = self.attention(x)
        x = x * torch.sigmoid(self.attention.channel_fc(z))
        kernels = self._kernels(z)
        out = convolve_all(x, self.weight[0], self.place) if kernels is None else convolve_each(x, kernels, self.place)
        return out if self.attention.filter_fc is None else out * torch.sigmoid(self.attention.filter_fc(z))

    def _kernels(self, z: Tensor) -> Tensor | None:
        """The images' kernels [n, c', c/g, k, k]; None where it is one for all."""
        kernels = None
        if self.attention.kernel_fc is not None:
            kernels = mixed(F.softmax(self.attention.kernel_fc(z).flatten(1), dim=1), self.weight)
        if self.attention.spatial_fc is not None:
            gate = torch.sigmoid(self.attention.spatial_fc(z)).flatten(1)
            kernels = (self.weight if kernels is None else kernels) * gate.reshape(-1, 1, 1, *self.weight.shape[3:])
        return kernels


@dataclass(frozen=True)
class ODConvolutions(Method):
    """ODConv with several kernels in each bank (4×), or a single one (1×)."""

    kernels: int = 4
    kind: ClassVar[str] = "ODConv"
    told: ClassVar[tuple[str, ...]] = ("kernels",)

    def recognises(self, shapes: Shapes) -> bool:
        several = any(name.endswith(".attention.kernel_fc.weight") for name in shapes)
        there = any(name.endswith(".attention.channel_fc.weight") for name in shapes)
        return there and several == (self.kernels > 1)

    def fitted(self, backbone: Backbone, shapes: Shapes) -> ODConvolutions:
        banks = (shape[0] for name, shape in shapes.items() if name.endswith(".attention.kernel_fc.weight"))
        return replace(self, kernels=next(banks, 1))

    def convolution(self, place: Place) -> nn.Module | None:
        dynamic = behind_stem(place) and "downsample" not in place.name
        return ODConv(place, self.kernels) if dynamic else None
