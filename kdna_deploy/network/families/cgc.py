"""CGC: context-gated convolution (Lin et al. 2020; names of github.com/XudongLinthu/context-gated-convolution).

    g    = ce pool_{k×k}(x)                                       [n, c, L], L = ⌊k²/2⌋ + 1
    a    = gd ReLU(BN g)                                          [n, c, k²]
    b    = gd2 ReLU(BN (ci ReLU(BN g)))                           [n, c', k²]; ci mixes channels in groups of 16
    y    = conv(x, σ(a + b) ⊙ W)                                  a kernel for each image

The published module cannot be built (``num_lat`` where it means ``self.num_lat``); this is what it computes once that
is repaired. It gates every convolution larger than 1×1, the stem too, and multiplies unfolded patches, which is slower
than a convolution with a computed kernel. ResNet-18 has 11.69 M parameters, as printed.

    <conv>.weight [c', c, k, k], .ce.weight [L, k²], .{gd,gd2}.weight [k², L], .ci.weight [16·c'/c, 16] (stem [c', c])
    <conv>.{ce_bn,ci_bn2}.* [c], .ci_bn.* [c']                    BatchNorm1d

Does not apply: groups, 17 channels or more that are no multiple of 16, and images of another size than was traced.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdna_deploy.network.backbone import Shapes
from kdna_deploy.network.families.per_image import convolve_each, window_means
from kdna_deploy.network.method import Method, Place

_GROUP = 16


class CGC(nn.Conv2d):
    """x [n, c, h, w] → [n, c', h', w']."""

    def __init__(self, place: Place) -> None:
        super().__init__(place.c_in, place.c_out, place.kernel, place.stride, place.padding, bias=False)
        self.place, area = place, math.prod(place.kernel)
        latent, group = area // 2 + 1, min(_GROUP, place.c_in)
        self.ce = nn.Linear(area, latent, bias=False)
        self.ce_bn = nn.BatchNorm1d(place.c_in)
        self.ci_bn2 = nn.BatchNorm1d(place.c_in)
        self.ci = nn.Linear(group, place.c_out // (place.c_in // group), bias=False)
        self.ci_bn = nn.BatchNorm1d(place.c_out)
        self.gd = nn.Linear(latent, area, bias=False)
        self.gd2 = nn.Linear(latent, area, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        code = self.ce(window_means(x, self.place.kernel).flatten(2))
        of_inputs = self.gd(F.relu(self.ce_bn(code)))
        of_outputs = self.gd2(F.relu(self.ci_bn(self._interacting(code))))
        gate = torch.sigmoid(of_inputs[:, None] + of_outputs[:, :, None])
        return convolve_each(x, gate.reshape(-1, *self.weight.shape) * self.weight, self.place)

    def _interacting(self, code: Tensor) -> Tensor:
        """Codes [n, c', L] of the outputs, from those of the inputs [n, c, L], group by group."""
        grouped = F.relu(self.ci_bn2(code)).unflatten(1, (-1, self.ci.in_features))
        return self.ci(grouped.transpose(2, 3)).transpose(2, 3).flatten(1, 2)


@dataclass(frozen=True)
class CGCConvolutions(Method):
    """A context gate in every convolution that is larger than 1×1."""

    kind: ClassVar[str] = "CGC"

    def recognises(self, shapes: Shapes) -> bool:
        return any(name.endswith(".ci_bn2.weight") for name in shapes)

    def convolution(self, place: Place) -> nn.Module | None:
        return None if place.pointwise else CGC(place)
