"""Answers that can be judged: one row of logits for each image, with neither NaN nor +∞ in it.

A highest logit is always found, in a row of NaN too: it would be class 0. −∞ is what a network gives a class that it
masks, and takes part in no comparison but that of being there.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from kdna_deploy.errors import InputError, ParityError
from kdna_deploy.images.batch import Images

Logits = NDArray[np.float64]

_SUM_OF_ONE = 1e-3  # how far probabilities in half precision may be from it


def judged(answers: Images, images: int, name: str) -> Logits:
    """The logits [images, classes] that `name` returned, in float64.

    Raises:
        InputError: they are none, or cannot be judged.
    """
    if answers.ndim != 2 or len(answers) != images:
        raise InputError(
            f"{name} returns shape {answers.shape} for {images} images, where one row of logits for each is needed."
        )
    if problem := _problem(answers):
        raise InputError(f"{name} {problem}; check `mean` and `std`, and the weights with `verify`.")
    return answers.astype(np.float64)


def judged_beside(answers: Images, expected: Logits, name: str, reference: str) -> Logits:
    """The same, for a candidate beside the logits of a reference, which can be judged.

    Raises:
        InputError: they have another shape than the reference's.
        ParityError: the candidate's cannot be judged, and those of the reference can.
    """
    if answers.shape != expected.shape:
        raise InputError(
            f"{name} returns shape {answers.shape}, {reference} {expected.shape}: they are not the same network."
        )
    if problem := _problem(answers):
        raise ParityError(f"{name} {problem}, and {reference} does not: it does not compute the same.")
    return answers.astype(np.float64)


def are_probabilities(answers: NDArray[np.floating]) -> bool:
    """Whether every row [n, classes] is what a softmax returns."""
    return bool(answers.min() >= 0 and np.abs(answers.sum(axis=1) - 1).max() < _SUM_OF_ONE)


def _problem(answers: Images) -> str | None:
    rows = answers.reshape(len(answers), -1)
    for what, found in (("NaN", np.isnan(rows)), ("infinity", np.isposinf(rows))):
        count = int(found.any(axis=1).sum())
        if count:
            return f"answers {count} of {len(rows)} images with {what}"
    return None
