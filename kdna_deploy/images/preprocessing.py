"""How an image file becomes network input, and what is recorded of it.

    pixel/255 → (· − mean) / std        ImageNet's mean and standard deviation where nothing else is known

What a user says comes first, then what the checkpoint or the artifact records, then ImageNet's: one value at a time.

Does not apply to array files, whose images are normalised already.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal, get_args

from kdna_deploy.errors import ArtifactError, UsageError

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
LARGEST_SIDE = 8192

Color = Literal["RGB", "BGR", "L"]


@dataclass(frozen=True)
class Preprocessing:
    """How an image file becomes network input.

    Attributes:
        mean, std: for each channel, of pixels in 0..1; one value stands for all channels.
        resize: shorter side in pixels; None for 8/7 of the shorter side of the input.
        crop: centre crop (h, w); None for the input size. Another crop is scaled to the input size.
        color: channel order.

    Raises:
        UsageError: a mean, deviation or size that is none.
    """

    mean: tuple[float, ...] = MEAN
    std: tuple[float, ...] = STD
    resize: int | None = None
    crop: tuple[int, int] | None = None
    color: Color = "RGB"

    def __post_init__(self) -> None:
        refusal = next((text for wrong, text in self._refusals() if wrong), None)
        if refusal:
            raise UsageError(refusal)

    def _refusals(self) -> list[tuple[bool, str]]:
        channels = len(self.color)
        sides = [side for side in (self.resize, *(self.crop or ())) if side is not None]
        return [
            (
                not all(map(math.isfinite, (*self.mean, *self.std))),
                "`mean` and `std` are finite numbers, of pixels in 0..1.",
            ),
            (any(value <= 0 for value in self.std), "`std` divides: every value must be greater than 0."),
            (
                any(len(values) not in (1, channels) for values in (self.mean, self.std)),
                f"`mean` has {len(self.mean)} and `std` {len(self.std)} values for images in {self.color}; give one "
                "for each channel, or one for all.",
            ),
            (
                any(not 1 <= side <= LARGEST_SIDE for side in sides),
                f"`resize` and `crop` are sizes in pixels, from 1 to {LARGEST_SIDE}.",
            ),
        ]

    @property
    def channels(self) -> int:
        """Of the images that it makes."""
        return len(self.color)

    def to_record(self) -> dict[str, Any]:
        """As it is written into provenance and JSON."""
        return {
            "mean": list(self.mean),
            "std": list(self.std),
            "resize": self.resize,
            "crop": list(self.crop) if self.crop else None,
            "color": self.color,
        }

    def __str__(self) -> str:
        parts = [f"mean {_values(self.mean)}", f"std {_values(self.std)}"]
        parts += [f"resize {self.resize}"] if self.resize else []
        parts += [f"crop {self.crop[0]}×{self.crop[1]}"] if self.crop else []
        return ", ".join([*parts, self.color])


@dataclass(frozen=True)
class AskedPreprocessing:
    """What a user says about preprocessing; None where nothing was said."""

    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    resize: int | None = None
    crop: tuple[int, int] | None = None
    color: Color | None = None

    def check(self) -> None:
        """Refuse what makes no sense whatever is recorded.

        Raises:
            UsageError: a mean, deviation or size that is none, or as many values as no image has channels.
        """
        counts = {len(values) for values in (self.mean, self.std) if values is not None}
        color = self.color or ("L" if counts == {1} else "RGB")
        Preprocessing(self.mean or (0.0,), self.std or (1.0,), self.resize, self.crop, color)

    def over(self, recorded: Preprocessing | None = None) -> Preprocessing:
        """What applies: what was said, then what is `recorded`, then ImageNet's.

        Raises:
            UsageError: a mean, deviation or size that is none.
        """
        color = self.color or (recorded.color if recorded else "RGB")
        if recorded is None or recorded.channels != len(color):  # a mean of colours says nothing about grey
            recorded = Preprocessing((sum(MEAN) / 3,), (sum(STD) / 3,), None, None, color) if color == "L" else None
        recorded = recorded or Preprocessing()
        return Preprocessing(
            mean=recorded.mean if self.mean is None else self.mean,
            std=recorded.std if self.std is None else self.std,
            resize=recorded.resize if self.resize is None else self.resize,
            crop=recorded.crop if self.crop is None else self.crop,
            color=color,
        )

    def note(self, recorded: Preprocessing | None, where: str) -> str | None:
        """What is taken from the record in `where`, or differs from it; None where nothing is recorded."""
        if recorded is None:
            return None
        if (used := self.over(recorded)) == recorded:
            return f"images are prepared as {where} records: {recorded}"
        return f"images are prepared with {used}, though {where} records {recorded}"

    def assumed(self, recorded: Preprocessing | None, where: str) -> str | None:
        """What was neither said nor is recorded in `where`, and is therefore merely assumed; None where nothing is."""
        if recorded is not None or (self.mean is not None and self.std is not None):
            return None
        missing = [f"`{name}`" for name in ("mean", "std") if getattr(self, name) is None]
        return (
            f"assumed for images: {self.over()}, for nothing in {where} tells how they were prepared for training; "
            f"give {' and '.join(missing)}"
        )


def from_record(record: object, where: str) -> Preprocessing | None:
    """The preprocessing of a `to_record` dictionary; None where it is empty.

    Raises:
        ArtifactError: it is damaged. `where` names the artifact.
    """
    if record is None or record == {}:
        return None
    try:
        return _restored(record)
    except (TypeError, ValueError, LookupError, OverflowError, UsageError) as error:
        raise ArtifactError(f"The preprocessing recorded in '{where}' is damaged; make the artifact again.") from error


def _restored(record: object) -> Preprocessing:
    if not isinstance(record, Mapping) or set(record) != {entry.name for entry in fields(Preprocessing)}:
        raise TypeError
    if record["color"] not in get_args(Color):
        raise ValueError
    crop = record["crop"]
    return Preprocessing(
        mean=_numbers(record["mean"]),
        std=_numbers(record["std"]),
        resize=None if record["resize"] is None else _integer(record["resize"]),
        crop=None if crop is None else (_integer(crop[0]), _integer(crop[1])),
        color=record["color"],
    )


def _numbers(values: object) -> tuple[float, ...]:
    if not isinstance(values, Sequence) or isinstance(values, (str, bytes)):
        raise TypeError
    if not all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in values):
        raise TypeError
    return tuple(float(value) for value in values)


def _integer(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError
    return value


def _values(values: tuple[float, ...]) -> str:
    return " ".join(f"{value:.4g}" for value in values)
