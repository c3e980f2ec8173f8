"""The three attentions of a KernelDNA child convolution.

    W_l = W * (1 + α_f) * (1 + α_s)                  static: filter [c',1,1,1], spatial [1,1,k,k]
    y   = conv(x * β(x), W_l)                        dynamic: β(x) [n, c, 1, 1]
    β(x) = sigmoid(FC2 relu(BN(FC1 GAP(x))))

Channel attention scales the feature map in front of the convolution (the pre-scale), never the kernel, so a
batch needs no grouped convolution. Module and parameter names are those of the published checkpoints.
"""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn

from kdna_deploy.network.architecture import hidden_width
from kdna_deploy.network.backbone import KernelDNA


class ChannelAttention(nn.Module):
    """Scales `x` [n, c, h, w] by β(x) [n, c, 1, 1] (squeeze and excitation with a BatchNorm).

    `reduction` divides the channel count to give the hidden width, which is at least one.
    """

    def __init__(self, channels: int, reduction: int) -> None:
        super().__init__()
        hidden = hidden_width(channels, reduction)
        self.se = nn.Sequential(
            OrderedDict(
                gap=nn.AdaptiveAvgPool2d(1),
                fc1=nn.Conv2d(channels, hidden, 1, bias=False),
                bn=nn.BatchNorm2d(hidden),
                relu=nn.ReLU(),
                fc2=nn.Conv2d(hidden, channels, 1),
                sigmoid=nn.Sigmoid(),
            )
        )

    def forward(self, x: Tensor) -> Tensor:
        return x * self.se(x)


def channel_attention(channels: int, reduction: int, enabled: bool) -> nn.Module:
    """A `ChannelAttention`, or the identity where an ablation goes without it."""
    return ChannelAttention(channels, reduction) if enabled else nn.Identity()


def static_filter(children: int, channels: int, sharing: KernelDNA) -> nn.Parameter | None:
    """Stacked filter attention α_f of `children` layers, [children, c', 1, 1, 1], initialised to no effect."""
    there = children and "filter" in sharing.attentions
    return nn.Parameter(torch.zeros(children, channels, 1, 1, 1)) if there else None


def static_spatial(children: int, kernel: int, sharing: KernelDNA) -> nn.Parameter | None:
    """Stacked spatial attention α_s of `children` layers, [children, 1, 1, k, k], initialised to no effect."""
    there = children and "spatial" in sharing.attentions
    return nn.Parameter(torch.zeros(children, 1, 1, kernel, kernel)) if there else None


def modulate(weight: Tensor, filter_attn: Tensor | None, spatial_attn: Tensor | None, child: int) -> Tensor:
    """The kernel of child number `child`: `weight` [c', c, k, k] times (1 + α_f)(1 + α_s)."""
    if filter_attn is not None:
        weight = weight * (1 + filter_attn[child])
    if spatial_attn is not None:
        weight = weight * (1 + spatial_attn[child])
    return weight
