"""A session that answers what it was asked before without running again.

    images, computed once → answers · rounding observed on them

The trained network is what the fused graph is compared with, the ONNX file after it, and the engine or OpenVINO file
after that, on images of the same kinds: it need not run on them each time. Does not apply where inferences are timed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from kdna_deploy.images.batch import Answers, Images
from kdna_deploy.runtimes.ort import OrtSession
from kdna_deploy.runtimes.pytorch import TorchSession
from kdna_deploy.runtimes.session import Closing, logits_of


class Remembered(Closing):
    """A `Session` over one that tells how far rounding moves its answers, which are for reading only."""

    def __init__(self, session: TorchSession | OrtSession) -> None:
        self._session = session
        self._answers: dict[str, Answers] = {}
        self._observations: dict[tuple[str, float], _Observations] = {}
        self.name = session.name
        self.stage_names = session.stage_names
        self.runtime = session.runtime
        self.batch = session.batch
        self.image_shape = session.image_shape
        self.interface = session.interface
        self.options: Mapping[str, str | int] = session.options

    def run(self, images: Images) -> Images:
        return logits_of(self, images)

    def run_all(self, images: Images) -> Answers:
        self._check_open()
        key = _key(images)
        if key not in self._answers:
            self._answers[key] = self._session.run_all(images)
        return self._answers[key]

    def answer_together(self, batches: Sequence[Images]) -> None:
        """Run once for several batches, whose images are each answered by themselves: the layers are prepared once."""
        self._check_open()
        answers = self._session.run_all(np.concatenate(batches))
        ends = np.cumsum([len(images) for images in batches])[:-1]
        for images, parts in zip(batches, zip(*(np.split(one, ends) for one in answers), strict=True), strict=True):
            self._answers[_key(images)] = parts

    def rounding(self, images: Images, answers: Answers, roundoff: float) -> Iterator[Answers]:
        """How far rounding to `roundoff` moves the `answers` for `images`, a few times over (`module_rounding`)."""
        self._check_open()
        key = (_key(images), roundoff)
        if key not in self._observations:
            self._observations[key] = _Observations(self._session.rounding(images, answers, roundoff))
        return iter(self._observations[key])

    def in_float64(self, images: Images) -> Answers | None:
        """What it returns, computed in float64; None where the network cannot run in it, and of a file."""
        self._check_open()
        return self._session.in_float64(images) if isinstance(self._session, TorchSession) else None

    def _release(self) -> None:
        self._session.close()
        self._answers.clear()
        self._observations.clear()


class _Observations:
    """What an iterator gives, from the start for everyone who asks, and no further than anyone has asked."""

    def __init__(self, source: Iterator[Answers]) -> None:
        self._source = source
        self._made: list[Answers] = []

    def __iter__(self) -> Iterator[Answers]:
        number = 0
        while True:
            if number == len(self._made):
                following = next(self._source, None)
                if following is None:
                    return
                self._made.append(following)
            yield self._made[number]
            number += 1


def _key(images: Images) -> str:
    return f"{images.shape}{images.dtype}{hashlib.sha256(np.ascontiguousarray(images).data).hexdigest()}"
