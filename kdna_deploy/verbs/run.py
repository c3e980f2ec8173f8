"""The classes of images, from any artifact, checkpoint or network. An ONNX or OpenVINO file needs no PyTorch."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from kdna_deploy.errors import UsageError
from kdna_deploy.images.class_names import read_class_names
from kdna_deploy.input_files import MODELS, Kind, check_images, check_input
from kdna_deploy.network.configuration import Words, configured
from kdna_deploy.progress import SILENT, Listener
from kdna_deploy.verbs.arguments import Numbers, PathLike, Size, image_size, optional_path
from kdna_deploy.verbs.image_words import ImageWords
from kdna_deploy.verbs.result import Result
from kdna_deploy.verbs.source import size_of, source_of

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from kdna_deploy.evaluation.classify import Classification, ClassifiedImage
    from kdna_deploy.evaluation.model_record import ModelRecord
    from kdna_deploy.network.load import Network
    from kdna_deploy.reports.report import Report
    from kdna_deploy.targets.source import FusedSource
    from kdna_deploy.verbs.source import Source

Picture: TypeAlias = "str | os.PathLike[str] | bytes"


@dataclass(frozen=True, repr=False)
class Classified(Result):
    """Images with the classes that a network takes them for."""

    classification: Classification

    @property
    def images(self) -> tuple[ClassifiedImage, ...]:
        """In the order in which they were given, those of a folder by name; what cannot be read is left out."""
        return self.classification.images

    @property
    def notes(self) -> tuple[str, ...]:
        return self.classification.notes

    @property
    def report(self) -> Report:
        from kdna_deploy.reports.classes import classes_report

        return classes_report(self.classification)


def run(
    network: Source,
    images: Picture | Sequence[Picture],
    *,
    top: int = 5,
    labels: PathLike | None = None,
    time: bool = False,
    mean: Numbers | None = None,
    std: Numbers | None = None,
    resize: int | None = None,
    crop: Size | None = None,
    color: str | None = None,
    arch: str | None = None,
    model: str | None = None,
    ema: bool = False,
    input_size: Size | None = None,
    listener: Listener = SILENT,
    **architecture: Unpack[Words],
) -> Classified:
    """The classes of images, with their probabilities.

    Args:
        network: ``.onnx``, ``.xml``, ``.pt2``, ``.engine`` or checkpoint, what another verb returned, or a module.
        images: an image file, a folder of them, the content of a file as bytes, or several of these.
        top: classes to name for each image.
        labels: file of class names: one a line, or a JSON list or mapping; "imagenet" for those of ImageNet; as the
            network records by default.
        time: measure decoding, preparing and inference.
        mean, std, resize, crop, color: how image files become input; as the file records, else ImageNet's.
        arch, model, ema, architecture: how to load a checkpoint, see `load`.
        input_size: for networks that take any.

    Raises:
        UsageError: what was said makes no sense.
        InputError: the network cannot be loaded, none of the images be read, or the two do not fit each other.
    """
    size, said = image_size(input_size) or size_of(network), configured(arch, architecture)
    words = ImageWords(None, mean, std, resize, crop, color)
    words.check()
    if top < 1:
        raise UsageError(f"`top` is {top}; give a number of classes from 1.")
    written = getattr(network, "path", None)  # by a verb: that file, not what it was made from
    given = source_of(written if isinstance(written, Path) else network, said, model, ema)
    if isinstance(given, Path):
        check_input(given, MODELS, "run")
    pictures, named = _checked(images), optional_path(labels)
    names = read_class_names(named) if named else ()
    listener.plan(("open", "run"))
    listener.step("open")
    from kdna_deploy.evaluation.classify import ClassifyRequest, classify
    from kdna_deploy.images.file import ImageBytes

    found = tuple(ImageBytes(one) if isinstance(one, bytes) else Path(one) for one in pictures)
    opened = given if isinstance(given, Path) else _in_memory(given, size)
    request = ClassifyRequest(
        *(opened, found, top, named, names, time, words.asked(), size, said, model, ema),
    )
    return Classified(classify(request, listener))


def _checked(images: Picture | Sequence[Picture]) -> Sequence[Picture]:
    """What was given, as several; files and folders are there.

    Raises:
        UsageError: nothing was given.
        InputError: one is not there, or something else than an image or a folder.
    """
    single = isinstance(images, (str, bytes, os.PathLike))
    several: Sequence[Picture] = [images] if single else images  # type: ignore[list-item,assignment]
    if not several:
        raise UsageError("Name an image, or a folder of images, to run the network on.")
    for one in several:
        if not isinstance(one, bytes):
            check_images(Path(one), "run", Kind.image)
    return several


def _in_memory(given: Network | FusedSource, size: tuple[int, int] | None) -> ModelRecord:
    """What lies in no file."""
    from kdna_deploy.evaluation.model_record import record_of_artifact, record_of_network
    from kdna_deploy.network.load import Network
    from kdna_deploy.runtimes.pytorch import TorchSession

    if isinstance(given, Network):
        return record_of_network(given, given.checkpoint.path.name or given.name, size)
    name = given.provenance.name
    session = TorchSession(given.graph, name, given.graph.image_shape)
    return record_of_artifact(session, given.provenance, Path(name), size)
