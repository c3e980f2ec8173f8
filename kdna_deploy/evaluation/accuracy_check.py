"""Is a measured accuracy what the checkpoint records? If not: how much is missing, and is it more than chance?

    a shortfall where   P(at most `right` of n images are recognised | each with the recorded accuracy) < 0.01

That is the lower end of the one-sided 99 % binomial interval. A record above 99.9 % is taken as that, since it was
measured on some images itself; one of at most 1 as a share rather than percent; one of 0 says nothing.

Does not apply to images of another distribution than the record's: what is missing then is no mistake in deployment.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

LIKELY = 0.01
_HIGHEST = 0.999


@dataclass(frozen=True)
class Shortfall:
    """A measured accuracy below the recorded one.

    Attributes:
        right, images: measured.
        recorded: as a share of 1.
    """

    right: int
    images: int
    recorded: float

    @property
    def text(self) -> str:
        return (
            f"top-1 is {self.right / self.images:.2%} where the checkpoint records {self.recorded:.2%}: with that "
            f"accuracy fewer than 1 in 100 samples of {self.images} images would have so few right"
        )


def find_shortfall(right: int, images: int, recorded: float | None) -> Shortfall | None:
    """What is missing to the `recorded` accuracy, in percent; None where chance explains it, or nothing is recorded."""
    share = recorded_share(recorded)
    if share is None or images < 1 or at_most(right, images, min(share, _HIGHEST)) >= LIKELY:
        return None
    return Shortfall(right, images, share)


def recorded_share(recorded: float | None) -> float | None:
    """A recorded accuracy as a share of 1; None where it says nothing."""
    if recorded is None or not 0 < recorded <= 100:
        return None
    return recorded if recorded <= 1 else recorded / 100


def at_most(right: int, images: int, share: float) -> float:
    """Probability that at most `right` of `images` are right, each with probability `share` in (0, 1)."""
    every = math.lgamma(images + 1)
    hit, miss = math.log(share), math.log1p(-share)
    terms = (
        math.exp(every - math.lgamma(k + 1) - math.lgamma(images - k + 1) + k * hit + (images - k) * miss)
        for k in range(right + 1)
    )
    return min(1.0, math.fsum(terms))
