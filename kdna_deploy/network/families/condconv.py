"""CondConv: conditionally parameterised convolution (Yang et al. 2019), with timm's layer and names.

    π(x) = σ(routing_fn GAP(x))                                   Σ π ≠ 1
    y    = conv(x, Σ_i π_i W_i)                                   W_i a row of [K, c'·c/g·k²]

A block routes once, by its own input, for all of its convolutions. No ResNet of it was published. Here the last three
blocks and the classifier have eight kernels, as the paper has it for its ResNet-50: ResNet-18 has 81.35 M parameters
so, those that are printed.

    <block>.routing_fn.{weight [K, c], bias [K]}                  of the classifier: fc.routing_fn
    <conv>.weight [K, c'·c/g·k²]                                  fc: weight [K, classes·c], bias [K, classes]
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdna_deploy.network.backbone import Backbone, Shapes
from kdna_deploy.network.families.per_image import convolve_each, fresh_bank, mixed, pooled
from kdna_deploy.network.method import Gated, Method, Place, places, replace_layers

_BLOCKS = 3
_ROUTING = "routing_fn.weight"


class CondConv(nn.Module):
    """x [n, c, h, w] with coefficients [n, K] → [n, c', h', w']."""

    def __init__(self, place: Place, kernels: int) -> None:
        super().__init__()
        self.place = place
        bank = fresh_bank(kernels, place)
        self.shape = tuple(bank.shape[1:])
        self.weight = nn.Parameter(bank.detach().flatten(1))

    def forward(self, x: Tensor, coefficients: Tensor) -> Tensor:
        bank = self.weight.reshape(-1, *self.shape)
        return convolve_each(x, mixed(coefficients, bank), self.place)


class CondLinear(nn.Module):
    """The classifier: features [n, c] → logits [n, classes], weight and bias mixed by the features themselves."""

    def __init__(self, place: Place, kernels: int) -> None:
        super().__init__()
        self.c_in = place.c_in
        drawn = [nn.Linear(place.c_in, place.c_out) for _ in range(kernels)]
        self.weight = nn.Parameter(torch.stack([one.weight.detach().flatten() for one in drawn]))
        self.bias = nn.Parameter(torch.stack([one.bias.detach() for one in drawn]))
        self.routing_fn = nn.Linear(place.c_in, kernels)

    def forward(self, x: Tensor) -> Tensor:
        # Σ π_i (W_i x) in place of (Σ π_i W_i) x: one product with all kernels, and no kernel for each image.
        coefficients = torch.sigmoid(self.routing_fn(x))
        answers = (x @ self.weight.reshape(-1, self.c_in).t()).reshape(x.shape[0], *self.bias.shape) + self.bias
        return (coefficients[:, :, None] * answers).sum(1)


class RoutedBlock(nn.Module):
    """A block of a ResNet with its BatchNorms and downsampling, whose convolutions have the coefficients in common."""

    def __init__(self, block: nn.Module, c_in: int, kernels: int) -> None:
        super().__init__()
        for name, part in block.named_children():
            self.add_module(name, part)
        self.downsample: nn.Module | None = getattr(block, "downsample", None)
        self.routing_fn = nn.Linear(c_in, kernels)

    def forward(self, x: Tensor) -> Tensor:
        coefficients = torch.sigmoid(self.routing_fn(pooled(x).flatten(1)))
        out, norms = x, [name for name, _ in self.named_children() if name.startswith("bn")]
        for number, norm in enumerate(norms, start=1):
            out = F.relu(out) if number > 1 else out
            out = self.get_submodule(norm)(self.get_submodule(f"conv{number}")(out, coefficients))
        return F.relu(out + (x if self.downsample is None else self.downsample(x)))


@dataclass(frozen=True)
class CondConvolutions(Method):
    """CondConv in the last blocks of a ResNet and in its classifier."""

    kernels: int = 8
    kind: ClassVar[str] = "CondConv"
    told: ClassVar[tuple[str, ...]] = ("kernels",)

    def recognises(self, shapes: Shapes) -> bool:
        return any(name.endswith(_ROUTING) for name in shapes)

    def fitted(self, backbone: Backbone, shapes: Shapes) -> CondConvolutions:
        return replace(self, kernels=next(shape[0] for name, shape in shapes.items() if name.endswith(_ROUTING)))

    def classes(self, shapes: Shapes) -> int | None:
        return shapes["fc.bias"][1] if "fc.bias" in shapes else None

    def installed(self, network: nn.Module, backbone: Backbone) -> nn.Module:
        blocks: dict[str, Any] = {name: part for name, part in network.named_modules() if isinstance(part, Gated)}
        for name in list(blocks)[-_BLOCKS:]:
            block = blocks[name]
            inside = {place.name: place for place in places(block) if "downsample" not in place.name}
            replace_layers(block, {inner: CondConv(place, self.kernels) for inner, place in inside.items()})
            replace_layers(network, {name: RoutedBlock(block, inside["conv1"].c_in, self.kernels)})
        classifier = next(place for place in places(network) if place.name == "fc")
        replace_layers(network, {"fc": CondLinear(classifier, self.kernels)})
        return network
