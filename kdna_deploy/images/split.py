"""Which images calibrate, and which are kept to judge by: never the same ones.

    --held-out given    calibrate on all of --calibration, judge on --held-out
    otherwise           every fifth image of --calibration judges, the others calibrate

Class folders give labels to those that judge. Without labels the float32 file's own answers stand in for them. Class
folders of --calibration that cannot be the network's classes are no labels, which a note says; those of --held-out
are refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from kdna_deploy.errors import InputError
from kdna_deploy.images.batch import Images, Shape
from kdna_deploy.images.class_folders import ClassFolders, has_class_folders
from kdna_deploy.images.class_labels import listed
from kdna_deploy.images.folder import ImageSource, Preprocessing
from kdna_deploy.images.labelled import LabelledImages, Labels, in_batches
from kdna_deploy.images.record import image_record
from kdna_deploy.progress import SILENT, Listener

BATCH = 8
_EVERY = 5
EVERY_FIFTH = f"1 in {_EVERY}"


@dataclass(frozen=True)
class Split:
    """Two streams of images that can be opened again and again.

    Attributes:
        calibration: batches of float32 images [n, c, h, w].
        held_out: batches with labels [n], `FILLER` for what only fills up a batch; None for all where there are none.
        labelled: whether there are labels.
        record: where the images come from, for the provenance.
        notes: what a user should know, a sentence each.
    """

    calibration: Callable[[], Iterable[Images]]
    held_out: Callable[[], Iterable[tuple[Images, Labels | None]]]
    labelled: bool
    record: dict[str, object]
    notes: tuple[str, ...] = ()


def split_images(
    calibration: Path,
    held_out: Path | None,
    shape: Shape,
    preprocessing: Preprocessing,
    outputs: int,
    batch: int | None = None,
    listener: Listener = SILENT,
    class_names: tuple[str, ...] = (),
) -> Split:
    """Open the images of a quantisation. `outputs` is the number of classes, `batch` the only size that a model takes.

    Raises:
        InputError: there are too few images to split, or held-out class folders that cannot be the network's classes.
    """
    source = ImageSource(calibration, shape, preprocessing, listener)
    labelled = partial(
        LabelledImages,
        image_shape=shape,
        preprocessing=preprocessing,
        listener=listener,
        class_names=class_names,
    )
    record: dict[str, object] = {"held_out": held_out.name if held_out else EVERY_FIFTH}
    record |= image_record(calibration, preprocessing)
    if held_out is None:
        require_enough(source, ", or more with `held_out`")
        if not has_class_folders(calibration):
            return _split_unlabelled(source, batch, record)
        images = labelled(calibration)
        obstacle = _obstacle(images, outputs)
        if obstacle is None:
            return _split_labelled(images, batch, record)
        note = f"the class folders are no labels, and the file is judged by its agreement with float32: {obstacle}"
        return _split_unlabelled(source, batch, record, (note,))
    if has_class_folders(held_out):
        images = labelled(held_out)
        images.check(outputs)
        judging = partial(images.batches, batch or BATCH, fixed=batch is not None)
        return Split(lambda: source.batches(batch), judging, True, record, images.found.notes)
    other = ImageSource(held_out, shape, preprocessing, listener)
    return Split(lambda: source.batches(batch), lambda: _unlabelled(other.batches(batch)), False, record)


def require_enough(source: ImageSource, otherwise: str = "") -> None:
    """Refuse images that are too few to be split; `otherwise` ends the remedy.

    Raises:
        InputError: they are.
    """
    if len(source) < 2 * _EVERY:
        raise InputError(
            f"'{source.path}' holds {len(source)} images, too few to calibrate with some and judge by others; "
            f"give at least {2 * _EVERY}{otherwise}."
        )


def _obstacle(images: LabelledImages, outputs: int) -> str | None:
    """Why class folders cannot be the network's classes; None where they can."""
    try:
        return images.found.problem(outputs) or _partly(images)
    except InputError as error:
        return str(error).rstrip(".")


def _partly(images: LabelledImages) -> str | None:
    """Images of classes that the network does not know may calibrate all the same."""
    unknown = isinstance(images.found, ClassFolders) and images.found.found.unknown
    return f"the network knows no class {listed(unknown)} as in '{images.path}'" if unknown else None


def _split_labelled(images: LabelledImages, batch: int | None, record: dict[str, object]) -> Split:
    def calibration() -> Iterator[Images]:
        kept = (image for number, (image, _) in enumerate(images.stream()) if not _judges(number))
        return _batches(kept, batch, images.path)

    def judging() -> Iterator[tuple[Images, Labels]]:
        kept = (entry for number, entry in enumerate(images.stream()) if _judges(number))
        return in_batches(kept, batch or BATCH, fixed=batch is not None)

    return Split(calibration, judging, True, record, images.found.notes)


def _split_unlabelled(
    source: ImageSource, batch: int | None, record: dict[str, object], notes: tuple[str, ...] = ()
) -> Split:
    def part(judges: bool) -> Iterator[Images]:
        images = (image for images in source.batches() for image in images)
        kept = (image for number, image in enumerate(images) if _judges(number) is judges)
        return _batches(kept, batch, source.path)

    return Split(lambda: part(False), lambda: _unlabelled(part(True)), False, record, notes)


def _judges(number: int) -> bool:
    """Whether the image of this number, of those that can be read, is kept to judge by."""
    return number % _EVERY == _EVERY - 1


def _batches(images: Iterable[Images], batch: int | None, path: Path) -> Iterator[Images]:
    """Images in batches; with `batch`, an incomplete last one is left out.

    Raises:
        InputError: not one batch is complete.
    """
    held: list[Images] = []
    batches = 0
    for image in images:
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
            f"'{path}' holds too few images that can be read for batches of {batch or 1}, once some are kept to "
            "judge by; give more, or others with `held_out`."
        )


def _unlabelled(batches: Iterable[Images]) -> Iterator[tuple[Images, None]]:
    for images in batches:
        yield images, None
