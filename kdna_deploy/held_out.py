"""Which images calibrate, and which are kept to judge by: never the same ones.

    --held-out given    calibrate on all of --calibration, judge on --held-out
    otherwise           every fifth image of --calibration judges, the others calibrate

Held-out class folders give labels. Without labels the float32 file's own answers stand in for them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from kdna_deploy.errors import InputError
from kdna_deploy.image_data import ImageSource, Preprocessing
from kdna_deploy.image_record import image_record
from kdna_deploy.labelled_images import LabelledImages, Labels
from kdna_deploy.runtimes.session import Images

BATCH = 8
_EVERY = 5
EVERY_FIFTH = f"1 in {_EVERY}"
Shape = tuple[int, int, int]


@dataclass(frozen=True)
class Split:
    """Two streams of images that can be opened again and again.

    Attributes:
        calibration: batches of float32 images [n, c, h, w].
        held_out: batches with labels [n], −1 where there are none.
        labelled: whether there are labels.
        record: where the images come from, for the provenance.
    """

    calibration: Callable[[], Iterable[Images]]
    held_out: Callable[[], Iterable[tuple[Images, Labels]]]
    labelled: bool
    record: dict[str, object]


def split_images(
    calibration: Path,
    held_out: Path | None,
    shape: Shape,
    preprocessing: Preprocessing,
    outputs: int,
    batch: int | None = None,
    on_unreadable: Callable[[Path], None] = lambda _: None,
) -> Split:
    """Open the images of a quantisation. `outputs` is the number of classes, `batch` the only size that a model takes.

    Raises:
        InputError: there are too few images to split, or held-out class folders that cannot be the network's classes.
    """
    source = ImageSource(calibration, shape, preprocessing, on_unreadable)
    record: dict[str, object] = {"held_out": held_out.name if held_out else EVERY_FIFTH}
    record |= image_record(calibration, preprocessing)
    if held_out is None:
        if len(source) < 2 * _EVERY:
            raise InputError(
                f"'{calibration}' holds {len(source)} images, too few to calibrate with some and judge by others; "
                f"give at least {2 * _EVERY}, or more with --held-out."
            )
        return Split(
            lambda: _regrouped(source, batch, lambda number: number % _EVERY != _EVERY - 1),
            lambda: _unlabelled(_regrouped(source, batch, lambda number: number % _EVERY == _EVERY - 1)),
            False,
            record,
        )
    if held_out.is_dir() and any(folder.is_dir() for folder in held_out.iterdir()):
        labelled = LabelledImages(held_out, shape, preprocessing, on_unreadable)
        labelled.check(outputs)
        judging = partial(labelled.batches, batch or BATCH, fixed=batch is not None)
        return Split(lambda: source.batches(batch), judging, True, record)
    other = ImageSource(held_out, shape, preprocessing, on_unreadable)
    return Split(lambda: source.batches(batch), lambda: _unlabelled(other.batches(batch)), False, record)


def _regrouped(source: ImageSource, batch: int | None, wanted: Callable[[int], bool]) -> Iterator[Images]:
    """The wanted images of a stream in new batches; with `batch`, an incomplete last one is left out.

    Raises:
        InputError: not one batch is complete.
    """
    held: list[Images] = []
    batches = 0
    images = (image for images in source.batches() for image in images)
    for image in (image for number, image in enumerate(images) if wanted(number)):
        held.append(image)
        if len(held) == (batch or BATCH):
            batches += 1
            yield np.stack(held)
            held = []
    if held and batch is None:
        batches += 1
        yield np.stack(held)
    if not batches:
        raise InputError(
            f"'{source.path}' holds too few images that can be read for batches of {batch or 1}, once some are kept to "
            "judge by; give more, or others with --held-out."
        )


def _unlabelled(batches: Iterable[Images]) -> Iterator[tuple[Images, Labels]]:
    for images in batches:
        yield images, np.full(len(images), -1)
