"""DCD: dynamic convolution decomposition (Li et al. 2021; names of github.com/liyunsheng13/dcd).

    z = u ⊙ s(fc.1.fc.0 u), u = fc.0 pool(x)                      s(a) = ReLU6(a + 3) / 3
    r = BN1(q x)                                                  [n, d, h, w], d = ⌊√inputs⌋
    y = s(fc_scale z) ⊙ conv(x) + p (BN2(Φ(z) r) + r)             Φ(z) = fc_phi z, [n, d, d]

A static convolution with a post-scale, and beside it a small product for each image: no kernel is computed. Basic
blocks pool to 2×2 (inputs = 4c), bottlenecks to 1×1 (c); the classifier is made in the same way, with d = 32. ResNet-18
has 14.70 M parameters, as printed.

    <conv>.{conv,q,p}.weight, .bn1.*, .bn2.* (BatchNorm1d), .{fc.0,fc.1.fc.0,fc_phi,fc_scale}.weight
    classifier.0.{cls.{weight,bias}, cls_q.weight, cls_p.weight, bn1.*, bn2.*, fc.0, fc.1.fc.0, fc_phi, fc_scale}
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from kdna_deploy.network.backbone import Backbone, Shapes
from kdna_deploy.network.families.per_image import window_means
from kdna_deploy.network.families.resnet import ResNet
from kdna_deploy.network.method import Method, Place, places, replace_layers

_CLASSIFIER_DIM = 32
_CLASSES = "classifier.0.cls.weight"


def _gate(x: Tensor) -> Tensor:
    return F.relu6(x + 3) / 3


class _Squeezed(nn.Module):
    """u ⊙ s(fc u), of [n, hidden]."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.fc = nn.Sequential(nn.Linear(hidden, hidden, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        return x * _gate(self.fc(x))


class _Dynamic(nn.Module):
    """What a layer and the classifier have in common: the gate and the product for each image, from z [n, hidden]."""

    def __init__(self, inputs: int, hidden: int, dim: int, c_out: int) -> None:
        super().__init__()
        self.dim = dim
        self.fc = nn.Sequential(nn.Linear(inputs, hidden, bias=False), _Squeezed(hidden))
        self.fc_phi = nn.Linear(hidden, dim * dim, bias=False)
        self.fc_scale = nn.Linear(hidden, c_out, bias=False)
        self.bn2 = nn.BatchNorm1d(dim)

    def latent(self, z: Tensor, reduced: Tensor) -> Tensor:
        """BN2(Φ(z) r) + r of `reduced` [n, d, positions]."""
        phi = self.fc_phi(z).unflatten(1, (self.dim, self.dim))
        return self.bn2(phi @ reduced) + reduced


class DCD(_Dynamic):
    """x [n, c, h, w] → [n, c', h', w'], by the means of `pool`×`pool` parts of a map."""

    def __init__(self, place: Place, pool: int) -> None:
        c_in, c_out, inputs = place.c_in, place.c_out, place.c_in * pool * pool
        super().__init__(inputs, max(inputs // 16, 4), math.isqrt(inputs), c_out)
        self.pool = pool
        self.conv = nn.Conv2d(c_in, c_out, place.kernel, place.stride, place.padding, bias=False)
        self.q = nn.Conv2d(c_in, self.dim, 1, place.stride, bias=False)
        self.p = nn.Conv2d(self.dim, c_out, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(self.dim)

    def forward(self, x: Tensor) -> Tensor:
        z = self.fc(window_means(x, (self.pool, self.pool)).flatten(1))
        reduced = self.bn1(self.q(x))
        latent = self.latent(z, reduced.flatten(2)).unflatten(2, reduced.shape[2:])
        return self.conv(x) * _gate(self.fc_scale(z))[:, :, None, None] + self.p(latent)


class DCDClassifier(_Dynamic):
    """Features [n, c] → logits [n, classes]."""

    def __init__(self, place: Place) -> None:
        c_in, classes, dim = place.c_in, place.c_out, _CLASSIFIER_DIM
        super().__init__(c_in, dim, dim, classes)
        self.cls = nn.Linear(c_in, classes)
        self.cls_q = nn.Linear(c_in, dim, bias=False)
        self.cls_p = nn.Linear(dim, classes, bias=False)
        self.bn1 = nn.BatchNorm1d(dim)

    def forward(self, x: Tensor) -> Tensor:
        z = self.fc(x)
        latent = self.latent(z, self.bn1(self.cls_q(x))[:, :, None]).flatten(1)
        return _gate(self.fc_scale(z)) * self.cls(x) + self.cls_p(latent)


@dataclass(frozen=True)
class DCDConvolutions(Method):
    """DCD in the blocks of a ResNet, but for what downsamples, and in its classifier, which has another name then."""

    kind: ClassVar[str] = "DCD"

    def recognises(self, shapes: Shapes) -> bool:
        return any(name.endswith(".fc_phi.weight") for name in shapes)

    def classes(self, shapes: Shapes) -> int | None:
        return shapes[_CLASSES][0] if _CLASSES in shapes else None

    def installed(self, network: nn.Module, backbone: Backbone) -> nn.Module:
        found = {place.name: place for place in places(network)}
        pool = 1 if "layer1.0.conv3" in found else 2
        inner = {name: place for name, place in found.items() if name.startswith("layer") and "downsample" not in name}
        replace_layers(network, {name: DCD(place, pool) for name, place in inner.items()})
        assert isinstance(network, ResNet)
        network.rename_classifier("classifier", nn.Sequential(DCDClassifier(found["fc"])))
        return network
