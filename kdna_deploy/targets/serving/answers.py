"""What a session answers → what its file answers, in the types of the Open Inference Protocol (v2).

    float16        FP16     a session widens it, which is undone exactly
    int64          INT64
    others         FP32     as sessions return them
    K classes               [n, classes], −∞ for those that are not named → probabilities [n, K], classes [n, K]

Needs no server. Does not apply to integers beyond 2²⁴, which a session does not return exactly.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from kdna_deploy.images.batch import Answers
from kdna_deploy.targets.inspect_file import TakenOrReturned
from kdna_deploy.targets.serving.model import ServedModel

_TYPES = {"float16": "FP16", "int64": "INT64"}


def answer_type(output: TakenOrReturned) -> str:
    """The type that an output of a file is answered in."""
    return _TYPES.get(output.type, "FP32")


def answers_of_file(model: ServedModel, answers: Answers) -> tuple[NDArray[Any], ...]:
    """The outputs of the file, in its order, for what a session of it answers."""
    found = answers if model.interface.top is None else _likeliest(answers[0], model.interface.top)
    return tuple(
        one.astype(output.type if output.type in _TYPES else np.float32, copy=False)
        for one, output in zip(found, model.outputs, strict=True)
    )


def _likeliest(every: NDArray[np.float32], top: int) -> tuple[NDArray[Any], ...]:
    """The `top` largest of each row, and where they stand."""
    classes = np.argsort(-every, axis=1, kind="stable")[:, :top]
    return np.take_along_axis(every, classes, axis=1), classes
