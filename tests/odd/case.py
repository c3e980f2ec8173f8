"""An odd network, and what becomes of it: it goes through with the right numbers, or is refused in one sentence."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

WIDTH = 8
CLASSES = 5


@dataclass(frozen=True)
class Case:
    """One network.

    Attributes:
        build: makes it, untrained.
        shape: (c, h, w) of its images.
        refusal: a part of the sentence that refuses it; empty where it goes through.
        code: the exit code with which it is refused.
        rounds: whether it rounds to half precision itself; what it computes in float64 is what is right then.
    """

    build: Callable[[], nn.Module]
    shape: tuple[int, int, int] = (3, 10, 12)
    refusal: str = ""
    code: int = 3
    rounds: bool = False


class Small(nn.Module):
    """Convolution, BatchNorm, ReLU, whatever a subclass puts into `middle`, means, a classifier."""

    def __init__(self, channels: int = 3, middle: nn.Module | None = None, width: int = WIDTH) -> None:
        super().__init__()
        self.stem = nn.Conv2d(channels, WIDTH, 3, padding=1)
        self.norm = nn.BatchNorm2d(WIDTH)
        self.inner = middle if middle is not None else nn.Identity()
        self.classes = nn.Linear(width, CLASSES)

    def begin(self, x: Tensor) -> Tensor:
        return F.relu(self.norm(self.stem(x)))

    def middle(self, x: Tensor) -> Tensor:
        return self.inner(x)

    def end(self, x: Tensor) -> Tensor:
        return self.classes(x.mean((2, 3)))

    def forward(self, x: Tensor) -> Tensor:
        return self.end(self.middle(self.begin(x)))


class Written(Small):
    """A `Small` network whose middle is written as a function of the network and the map [n, 8, h, w].

    `parts` become its attributes: modules, parameters, tensors or anything else.
    """

    def __init__(self, function: Callable[[Written, Tensor], Tensor], **parts: object) -> None:
        super().__init__(width=int(parts.pop("width", WIDTH)))  # type: ignore[call-overload]
        self.function = function
        for name, part in parts.items():
            setattr(self, name, part)

    def middle(self, x: Tensor) -> Tensor:
        return self.function(self, x)


class Whole(Written):
    """The same for a network whose whole forward is such a function."""

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self, x)


def with_middle(make: Callable[[], nn.Module], width: int = WIDTH, shape: tuple[int, int, int] = (3, 10, 12)) -> Case:
    """A `Small` network around a layer that returns `width` channels."""
    return Case(lambda: Small(shape[0], make(), width), shape)


def written(function: Callable[[Written, Tensor], Tensor], refusal: str = "", **parts: Callable[[], object]) -> Case:
    """A `Written` network; every part is made anew."""
    return Case(lambda: Written(function, **{name: make() for name, make in parts.items()}), refusal=refusal)


def whole(function: Callable[[Written, Tensor], Tensor], refusal: str = "", **parts: Callable[[], object]) -> Case:
    """A `Whole` network; every part is made anew."""
    return Case(lambda: Whole(function, **{name: make() for name, make in parts.items()}), refusal=refusal)


def train(module: nn.Module, seed: int = 0) -> None:
    """Give `module` BatchNorm statistics as training leaves them."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for layer in module.modules():
            held = dict(layer.named_buffers(recurse=False))  # `getattr` would ask the network, which may answer oddly
            for name, low, high in (("running_mean", -0.5, 0.5), ("running_var", 0.5, 2.0)):
                value = held.get(name)
                if isinstance(value, Tensor):
                    value.copy_(torch.empty(value.shape).uniform_(low, high, generator=generator))
