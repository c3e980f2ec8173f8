"""ECA: channel attention by a convolution over neighbouring channels (Wang et al. 2020; github.com/BangguWu/ECANet).

    x ← x ⊙ σ(conv1d GAP(x))                                      along the channels, kernel k, zeros at both ends

It stands behind the block's last BatchNorm, before the residual sum. The kernel's length, 3 in the code's
ResNet-18, is that of each stage of a checkpoint. ResNet-18 has 11.69 M parameters, as printed: 24 more than without.

    <block>.eca.conv.weight [1, 1, k]
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor, nn

from kdna_deploy.network.backbone import Backbone, Shapes
from kdna_deploy.network.families.per_image import pooled
from kdna_deploy.network.method import Method

_GATE = ".eca.conv.weight"


class ECA(nn.Module):
    """Scales `x` [n, c, h, w] by a gate [n, c, 1, 1]."""

    def __init__(self, length: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(1, 1, length, padding=length // 2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        gate = self.conv(pooled(x).flatten(1)[:, None, :])
        return x * torch.sigmoid(gate).permute(0, 2, 1)[:, :, :, None]


@dataclass(frozen=True)
class ECAGates(Method):
    """An ECA gate in front of each residual sum, with a kernel of its stage's length."""

    layer1: int = 3
    layer2: int = 3
    layer3: int = 3
    layer4: int = 3
    kind: ClassVar[str] = "ECA"
    gate_name: ClassVar[str] = "eca"
    told: ClassVar[tuple[str, ...]] = ("layer1", "layer2", "layer3", "layer4")

    def recognises(self, shapes: Shapes) -> bool:
        return any(name.endswith(_GATE) for name in shapes)

    def fitted(self, backbone: Backbone, shapes: Shapes) -> ECAGates:
        return replace(self, **{stage: shapes[f"{stage}.0{_GATE}"][2] for stage in self.told})

    def gate(self, block: str, channels: int) -> nn.Module | None:
        return ECA(getattr(self, block.partition(".")[0]))
