"""Images → the classes that a network takes them for.

    probabilities = softmax(logits)      in float64; of a network that ends in a softmax, what it answers

One inference an image, or as many images as the file's fixed batch takes, the last filled up by repetition. Times are
medians over the images: reading and decoding a file; resizing, cropping and normalising it; an inference, after one
that warms up. Opening the model is in none of them.

Does not apply to networks that answer with a single number, or with something else than a row of logits for each image.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kdna_deploy.errors import InputError
from kdna_deploy.evaluation.logits import are_probabilities, judged
from kdna_deploy.evaluation.model_record import ModelRecord, open_model
from kdna_deploy.evaluation.reading import Reading, Times, groups
from kdna_deploy.evaluation.terms import softmax
from kdna_deploy.images.batch import Shape
from kdna_deploy.images.class_names import check_class_names, known_names
from kdna_deploy.images.file import ImageBytes
from kdna_deploy.images.folder import check_channels, image_files
from kdna_deploy.images.preprocessing import AskedPreprocessing, Preprocessing
from kdna_deploy.network.configuration import Configuration
from kdna_deploy.network.input_size import DEFAULT_SIZE
from kdna_deploy.progress import SILENT, Listener
from kdna_deploy.runtimes.session import Session


@dataclass(frozen=True)
class ClassifyRequest:
    """What to classify.

    Attributes:
        model: an artifact or a checkpoint, or a network that is open.
        images: image files, folders of them, or the content of files.
        top: classes to name for each image.
        labels: file that `class_names` are from, if any.
        class_names: in the order of the outputs; none for what the model records.
        timed: whether to measure.
        preprocessing: of the images, as far as it was said.
        size: (h, w), for checkpoints.
        arch, factory, ema: how to load a checkpoint.
    """

    model: Path | ModelRecord
    images: tuple[Path | ImageBytes, ...]
    top: int = 5
    labels: Path | None = None
    class_names: tuple[str, ...] = ()
    timed: bool = False
    preprocessing: AskedPreprocessing = field(default_factory=AskedPreprocessing)
    size: tuple[int, int] | None = None
    arch: Configuration | str | None = None
    factory: str | None = None
    ema: bool = False


@dataclass(frozen=True)
class NamedClass:
    """A class of the network: its number, its name where one is known, and its probability."""

    label: int
    name: str | None
    probability: float

    def __str__(self) -> str:
        return self.name or f"class {self.label}"


@dataclass(frozen=True)
class ClassifiedImage:
    """An image, and the classes that it most likely is of, the likeliest first."""

    path: Path
    classes: tuple[NamedClass, ...]


@dataclass(frozen=True)
class Classification:
    """Images with their classes, and how that came about.

    Attributes:
        model, runtime: names.
        images: in the order in which they were given.
        skipped: images that cannot be read, with the reason.
        image_shape: (c, h, w) that the images were brought to.
        size_assumed: whether h and w were merely assumed.
        preprocessing: of the images.
        num_classes: number of logits.
        times: None where they were not asked for.
        notes: what a user should know, a sentence each.
    """

    model: str
    runtime: str
    images: tuple[ClassifiedImage, ...]
    skipped: tuple[tuple[Path, str], ...]
    image_shape: Shape
    size_assumed: bool
    preprocessing: Preprocessing
    num_classes: int
    times: Times | None = None
    notes: tuple[str, ...] = ()


def classify(request: ClassifyRequest, listener: Listener = SILENT) -> Classification:
    """Classify images. `listener` is told their number before the first is read.

    Raises:
        InputError: the model cannot be loaded, none of the images be read, or the two do not fit each other.
    """
    listener.step("open")
    found = _found(request.images)
    opened = request.model
    if isinstance(opened, Path):
        opened = open_model(opened, request.size, request.factory, request.arch, request.ema)
    with opened.session:
        listener.step("run")
        listener.expect(len(found))
        return _classified(request, opened, found, listener)


def _found(given: Sequence[Path | ImageBytes]) -> list[Path | ImageBytes]:
    """Every image, the folders opened."""
    found: list[Path | ImageBytes] = []
    for one in given:
        if not isinstance(one, Path) or not one.is_dir():
            found.append(one)
            continue
        within = image_files(one)
        if not within:
            raise InputError(f"There is no image file in '{one}'.")
        found += within
    return found


def _classified(
    request: ClassifyRequest, model: ModelRecord, found: Sequence[Path | ImageBytes], listener: Listener
) -> Classification:
    session = model.session
    c, h, w = session.image_shape or model.image_shape or (3, *DEFAULT_SIZE)
    preprocessing, interface = request.preprocessing.over(model.preprocessing), session.interface
    interface.require_preprocessing(preprocessing, session.name)
    reading = Reading((c, *(request.size or (h, w))), preprocessing, interface, listener)
    check_channels(reading.shape, reading.preprocessing)
    batch, inferences = session.batch or 1, list[float]()
    if request.timed:
        session.run(interface.taken(np.zeros((batch, *reading.shape), np.float32)))  # warms up
    paths: list[Path] = []
    rows: list[NDArray[np.float64]] = []
    for held in groups(reading.images(found), batch):
        images = np.stack([image for _, image in held] + [held[-1][1]] * (batch - len(held)))
        started = time.perf_counter()
        answers = session.run(images)
        inferences.append(time.perf_counter() - started)
        rows += list(judged(answers, batch, session.name)[: len(held)])
        paths += [path for path, _ in held]
        listener.advance(len(held))
    if not rows:
        raise reading.none_of(len(found))
    probabilities, is_softmax = _probabilities(np.stack(rows), session)
    names, unused = _names(request, model, probabilities.shape[1])
    images_done = tuple(
        ClassifiedImage(path, _likeliest(row, names, min(request.top, interface.top or request.top)))
        for path, row in zip(paths, probabilities, strict=True)
    )
    asked, recorded = request.preprocessing, model.preprocessing
    notes = (
        *model.notes,
        asked.note(recorded, session.name) or asked.assumed(recorded, session.name),
        f"{session.name} answers with probabilities, which are shown as they are" if is_softmax else None,
        f"{session.name} names {interface.top} classes, and no more"
        if request.top > (interface.top or request.top)
        else None,
        unused,
    )
    return Classification(
        model=session.name,
        runtime=session.runtime,
        images=images_done,
        skipped=tuple(reading.skipped),
        image_shape=reading.shape,
        size_assumed=model.size_assumed and request.size is None,
        preprocessing=reading.preprocessing,
        num_classes=probabilities.shape[1],
        times=reading.times(batch, inferences) if request.timed else None,
        notes=tuple(note for note in notes if note),
    )


def _probabilities(logits: NDArray[np.float64], session: Session) -> tuple[NDArray[np.float64], bool]:
    """Of rows of logits, and whether the network ends in a softmax of its own.

    Raises:
        InputError: there is nothing to choose from.
    """
    name = session.name
    if logits.shape[1] < 2:
        raise InputError(f"{name} answers with a single number, which is no choice among classes.")
    highest = logits.max(axis=1, keepdims=True)
    if not np.isfinite(highest).all():
        raise InputError(f"{name} answers an image with −infinity for every class; check `mean` and `std`.")
    if session.interface.answers_probabilities:
        return np.maximum(logits, 0), False
    return (logits, True) if are_probabilities(logits) else (softmax(logits), False)


def _names(request: ClassifyRequest, model: ModelRecord, outputs: int) -> tuple[tuple[str, ...], str | None]:
    """Names of the classes, none where they are not known, and what to say of that.

    Raises:
        InputError: those that were given are not as many as there are classes.
    """
    if request.labels is not None:
        check_class_names(request.class_names, outputs, str(request.labels))
        return request.class_names, None
    recorded, where = model.class_names, model.session.name
    names = known_names(recorded, outputs)
    if not recorded:
        remedy = f"assumed the {outputs} of ImageNet" if names else "give `labels`"
        return names, f"nothing in {where} names its classes; {remedy}"
    if not names:
        return (), f"{where} has {outputs} classes and records {len(recorded)} names, which are not used; give `labels`"
    return names, None


def _likeliest(probabilities: NDArray[np.float64], names: Sequence[str], top: int) -> tuple[NamedClass, ...]:
    order = np.argsort(-probabilities, kind="stable")[:top]
    return tuple(NamedClass(int(i), names[i] if names else None, float(probabilities[i])) for i in order)
