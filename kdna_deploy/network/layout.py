"""Stage layouts: ``FS-SF-SF`` and what each letter stands for.

``F`` is a convolution with a full kernel of its own, ``S`` one that shares a kernel, ``-`` a residual sum.
An S takes the *next* F to its right as parent, so an F may serve its own layer and any number of children.

Keys tell how many full kernels and children a stage has, not in which order and between which residual sums they
stand: `known_layout` and `row_layout` say which layout that is, and whether there could be another.

Does not apply: a layout whose last letter is S (no parent follows it), or that begins with S (the first
convolution of a stage changes width and stride, so no later kernel fits it).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from kdna_deploy.errors import ArchitectureError


@dataclass(frozen=True)
class Slot:
    """One convolution of a stage.

    Attributes:
        index: position among the slots of its own kind (third child of the stage: 2).
        is_child: whether it borrows the kernel of a parent.
        parent: index, among the full kernels of the stage, of the kernel it convolves with.
    """

    index: int
    is_child: bool
    parent: int


@dataclass(frozen=True)
class Layout:
    """The parsed form of a layout string; `blocks` holds the slots between two residual sums."""

    text: str
    blocks: tuple[tuple[Slot, ...], ...]

    @property
    def slots(self) -> tuple[Slot, ...]:
        return tuple(slot for block in self.blocks for slot in block)

    @property
    def children(self) -> tuple[Slot, ...]:
        return tuple(slot for slot in self.slots if slot.is_child)

    @property
    def full_kernels(self) -> int:
        return len(self.slots) - len(self.children)


def parse_layout(text: str) -> Layout:
    """Parse a layout string.

    Raises:
        ArchitectureError: for a letter other than F, S and -, an empty block, or an S that no F follows.
    """
    if not text or set(text) - set("FS-") or "" in text.split("-"):
        raise ArchitectureError(f"'{text}' is not a layout; write blocks of F and S joined by '-', such as FS-SF-SF.")
    letters = text.replace("-", "")
    if letters[0] != "F" or letters[-1] != "F":
        raise ArchitectureError(f"The layout '{text}' must begin and end with F: an S takes a later F as parent.")
    blocks, fulls, children = [], 0, 0
    for block in text.split("-"):
        slots = []
        for letter in block:
            if letter == "F":
                slots.append(Slot(index=fulls, is_child=False, parent=fulls))
                fulls += 1
            else:
                slots.append(Slot(index=children, is_child=True, parent=fulls))
                children += 1
        blocks.append(tuple(slots))
    return Layout(text, tuple(blocks))


def check_row(layout: Layout) -> None:
    """Refuse what is no row of blocks with a letter each.

    Raises:
        ArchitectureError: a block has several letters.
    """
    if any(len(block) != 1 for block in layout.blocks):
        raise ArchitectureError(f"The layout '{layout.text}' must have one letter per block here, as in F-S-F.")


def known_layout(full_kernels: int, children: int, known: Iterable[str]) -> tuple[str, bool]:
    """The first of the `known` layouts with so many kernels, and True; any with as many, and False, where none is."""
    for text in known:
        if (text.count("F"), text.count("S")) == (full_kernels, children):
            return text, True
    return "F" + "S" * children + "F" * (full_kernels - 1), False


def row_layout(full_kernels: int, children: int) -> tuple[str, bool]:
    """The same of a row of blocks with a letter each.

    ``F-F-F`` and ``F-S-S-F`` are told by their numbers, since a row begins and ends with F; ``F-S-F-S-F``, a child in
    front of each parent, is how KernelDNA networks of several parents are published.
    """
    alternating = "F" + "SF" * children if full_kernels == children + 1 else ""
    text, told = known_layout(full_kernels, children, (alternating,))
    return "-".join(text), told or full_kernels == 2 or not children
