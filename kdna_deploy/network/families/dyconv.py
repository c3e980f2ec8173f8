"""DY-Conv: dynamic convolution by attention over kernels (Chen et al. 2020).

    π(x) = softmax((fc2 ReLU(fc1 GAP(x))) / T)                    hidden = ⌊c/4⌋ + 1
    y    = conv(x, Σ_i π_i W_i)                                   W [4, c', c/g, k, k]

Names and hidden widths are those of github.com/kaijieshi7/Dynamic-convolution-Pytorch, which the tables of later papers
count: ResNet-18 with dynamic downsampling has 45.47 M parameters, as printed.

The temperature T is in no checkpoint: training lowers it from 34 by 3 an epoch, to 1, and the published module that is
built anew evaluates at 34 whatever it was trained to. So it has to be said.

    <conv>.weight [4, c', c/g, k, k]
    <conv>.attention.{fc1.weight, fc2.weight, fc2.bias}           1×1 convolutions
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from kdna_deploy.network.backbone import Backbone, Shapes
from kdna_deploy.network.families.per_image import behind_stem, convolve_each, fresh_bank, mixed, pooled
from kdna_deploy.network.method import Method, Place

_MIXTURE = ".attention.fc2.weight"


class KernelAttention(nn.Module):
    """Logits [n, K] of the mixture, before the temperature."""

    def __init__(self, c_in: int, kernels: int) -> None:
        super().__init__()
        hidden = c_in // 4 + 1
        self.fc1 = nn.Conv2d(c_in, hidden, 1, bias=False)
        self.fc2 = nn.Conv2d(hidden, kernels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.relu(self.fc1(pooled(x)))).flatten(1)


class DYConv(nn.Module):
    """x [n, c, h, w] → [n, c', h', w'], at `temperature` T."""

    def __init__(self, place: Place, kernels: int = 4, temperature: float = 1) -> None:
        super().__init__()
        self.place, self.temperature = place, temperature
        self.weight = fresh_bank(kernels, place)
        self.attention = KernelAttention(place.c_in, kernels)

    def forward(self, x: Tensor) -> Tensor:
        mixture = F.softmax(self.attention(x) / self.temperature, dim=1)
        return convolve_each(x, mixed(mixture, self.weight), self.place)


@dataclass(frozen=True)
class DYConvolutions(Method):
    """DY-Conv in every convolution but the stem; `temperature` is None until it is said."""

    kernels: int = 4
    temperature: float | None = None
    kind: ClassVar[str] = "DY-Conv"
    told: ClassVar[tuple[str, ...]] = ("kernels", "temperature")

    @property
    def unsaid(self) -> str:
        if self.temperature is not None:
            return ""
        return (
            "whose checkpoints do not hold the temperature of the attention: say with `temperature` what it was when "
            "training ended, such as 1 (the published module, where nothing sets it, evaluates at 34)"
        )

    def recognises(self, shapes: Shapes) -> bool:
        return any(name.endswith(_MIXTURE) and len(shape) == 4 for name, shape in shapes.items())

    def fitted(self, backbone: Backbone, shapes: Shapes) -> DYConvolutions:
        mixtures = (shape[0] for name, shape in shapes.items() if name.endswith(_MIXTURE))
        return replace(self, kernels=next(mixtures, self.kernels))

    def convolution(self, place: Place) -> nn.Module | None:
        return DYConv(place, self.kernels, self.temperature or 1) if behind_stem(place) else None
