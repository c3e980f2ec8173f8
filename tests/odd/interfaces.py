"""What goes in and what comes out: signatures, channels, networks that edit their input, outputs of every kind."""

from __future__ import annotations

import collections
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.odd.case import CLASSES, WIDTH, Case, Small, Whole, whole

One = collections.namedtuple("One", ["logits"])


@dataclass
class Answer:
    logits: Tensor


def _returning(make: Any, refusal: str = "") -> Case:
    """A network that returns what `make` makes of the logits."""
    return whole(lambda m, x: make(m.end(m.begin(x))), refusal)


class Optional(Small):
    def forward(
        self, x: Tensor, mask: Tensor | None = None, scale: float = 2.0, *rest: Tensor, **options: Any
    ) -> Tensor:
        x = self.end(self.begin(x)) * scale
        return x if mask is None else x * mask


class KeywordOnly(Small):
    def forward(self, x: Tensor, *, scale: float = 2.0) -> Tensor:
        return super().forward(x) * scale


class Star(Small):
    def forward(self, *inputs: Tensor) -> Tensor:
        return super().forward(inputs[0])


class TwoInputs(Small):
    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return super().forward(x * mask)


class Renamed(Small):
    def forward(self, pixel_values: Tensor) -> Tensor:
        return super().forward(pixel_values)


class Auxiliary(Small):
    """Returns a second head in training alone."""

    def forward(self, x: Tensor) -> Any:
        x = self.begin(x)
        return (self.end(x), x) if self.training else self.end(x)


class HeadFirst(nn.Module):
    """Registers its layers from the last to the first."""

    def __init__(self, channels: int = 3) -> None:
        super().__init__()
        self.head = nn.Conv2d(WIDTH, CLASSES, 1)
        self.stem = nn.Conv2d(channels, WIDTH, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.relu(self.stem(x))).mean((2, 3))


class DepthAside(nn.Module):
    """Four channels: colours and depth go through stems of their own."""

    def __init__(self) -> None:
        super().__init__()
        self.colours, self.depth = nn.Conv2d(3, WIDTH, 3), nn.Conv2d(1, WIDTH, 3)
        self.classes = nn.Linear(2 * WIDTH, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        both = torch.cat([self.colours(x[:, :3]), self.depth(x[:, 3:])], 1)
        return self.classes(F.relu(both).mean((2, 3)))


class Patches(nn.Module):
    """No convolution at all: patches of 4 × 4 go through linear layers."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.classes = nn.Linear(3 * 16, WIDTH), nn.Linear(WIDTH, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        tokens = F.unfold(x, 4, stride=4).transpose(1, 2)
        return self.classes(F.gelu(self.embed(tokens)).mean(1))


class Flattened(nn.Module):
    """Fits one image size."""

    def __init__(self) -> None:
        super().__init__()
        self.classes = nn.Linear(2 * 8 * 8, CLASSES)
        self.stem = nn.Conv2d(1, 2, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.classes(self.stem(x).flatten(1))


class Volume(Small):
    """For volumes, not for images."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv3d(3, WIDTH, 3)
        self.norm = nn.BatchNorm3d(WIDTH)


class Sound(nn.Module):
    """For sequences [n, c, t], not for images."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv1d(3, WIDTH, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.stem(x).mean(2)


class Rows(nn.Module):
    """Reads an image as a sequence of its pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.classes = nn.Conv1d(3, WIDTH, 5), nn.Linear(WIDTH, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.classes(F.relu(self.stem(x.flatten(2))).mean(2))


def _first_channel(m: Whole, x: Tensor) -> Tensor:
    x[:, 0] = 0
    return m.end(m.begin(x))


def _plus_one(m: Whole, x: Tensor) -> Tensor:
    x += 1
    return m.end(m.begin(x))


def _two_objects(logits: Tensor) -> Any:
    return Answer(logits)


TABLE = {
    "optional_inputs": Case(Optional),
    "keyword_only": Case(KeywordOnly),
    "star_inputs": Case(Star),
    "two_inputs": Case(TwoInputs, refusal="mask"),
    "renamed_input": Case(Renamed),
    "auxiliary_in_training": Case(Auxiliary),
    "one_channel": Case(lambda: Small(1), (1, 10, 12)),
    "four_channels": Case(lambda: Small(4), (4, 10, 12)),
    "head_first_one_channel": Case(lambda: HeadFirst(1), (1, 10, 12)),
    "depth_aside": Case(DepthAside, (4, 10, 12)),
    "patches": Case(Patches, (3, 12, 12)),
    "one_size": Case(Flattened, (1, 8, 8)),
    "volume": Case(Volume, refusal="Conv3d"),
    "sound": Case(Sound, refusal="Conv1d"),
    "rows": Case(Rows),
    "multiplies_its_input": whole(lambda m, x: m.end(m.begin(x.mul_(2)))),
    "adds_to_its_input": whole(_plus_one),
    "clears_a_channel": whole(_first_channel),
    "dictionary": _returning(lambda y: {"logits": y}),
    "nested": _returning(lambda y: {"out": [(y,)]}),
    "named_tuple": _returning(lambda y: One(y)),
    "and_none": _returning(lambda y: (y, None)),
    "two_outputs": _returning(lambda y: (y, y * 2), "a tuple of 2 tensors"),
    "dictionary_of_two": _returning(lambda y: {"logits": y, "aux": y * 2}, "'logits' and 'aux'"),
    "object": _returning(_two_objects, "Answer"),
    "zero_d": _returning(lambda y: y.mean(), "a tensor without axes"),
    "nothing": _returning(lambda y: None, "None"),
    "a_number": _returning(lambda y: y.shape[1], "a number"),
    "text": _returning(lambda y: "cat", "str"),
    "one_axis": _returning(lambda y: y[:, 0]),
    "four_axes": _returning(lambda y: y[:, None, None]),
    "map": whole(lambda m, x: m.begin(x)),
    "argmax": _returning(lambda y: y.argmax(1)),
    "boolean": _returning(lambda y: y > 0),
    "complex": _returning(lambda y: torch.complex(y, y), "complex"),
    "no_columns": _returning(lambda y: y[:, :0], "empty"),
    "image_itself": whole(lambda m, x: x),
    "without_batch": _returning(lambda y: y.mean(0), "batch"),
    "top_two_and_where": _returning(lambda y: y.topk(2), "2 tensors"),
    "mask_column": _returning(lambda y: y + torch.tensor([0.0, 0.0, -1e4, 0.0, 0.0])),
}


def __getattr__(name: str) -> Any:
    """The factory of a case, by its name."""
    if name not in TABLE:
        raise AttributeError(name)
    return TABLE[name].build
