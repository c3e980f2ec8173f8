"""What a system other than KernelDNA puts in place of a backbone's convolutions, and behind its blocks.

    network = method.installed(backbone.build(None, classes), backbone)

A method takes the plain network apart where it differs: it says what stands in place of each convolution (`Place`), and
which gate stands in front of a block's residual sum (`Gated`). All else, key names too, stays the backbone's.
What all layers share, such as KernelWarehouse's warehouses, is registered on the whole network by the method's own
`installed`. Implementations are frozen dataclasses, one file a system in ``families/``.

Does not apply to KernelDNA, whose stages have other modules than the backbone's (`backbone.KernelDNA`).
"""

from __future__ import annotations

from abc import ABC
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, cast

from torch import Tensor, nn

from kdna_deploy.network.backbone import Backbone, Shapes

if TYPE_CHECKING:
    from typing_extensions import Self


@dataclass(frozen=True)
class Place:
    """A convolution of the plain network, or a linear layer (`linear`), which is one of 1×1.

    `name` is the module's; `kernel`, `stride` and `padding` are (h, w).
    """

    name: str
    c_in: int
    c_out: int
    kernel: tuple[int, int] = (1, 1)
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    groups: int = 1
    bias: bool = False
    linear: bool = False

    @property
    def depthwise(self) -> bool:
        return self.groups == self.c_in > 1

    @property
    def pointwise(self) -> bool:
        return self.kernel == (1, 1)


class Gated(nn.Module):
    """A block of `channels` in front of whose residual sum a gate can stand, under the name of the system's code."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels
        self.gate = ""

    def put(self, name: str, gate: nn.Module) -> None:
        self.add_module(name, gate)
        self.gate = name

    def gated(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.get_submodule(self.gate)(x)) if self.gate else x


class Method(ABC):
    """A system of layers; implementations are frozen dataclasses.

    Attributes:
        kind: what it is called in the literature.
        gate_name: of the modules that `gate` builds, within their block.
        told: fields that `fitted` reads from a checkpoint's shapes, or that are said; numbers, which artifacts record.
        averaged: whether the accuracy that is printed is that of averaged weights.
    """

    kind: ClassVar[str]
    gate_name: ClassVar[str] = ""
    told: ClassVar[tuple[str, ...]] = ()
    averaged: bool = False

    @property
    def of_classifier(self) -> bool:
        """Whether the classifier is this system's as well, so that the network cannot go without."""
        return False

    def recognises(self, shapes: Shapes) -> bool:
        """Whether a checkpoint has names or shapes that only this system's have; cheap, before anything is built."""
        return False

    def fitted(self, backbone: Backbone, shapes: Shapes) -> Self:
        """The same system with what the shapes of a checkpoint tell of it; `backbone` has their widths.

        Raises:
            KeyError: when an entry that tells a size is not there.
        """
        return self

    @property
    def recorded(self) -> str:
        """What checkpoints record as their ``system`` and ``variant``, where shapes leave a choice; else empty."""
        return ""

    @property
    def unsaid(self) -> str:
        """What is in no checkpoint and has to be said, as a clause; empty where nothing is left to say."""
        return ""

    def classes(self, shapes: Shapes) -> int | None:
        """Number of classes of a checkpoint whose classifier is not the backbone's; None otherwise."""
        return None

    def convolution(self, place: Place) -> nn.Module | None:
        """What stands in place of a layer of the backbone; None where that stays as it is."""
        return None

    def gate(self, block: str, channels: int) -> nn.Module | None:
        """What stands behind the last normalisation of the block of this name; None where nothing does."""
        return None

    def merged(self, network: nn.Module) -> dict[str, Tensor] | None:
        """The float64 state dict with which the plain backbone computes the same; None where there is none.

        `network` is in float64.
        """
        return None

    def installed(self, network: nn.Module, backbone: Backbone) -> nn.Module:
        """The plain `network`, which is changed, with this system's layers."""
        replace_layers(network, {place.name: self.convolution(place) for place in places(network)})
        for name, block in [(name, block) for name, block in network.named_modules() if isinstance(block, Gated)]:
            gate = self.gate(name, block.channels)
            if gate is not None:
                block.put(self.gate_name, gate)
        return network


def places(network: nn.Module) -> list[Place]:
    """Convolutions and linear layers of a plain network, in the order of its modules."""
    found = []
    for name, layer in network.named_modules():
        if isinstance(layer, nn.Conv2d):
            kernel, stride = cast("tuple[int, int]", layer.kernel_size), cast("tuple[int, int]", layer.stride)
            padding = cast("tuple[int, int]", layer.padding)
            sizes = (layer.in_channels, layer.out_channels, kernel, stride, padding, layer.groups)
            found.append(Place(name, *sizes, bias=layer.bias is not None))
        elif isinstance(layer, nn.Linear):
            has_bias = layer.bias is not None
            found.append(Place(name, layer.in_features, layer.out_features, bias=has_bias, linear=True))
    return found


def replace_layers(network: nn.Module, layers: Mapping[str, nn.Module | None]) -> None:
    """Put `layers` in the places of these names; None leaves what is there."""
    for name, layer in layers.items():
        owner, _, leaf = name.rpartition(".")
        if layer is not None:
            setattr(network.get_submodule(owner), leaf, layer)


def c_out(shapes: Shapes, convolution: str, *vectors: str) -> int:
    """Output channels of a layer: of its kernel [c', c, k, k], or, where that is a bank or computed, the length of the
    first of `vectors` (full names, such as the normalisation's behind it) that is there.

    Raises:
        KeyError: none is there.
    """
    kernel = shapes.get(f"{convolution}.weight", ())
    found = (shapes[name] for name in vectors if len(shapes.get(name, ())) == 1)
    told = kernel if len(kernel) == 4 else next(found, ())
    if not told:
        raise KeyError(f"{convolution}.weight")
    return told[0]


def c_in(shapes: Shapes, convolution: str) -> int:
    """Input channels of a layer without groups: of its kernel [c', c, k, k], its bank [K, c', c, k, k], or the first
    layer of its attention [hidden, c].

    Raises:
        KeyError: none is there.
    """
    kernel = shapes.get(f"{convolution}.weight", ())
    if len(kernel) in (4, 5):
        return kernel[-3]
    return shapes[f"{convolution}.attention.fc1.weight"][1]
