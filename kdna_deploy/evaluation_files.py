"""Evaluation of files: opens an artifact, its reference and the labelled images, and brings them together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from kdna_deploy.errors import InputError
from kdna_deploy.evaluation import Evaluation, evaluate
from kdna_deploy.image_data import Preprocessing
from kdna_deploy.labelled_images import LabelledImages
from kdna_deploy.runtimes.open import open_session
from kdna_deploy.runtimes.session import Session

DEFAULT_BATCH = 32
_DEFAULT_SHAPE = (3, 224, 224)


@dataclass(frozen=True)
class EvaluationRequest:
    """What to evaluate.

    Attributes:
        model: an ``.onnx``, a ``.pt2`` or a checkpoint.
        data: folder of class folders.
        against: another artifact to compare with, or None.
        batch: images in one inference; a model with a fixed batch keeps its own.
        preprocessing: of the images.
        size: (h, w), for checkpoints.
        arch, factory, ema: how to load a checkpoint.
    """

    model: Path
    data: Path
    against: Path | None = None
    batch: int = DEFAULT_BATCH
    preprocessing: Preprocessing = field(default_factory=Preprocessing)
    size: tuple[int, int] | None = None
    arch: str | None = None
    factory: str | None = None
    ema: bool = False


@dataclass(frozen=True)
class FileEvaluation:
    """An evaluation with the names of what was evaluated; `class_names` maps labels to folders."""

    model: str
    reference: str | None
    data: str
    class_names: dict[int, str]
    result: Evaluation


def evaluate_files(
    request: EvaluationRequest,
    on_step: Callable[[str], None] = lambda _: None,
    on_total: Callable[[int], None] = lambda _: None,
    on_images: Callable[[int], None] = lambda _: None,
    on_unreadable: Callable[[Path], None] = lambda _: None,
) -> FileEvaluation:
    """Evaluate a file. `on_total` is told the number of images before the first is read.

    Raises:
        InputError: a file cannot be loaded, or the images do not fit the network.
    """
    on_step(f"open {request.model}")
    session = _open(request.model, request)
    reference = _open(request.against, request) if request.against else None
    shape = _shape(session, reference, request.size)
    images = LabelledImages(request.data, shape, request.preprocessing, on_unreadable)
    fixed = session.batch or (reference.batch if reference else None)
    batch = fixed or request.batch
    images.check(session.run(np.zeros((batch, *shape), np.float32)).shape[1])
    on_total(len(images))
    on_step("evaluate")
    result = evaluate(session, images.batches(batch, fixed=fixed is not None), reference, on_images)
    return FileEvaluation(
        session.name, reference.name if reference else None, str(request.data), images.classes, result
    )


def _open(path: Path, request: EvaluationRequest) -> Session:
    return open_session(path, request.factory, request.arch, request.ema)


def _shape(session: Session, reference: Session | None, size: tuple[int, int] | None) -> tuple[int, int, int]:
    takes = [s.image_shape for s in (session, reference) if s is not None and s.image_shape is not None]
    if len(set(takes)) > 1:
        raise InputError(f"{session.name} takes images {takes[0]}, its reference {takes[1]}; export both for one size.")
    c, h, w = takes[0] if takes else _DEFAULT_SHAPE
    return (c, *(size or (h, w)))
