"""What a comparison found, and the sentence that refuses what does not agree. The rule is in `parity`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from kdna_deploy.errors import ParityError


@dataclass(frozen=True)
class Agreement:
    """Agreement of two sessions on one probe.

    Attributes:
        images: kind of the images.
        batch: number of images.
        max_difference, mean_difference: of the outputs, absolute.
        scale: largest absolute number of the reference.
        worst: difference of the output that uses most of what it is allowed.
        allowed: what that output is allowed.
        image: of which image.
        column: which output that is.
        spread: of that output over images.
        explained: whether rounding, and not the spread, decides what is allowed there.
        same_top1: images whose highest logit is the same class; None for outputs that are no logits [n, classes].
        ties: further images whose two highest logits are a tie.
        skipped: why nothing was compared; empty where it was.
        stage: the stage output that was compared, whose channels `column` counts; empty where there is one output.
    """

    images: str
    batch: int
    max_difference: float = 0.0
    mean_difference: float = 0.0
    scale: float = 0.0
    worst: float = 0.0
    allowed: float = 0.0
    image: int = 0
    column: int = 0
    spread: float = 0.0
    explained: bool = False
    same_top1: int | None = None
    ties: int = 0
    skipped: str = ""
    stage: str = ""

    @property
    def passed(self) -> bool:
        if self.skipped:
            return True
        return self.worst <= self.allowed and (self.same_top1 is None or self.same_top1 + self.ties == self.batch)

    @property
    def used(self) -> float:
        """Share of what is allowed that the worst output uses."""
        if np.isnan(self.worst):
            return float("inf")
        if self.worst == 0:
            return 0.0
        return self.worst / self.allowed if self.allowed > 0 else float("inf")

    @property
    def complaint(self) -> str:
        """What is wrong, for a sentence that goes on with what to do."""
        output = f"channel {self.column} of {self.stage}" if self.stage else f"output {self.column}"
        if np.isnan(self.worst):
            return f"{output} is NaN at batch {self.batch} ({self.images})"
        if not self.worst <= self.allowed:
            reason = "rounding explains" if self.explained else "its spread over images allows"
            return (
                f"{output} differs by {self.worst:.1e} at batch {self.batch} ({self.images}), "
                f"more than the {self.allowed:.1e} that {reason}"
            )
        wrong = self.batch - (self.same_top1 or 0) - self.ties
        return f"the highest logit is another class for {wrong} of {self.batch} images ({self.images})"


def worst_of(agreements: Iterable[Agreement]) -> Agreement | None:
    """The failed agreement that goes furthest beyond what is allowed; None where all passed."""
    failed = [agreement for agreement in agreements if not agreement.passed]
    return max(failed, key=lambda agreement: agreement.used, default=None)


def require_agreement(agreements: Iterable[Agreement], failure: str, remedy: str) -> None:
    """Refuse what does not agree, in one sentence: `failure`, the worst difference, `remedy`.

    Raises:
        ParityError: an agreement has failed.
    """
    worst = worst_of(agreements)
    if worst is not None:
        raise ParityError(f"{failure}: {worst.complaint}; {remedy}")
