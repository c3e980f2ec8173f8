"""Why an accuracy may fall short of the recorded one: the usual mistakes, each tried on some of the images.

    class order     read off the confusions: nearly all images of a class are taken for one other class of their own
    input size      the network as it was trained, at the size of the images and at usual ones
    preprocessing   as recorded, ImageNet's, 0.5 / 0.5, 0 / 1; red and blue exchanged; the images without the crop

A cause is named when it brings back at least half of what is missing; the first that brings back all of it, else the
one that brings back most.

Does not apply to engines and to networks of a user's own code for the input size: those are not run at other sizes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from kdna_deploy.errors import KdnaError
from kdna_deploy.evaluation.accuracy import Evaluation, Sums
from kdna_deploy.evaluation.accuracy_check import Shortfall, find_shortfall
from kdna_deploy.evaluation.model_record import ModelRecord
from kdna_deploy.evaluation.workers.pool import Pool
from kdna_deploy.evaluation.workers.task import ModelFile, Task, file_shards
from kdna_deploy.extras import converter_installed
from kdna_deploy.graph.provenance import Provenance, find_source
from kdna_deploy.images.file import open_image, pillow_silenced
from kdna_deploy.images.labelled import LabelledImages
from kdna_deploy.images.preprocessing import MEAN, STD, Preprocessing
from kdna_deploy.progress import SILENT, Listener

_IMAGES = 100
_BATCH = 25
_USUAL_SIZES = (32, 64, 96, 128, 160)
_OWN_CLASS = 0.8  # share of a class that must be taken for the same other class

_NOT_FOUND = (
    "the usual causes were tried and do not explain it: {}mean and std, colour order, crop, class order{}; or the "
    "images are of another kind than those that the checkpoint was tested on"
)
_NO_SIZES = ", but not other input sizes, which are tried on the checkpoint, where it and PyTorch are there"


@dataclass(frozen=True)
class Trial:
    """One thing done differently: `says` names it, with the remedy."""

    says: str
    model: ModelFile
    images: LabelledImages


def likely_cause(
    shortfall: Shortfall,
    evaluation: Evaluation,
    model: ModelRecord,
    file: ModelFile,
    images: LabelledImages,
    pool: Pool,
    listener: Listener = SILENT,
) -> str:
    """What is likely wrong with an evaluation of the model in `file` that falls short, or that nothing was found."""
    if order := _class_order(evaluation, images.classes):
        return order
    found: list[tuple[int, int, str]] = []
    batch = model.session.batch
    base, count = _right(pool, Trial("", file, images), batch)
    needed = base + max(1, round((shortfall.recorded - shortfall.right / shortfall.images) * count / 2))
    of_any_size = file if model.any_size else _as_trained(model.provenance, file.path)
    for trial in _trials(model, file, of_any_size, images):
        listener.step(f"look for the cause: {trial.says.partition(':')[0]}")
        with suppress(KdnaError):  # such as a size that the network does not take
            right, _ = _right(pool, trial, batch if trial.model == file else None)
            if right >= needed:
                found.append((right, -len(found), trial.says))
                if find_shortfall(right, count, 100 * shortfall.recorded) is None:
                    break
    if not found:
        return _NOT_FOUND.format("input size, ", "") if of_any_size else _NOT_FOUND.format("", _NO_SIZES)
    right, _, says = max(found)
    return f"{says} ({right} of {count} images right that way, {base} as it was done)"


def _class_order(evaluation: Evaluation, names: dict[int, str]) -> str | None:
    taken = {}
    for one in evaluation.classes:
        if one.taken_for and one.taken_for[0][1] >= _OWN_CLASS * one.images:
            taken[one.label] = one.taken_for[0][0]
    if 2 * len(taken) <= len(evaluation.classes) or len(set(taken.values())) < len(taken):
        return None
    label, given = next(iter(sorted(taken.items())))
    return (
        f"class order: images of '{names[label]}' are taken for class {given}, and so on for {len(taken)} of "
        f"{len(evaluation.classes)} classes, each for one of its own; name the folders by the numbers of their classes"
    )


def _trials(
    model: ModelRecord, file: ModelFile, of_any_size: ModelFile | None, images: LabelledImages
) -> Iterator[Trial]:
    if of_any_size is not None:
        yield from _sizes(model, of_any_size, images)
    if model.session.interface.layout:
        return  # what it takes is prepared within it
    used = images.preprocessing
    for says, other in _preparations(model.preprocessing, used, images.image_shape):
        if other != used:
            yield Trial(says, file, replace(images, preprocessing=other))


def _preparations(
    recorded: Preprocessing | None, used: Preprocessing, shape: tuple[int, int, int]
) -> Iterable[tuple[str, Preprocessing]]:
    one = used.channels == 1
    if recorded is not None and recorded.channels == used.channels:
        yield "preprocessing: give no `mean`, `std`, `resize`, `crop` or `color`, so that the recorded apply", recorded
    imagenet = (sum(MEAN) / 3,), (sum(STD) / 3,)
    yield (
        "normalisation: ImageNet's mean and std",
        replace(used, mean=imagenet[0] if one else MEAN, std=imagenet[1] if one else STD),
    )
    yield "normalisation: `mean=0.5, std=0.5`", replace(used, mean=(0.5,), std=(0.5,))
    yield "normalisation: `mean=0, std=1`", replace(used, mean=(0.0,), std=(1.0,))
    if not one:
        other = "BGR" if used.color == "RGB" else "RGB"
        yield f"colour order: `color={other!r}`", replace(used, color=other)  # type: ignore[arg-type]
    yield f"crop: `resize={min(shape[1:])}`", replace(used, resize=min(shape[1:]), crop=None)


def _sizes(model: ModelRecord, other: ModelFile, images: LabelledImages) -> Iterator[Trial]:
    c, *given = images.image_shape
    sizes = [*_own_sizes(images), *((side, side) for side in _USUAL_SIZES if model.size_assumed)]
    what = "give" if model.any_size else "make it again with"
    for h, w in dict.fromkeys(sizes):
        if [h, w] != given:
            text = str(h) if h == w else f"'{h}x{w}'"
            yield Trial(f"input size: {what} `input_size={text}`", other, replace(images, image_shape=(c, h, w)))


def _as_trained(made: Provenance | None, path: Path) -> ModelFile | None:
    """The network that an artifact was made from, where it is known and takes any size."""
    if made is None or made.factory or not converter_installed():  # a user's own code is never run unasked
        return None
    with suppress(KdnaError):
        source = find_source(made, path)
        return ModelFile(source, None, made.loading(source), made.ema)
    return None


def _own_sizes(images: LabelledImages) -> list[tuple[int, int]]:
    """The size of the images themselves, where most have the same."""
    sizes = []
    for file, _ in _some(images):
        with suppress(KdnaError), pillow_silenced():
            picture = open_image(file, "L")
            sizes.append((picture.height, picture.width))
    most = max(set(sizes), key=sizes.count, default=None)
    return [most] if most and sizes.count(most) > len(sizes) / 2 and max(most) <= 512 else []


def _some(images: LabelledImages) -> list[tuple[Path, int]]:
    """Evenly spaced files of all classes."""
    places = np.linspace(0, len(images.files) - 1, min(_IMAGES, len(images.files)))
    return [images.files[round(place)] for place in places]


def _right(pool: Pool, trial: Trial, fixed: int | None) -> tuple[int, int]:
    """How many of some images are recognised, of how many; `fixed` is the only batch size that the model takes."""
    shards = file_shards(_some(trial.images), trial.images, fixed or _BATCH, fixed is not None)
    sums = Sums()
    for done in pool.done(Task(trial.model, None, shard) for shard in shards):
        sums.add(done.sums)
    return sums.right, sums.images
