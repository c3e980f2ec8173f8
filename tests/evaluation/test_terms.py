"""Logits beside probabilities, all classes beside some: equal where they say the same, refused where they do not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import pytest

from kdna_deploy.evaluation.accuracy import evaluate
from kdna_deploy.evaluation.agreement import Agreement
from kdna_deploy.evaluation.compare import compare
from kdna_deploy.evaluation.terms import softmax
from kdna_deploy.evaluation.tolerance import FLOAT32
from kdna_deploy.images.batch import Answers, Images
from kdna_deploy.images.interface import PLAIN, Interface
from kdna_deploy.images.probes import NOISE, Probe
from tests.evaluation.test_parity import Fixed, images

LOGITS = np.array([[3.0, 1.0, 0.5, -2.0], [0.0, 2.0, 2.5, -1.0], [1.0, 0.0, -1.0, 4.0]], np.float32)
CHANCES = softmax(LOGITS).astype(np.float32)


class Answering(Fixed):
    """Answers so, by an interface."""

    options: Mapping[str, str | int] = {}

    def __init__(self, answers: Images | Answers, interface: Interface = PLAIN) -> None:
        super().__init__(answers[0] if isinstance(answers, tuple) else answers)
        self.interface = interface


class Moving(Answering):
    """A reference whose logits rounding moves by a thousandth."""

    def rounding(self, images: Images, answers: Answers, roundoff: float) -> Iterator[Answers]:
        (logits,) = answers
        assert np.array_equal(logits, self.run(images))
        yield (np.full_like(logits, 1e-3),)


def naming(top: int, chances: Images = CHANCES) -> Answering:
    order = np.argsort(-chances, axis=1)[:, :top]
    interface = Interface(softmax=True, top=top, classes=4)
    return Answering(interface.returned([np.take_along_axis(chances, order, 1), order]), interface)


def judged(candidate: Fixed, reference: Fixed) -> Agreement:
    (only,) = compare(candidate, reference, [Probe(NOISE, images(3))], FLOAT32)
    return only


def test_probabilities_are_held_against_those_of_the_logits() -> None:
    interface = Interface(softmax=True)
    assert judged(Answering(CHANCES, interface), Answering(LOGITS)).passed
    assert judged(Answering(LOGITS), Answering(CHANCES, interface)).passed
    moved = CHANCES + np.float32(1e-3)
    assert not judged(Answering(moved, interface), Answering(LOGITS)).passed
    assert not judged(Answering(LOGITS, interface), Answering(LOGITS)).passed


def test_what_rounding_explains_of_logits_it_explains_of_their_probabilities() -> None:
    nudged = softmax(LOGITS + np.float32(1e-3) * np.array([1, -1, 1, -1], np.float32)).astype(np.float32)
    explained = judged(Answering(nudged, Interface(softmax=True)), Moving(LOGITS))
    assert explained.passed and explained.explained
    assert not judged(Answering(nudged, Interface(softmax=True)), Answering(LOGITS)).passed


@pytest.mark.parametrize("top", [1, 2, 3, 4])
def test_the_likeliest_classes_are_held_to_all_of_them(top: int) -> None:
    assert judged(naming(top), Answering(LOGITS)).passed
    assert judged(Answering(LOGITS), naming(top)).passed
    assert judged(naming(top), naming(4)).passed


def test_a_class_that_is_named_in_place_of_a_likelier_one_is_found() -> None:
    other = naming(2)
    other.logits = other.logits.copy()
    other.logits[1] = [-np.inf, CHANCES[1, 1], -np.inf, CHANCES[1, 3]]  # the third likeliest is named, the first is not
    assert not judged(other, Answering(LOGITS)).passed
    lower = naming(2)
    lower.logits = np.where(np.isinf(lower.logits), lower.logits, lower.logits - np.float32(1e-3))
    assert not judged(lower, Answering(LOGITS)).passed


def test_of_classes_that_are_tied_either_may_be_named() -> None:
    tied = LOGITS.copy()
    tied[:, 1] = tied[:, 0] + np.float32(1e-7)
    assert judged(naming(1, softmax(tied).astype(np.float32)), Answering(tied)).passed
    swapped = tied[:, [1, 0, 2, 3]]
    assert judged(naming(1, softmax(swapped).astype(np.float32)), Answering(tied)).passed


def test_top_5_is_told_only_where_five_are_named() -> None:
    rows = np.random.default_rng(0).standard_normal((3, 8)).astype(np.float32)
    labels = np.argsort(-rows, axis=1)[:, 2]  # each the third likeliest
    for top, expected in ((2, None), (5, 1.0)):
        interface = Interface(softmax=True, top=top, classes=8)
        order = np.argsort(-rows, axis=1)[:, :top]
        named = interface.returned([np.take_along_axis(softmax(rows).astype(np.float32), order, 1), order])
        done = evaluate(Answering(named, interface), [(images(3), labels)], Answering(rows))
        assert (done.top1, done.top5) == (0.0, expected)
        assert done.agreement is not None and done.agreement.same_top1 == 1.0 and done.agreement.sqnr > 100
