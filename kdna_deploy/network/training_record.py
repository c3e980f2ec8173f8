"""What a training script recorded of its images beside the weights: size, normalisation, classes; and their licence.

Scripts store their options as ``args`` (a Namespace or a mapping), under one of a few usual names. What is not there,
or not of the expected kind, is not known: nothing is guessed from a value that could mean something else.

Does not apply to bare state dicts and ``.safetensors``, which record nothing.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kdna_deploy.errors import UsageError
from kdna_deploy.images.preprocessing import MEAN, STD, Preprocessing
from kdna_deploy.json_schema import is_plain

_OPTIONS = ("args", "hyper_parameters", "hparams", "config", "cfg", "opt")
# What the network is evaluated with comes before what it is trained with.
_SIZES = ("val_crop_size", "input_size", "img_size", "image_size", "imgsz", "crop_size", "resolution")
_RESIZES = ("val_resize_size", "resize_size")
_LONGEST_NAME = 1000
_CLASSES = ("classes", "class_names", "class_to_idx")
_LICENCES = ("license", "licence")
_LARGEST_SIZE = 4096


@dataclass(frozen=True)
class TrainingRecord:
    """What is recorded; None, or empty, where nothing is.

    Attributes:
        size: (h, w) of the network's input.
        preprocessing: with the mean and deviation, or the resizing, that are recorded.
        class_names: in the order of the logits.
        licence: of the weights, by its name.
        notes: what is recorded and not believed, a sentence each.
    """

    size: tuple[int, int] | None = None
    preprocessing: Preprocessing | None = None
    class_names: tuple[str, ...] = ()
    licence: str = ""
    notes: tuple[str, ...] = ()

    def preprocessing_record(self) -> dict[str, Any] | None:
        """As it is written into JSON."""
        return self.preprocessing.to_record() if self.preprocessing else None


def training_record(content: object) -> TrainingRecord:
    """Read what the container `content` of a checkpoint records."""
    places = list(_places(content))
    if not places:
        return TrainingRecord()
    size = _first(places, _SIZES, _size)
    classes, licence = _first(places, _CLASSES, _class_names), _first(places, _LICENCES, _licence)
    mean, std = (_first(places, (name,), _values) for name in ("mean", "std"))
    strange = _not_of_pixels(mean, std)
    preprocessing = None if strange else _preprocessing(places, size, mean, std)
    return TrainingRecord(size, preprocessing, classes or (), licence or "", strange)


def _places(content: object) -> list[Mapping[str, Any]]:
    """The options, then the container itself."""
    if not isinstance(content, Mapping):
        return []
    options = [content.get(name) for name in _OPTIONS]
    options = [vars(entry) if isinstance(entry, argparse.Namespace) else entry for entry in options]
    return [entry for entry in (*options, content) if isinstance(entry, Mapping)]


def _first(places: Sequence[Mapping[str, Any]], names: Sequence[str], read: Any) -> Any:
    found = (read(place[name]) for place in places for name in names if name in place)
    return next((value for value in found if value is not None), None)


def _size(value: object) -> tuple[int, int] | None:
    """224, "224", (h, w) or (c, h, w)."""
    if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) < 5:
        value = int(value)
    sides = [value, value] if _is_integer(value) else value
    if not isinstance(sides, (list, tuple)) or len(sides) not in (2, 3):
        return None
    h, w = sides[-2:]
    whole = _is_integer(h) and _is_integer(w) and 1 <= min(h, w) <= max(h, w) <= _LARGEST_SIZE
    return (int(h), int(w)) if whole else None


def _not_of_pixels(mean: tuple[float, ...] | None, std: tuple[float, ...] | None) -> tuple[str, ...]:
    """What is to be said of values that are not of pixels in 0..1: those of pixels in 0..255, or of something else."""
    given = {"mean": mean or (), "std": std or ()}
    strange = {name: values for name, values in given.items() if not all(0 <= value <= 1 for value in values)}
    if not strange:
        return ()
    shown = " and ".join(f"{name} ({' '.join(f'{v:.4g}' for v in values)})" for name, values in strange.items())
    are = "are" if len(strange) > 1 else "is"
    return (f"the recorded {shown} {are} not of pixels in 0..1, so that how images were prepared is not known",)


def _preprocessing(
    places: Sequence[Mapping[str, Any]],
    size: tuple[int, int] | None,
    mean: tuple[float, ...] | None,
    std: tuple[float, ...] | None,
) -> Preprocessing | None:
    resize = _first(places, _RESIZES, _side)
    share = _first(places, ("crop_pct",), _share)
    if resize is None and share and size:
        resize = math.floor(min(size) / share)
    if mean is None and std is None and resize is None:
        return None
    grey = 1 in (len(mean or ()), len(std or ()))
    try:
        return Preprocessing(mean or MEAN, std or STD, resize, None, "L" if grey else "RGB")
    except UsageError:  # such as a deviation of 0: then nothing is known
        return None


def _values(value: object) -> tuple[float, ...] | None:
    if not isinstance(value, (list, tuple)) or len(value) not in (1, 3):
        return None
    numbers = all(isinstance(entry, (int, float)) and not isinstance(entry, bool) for entry in value)
    try:
        return tuple(float(entry) for entry in value) if numbers else None
    except OverflowError:
        return None


def _side(value: object) -> int | None:
    return int(value) if _is_integer(value) and 1 <= value <= _LARGEST_SIZE else None  # type: ignore[call-overload,operator]


def _share(value: object) -> float | None:
    return float(value) if isinstance(value, (int, float)) and 0.1 <= value <= 1 else None


def _class_names(value: object) -> tuple[str, ...] | None:
    """A list of names, or names with their labels."""
    if isinstance(value, Mapping):
        labels = list(value.values())
        if not all(map(_is_integer, labels)) or sorted(labels) != list(range(len(labels))):
            return None
        value = [name for name, _ in sorted(value.items(), key=lambda entry: entry[1])]
    if not isinstance(value, (list, tuple)) or not value or not all(map(_is_name, value)):
        return None
    return tuple(value) if len(set(value)) == len(value) else None


def _licence(value: object) -> str | None:
    return value.strip() or None if isinstance(value, str) and _is_name(value) else None


def _is_name(value: object) -> bool:
    """A text that provenance may hold."""
    return isinstance(value, str) and len(value) <= _LONGEST_NAME and is_plain(value)


def _is_integer(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
