"""Which image size a network is taken to have: what the user says, what its checkpoint records, else 224×224.

Networks that pool over the whole map take any size, and answer worse at one that they were not trained on, without a
word. So a size that was merely assumed is said, wherever it is used, and recorded in what is made with it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from kdna_deploy.errors import UsageError
from kdna_deploy.network.training_record import TrainingRecord

DEFAULT_SIZE = (224, 224)
ASSUMED = "size_assumed"  # option in the provenance


@dataclass(frozen=True)
class InputSize:
    """An image size (h, w) and what tells it."""

    size: tuple[int, int]
    origin: Literal["given", "told", "recorded", "assumed"]

    @property
    def assumed(self) -> bool:
        return self.origin == "assumed"

    @property
    def notes(self) -> tuple[str, ...]:
        """What a user should know about it, a sentence each."""
        size = f"{self.size[0]}×{self.size[1]}"
        if self.origin == "recorded":
            return (f"the input size is {size}, as the checkpoint records",)
        if self.origin == "assumed":
            return (f"assumed {size}: nothing in the checkpoint tells the size it was trained on; give `input_size`",)
        return ()


def choose_size(
    asked: tuple[int, int] | None, recorded: TrainingRecord, only: tuple[int, int] | None = None
) -> InputSize:
    """The size that was `asked` for, or that is `recorded`, or the default; of a network that takes one, that `only`.

    Raises:
        UsageError: another one was asked for.
    """
    if only is not None:
        if asked not in (None, only):
            raise UsageError(
                f"The network takes images of {only[0]}×{only[1]} alone, which its positions are of; leave "
                "`input_size` out."
            )
        return InputSize(only, "told")
    if asked is not None:
        return InputSize(asked, "given")
    return InputSize(recorded.size, "recorded") if recorded.size else InputSize(DEFAULT_SIZE, "assumed")


def made_for_assumed(name: str, image_shape: tuple[int, int, int], options: Mapping[str, Any]) -> tuple[str, ...]:
    """What to know of an artifact `name` whose `options` say that its size was assumed."""
    if not options.get(ASSUMED):
        return ()
    _, h, w = image_shape
    return (
        f"{name} was made for an assumed {h}×{w}: nothing in the checkpoint told the size it was trained on; make it "
        "again with `input_size`",
    )
