"""Does an artifact compute what the trained network computes?

    max |candidate − reference| ≤ atol + rtol · max |reference|        on every batch

The float32 tolerance is rtol = 1e-4, atol = 0; that of half precision rtol = 1e-2. Rounding to half, at most
2⁻¹¹ = 5e-4 of a number, moves the logits of the published networks by as much, and by fifteen times that where kernels
are random; a mistake in a graph moves them by their own size. A NaN or infinity anywhere never passes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from kdna_deploy.errors import InputError
from kdna_deploy.runtimes.session import Images, Session


@dataclass(frozen=True)
class Tolerance:
    """Largest difference allowed: `atol` + `rtol` times the largest absolute logit."""

    rtol: float
    atol: float = 0.0


FLOAT32 = Tolerance(rtol=1e-4)
HALF = Tolerance(rtol=1e-2)


@dataclass(frozen=True)
class Agreement:
    """Agreement of two sessions on one batch.

    Attributes:
        batch: number of images.
        max_difference, mean_difference: of the logits, absolute.
        scale: largest absolute logit of the reference.
        allowed: the largest difference that passes.
        same_top1: images whose highest logit is the same class.
    """

    batch: int
    max_difference: float
    mean_difference: float
    scale: float
    allowed: float
    same_top1: int

    @property
    def passed(self) -> bool:
        return bool(np.isfinite(self.max_difference)) and self.max_difference <= self.allowed


def compare(
    candidate: Session,
    reference: Session,
    batches: Iterable[Images],
    tolerance: Tolerance = FLOAT32,
    on_batch: Callable[[int], None] = lambda _: None,
) -> tuple[Agreement, ...]:
    """Run both sessions on every batch and compare their outputs.

    Raises:
        InputError: the outputs have different shapes, or a session does not take the images.
    """
    agreements = []
    for images in batches:
        got, expected = candidate.run(images), reference.run(images)
        if got.shape != expected.shape:
            raise InputError(
                f"{candidate.name} returns shape {got.shape}, {reference.name} {expected.shape}: "
                "they are not the same network."
            )
        agreements.append(_agreement(got, expected, tolerance))
        on_batch(len(images))
    if not agreements:
        raise InputError("There are no images to compare on.")
    return tuple(agreements)


def _agreement(got: Images, expected: Images, tolerance: Tolerance) -> Agreement:
    difference = np.abs(got.astype(np.float64) - expected.astype(np.float64))
    scale = float(np.abs(expected).max())
    return Agreement(
        batch=len(got),
        max_difference=float(difference.max()),
        mean_difference=float(difference.mean()),
        scale=scale,
        allowed=tolerance.atol + tolerance.rtol * scale,
        same_top1=int((got.argmax(-1) == expected.argmax(-1)).sum()),
    )
