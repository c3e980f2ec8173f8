"""Two sessions that answer in other terms, brought to the same: logits and probabilities, all classes and some.

    one answers with probabilities     p = softmax(l) of the other's logits; |Δpᵢ| ≤ pᵢ (|Δlᵢ| + Σⱼ pⱼ |Δlⱼ|)
    one names its K likeliest classes  what it leaves out is at most the least that it names

The bound, of first order, is for what rounding does to the logits.

So a file that names K classes is held to all of them: each that it names has its probability, and none that it leaves
out is likelier, beyond the tolerance. Where two are tied within that, either may be named.

Does not apply where neither was made to answer otherwise than with what its network returns.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from kdna_deploy.images.batch import Answers, Images
from kdna_deploy.runtimes.session import Closing, Session, run_all

A = TypeVar("A", bound=np.floating[Any])


def in_same_terms(one: Session, other: Session) -> tuple[Session, Session]:
    """Both, the one that answers with logits made to answer with probabilities where the other does."""
    return _like(one, other), _like(other, one)


def _like(session: Session, other: Session) -> Session:
    if not other.interface.softmax or session.interface.softmax:
        return session
    return _Rounded(session) if hasattr(session, "rounding") else _Probabilities(session)


def completed(answers: NDArray[A], others: NDArray[A], session: Session) -> NDArray[A]:
    """`answers` [n, classes] of a session that may leave classes out, which are taken from the `others` where they may.

    What is left out, −∞, becomes what the other says of it, or the least that is named where that is less.
    """
    if session.interface.top is None:
        return answers
    left_out = np.isneginf(answers)
    least = np.where(left_out, np.inf, answers).min(axis=1, keepdims=True)
    return np.where(left_out, np.minimum(others, least), answers).astype(answers.dtype)


def softmax(logits: NDArray[A]) -> NDArray[np.float64]:
    """Of each row, in float64."""
    rows = logits.astype(np.float64)
    with np.errstate(invalid="ignore"):  # rows of infinities are NaN, as every runtime has them
        powers = np.exp(rows - rows.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


class _Probabilities(Closing):
    """A `Session` over another, whose logits become probabilities. Whoever opened that one closes it."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self.name = session.name
        self.runtime = session.runtime
        self.batch = session.batch
        self.image_shape = session.image_shape
        self.interface = session.interface
        self.options = session.options

    def run(self, images: Images) -> Images:
        return softmax(self._session.run(images)).astype(np.float32)

    def _release(self) -> None:
        del self._session


class _Rounded(_Probabilities):
    """Of one that can tell how far rounding alone moves its logits."""

    def rounding(self, images: Images, answers: Answers, roundoff: float) -> Iterator[Answers]:
        """How far it moves the probabilities `answers`, at most, a few times over."""
        (chances,), inner = answers, self._session
        for (moved,) in inner.rounding(images, run_all(inner, images), roundoff):  # type: ignore[attr-defined]
            yield (chances * (moved + (chances * moved).sum(axis=1, keepdims=True)),)
