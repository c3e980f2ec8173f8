"""The batch sizes that an engine takes: ``smallest:typical:largest``, tuned for the typical one.

A file with a fixed batch size has no range; an engine built from it takes that size alone.
"""

from __future__ import annotations

from dataclasses import dataclass

from kdna_deploy.errors import UsageError


@dataclass(frozen=True)
class Batches:
    """A range of batch sizes.

    Raises:
        UsageError: it is no range.
    """

    smallest: int
    typical: int
    largest: int

    def __post_init__(self) -> None:
        if not 1 <= self.smallest <= self.typical <= self.largest:
            raise UsageError(f"The batch range {self} is not in order; write smallest:typical:largest, as in 1:8:128.")

    def __str__(self) -> str:
        return str(self.largest) if self.fixed else f"{self.smallest}:{self.typical}:{self.largest}"

    @property
    def fixed(self) -> bool:
        return self.smallest == self.largest

    def check(self, batch: int, name: str) -> None:
        """Refuse a batch that the engine `name` was not built for.

        Raises:
            UsageError: it lies outside of the range.
        """
        if not self.smallest <= batch <= self.largest:
            takes = f"batches of {self.largest}" if self.fixed else f"batches of {self.smallest} to {self.largest}"
            raise UsageError(
                f"{name} takes {takes} and cannot run on {batch}; build it again with a `batch` that holds {batch}."
            )


DEFAULT_BATCHES = Batches(1, 8, 128)


def parse_batches(text: str) -> Batches:
    """``1:8:128``, or ``8`` for one fixed size.

    Raises:
        UsageError: it is neither.
    """
    parts = text.split(":")
    # isdecimal alone would take digits of other scripts, int() signs and underscores.
    if len(parts) not in (1, 3) or not all(part.isascii() and part.isdecimal() for part in parts):
        raise UsageError(f"'{text}' is no batch range; write smallest:typical:largest, as in 1:8:128, or one number.")
    numbers = [int(part) for part in parts]
    return Batches(*numbers) if len(numbers) == 3 else Batches(numbers[0], numbers[0], numbers[0])


def fit_batches(wanted: Batches | None, fixed: int | None, name: str) -> Batches:
    """The range to build the file `name` for, whose batch size is `fixed` or, where that is None, dynamic.

    Raises:
        UsageError: another range is `wanted` than the file's fixed size.
    """
    if fixed is None:
        return wanted or DEFAULT_BATCHES
    own = Batches(fixed, fixed, fixed)
    if wanted not in (None, own):
        raise UsageError(
            f"'{name}' has a fixed batch of {fixed}, so an engine for {wanted} cannot be built from it; leave `batch` "
            "out, or export the ONNX file with a dynamic batch."
        )
    return own
