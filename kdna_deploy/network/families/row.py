"""A stage as a row of blocks, a layout letter each (``F-S-F-S-F``).

The published training code names the blocks after the layout: a first block, then, with one parent, ``blocks.i`` and
``last_block``, and with several, ``kids.i`` and ``parents.i``.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from kdna_deploy.network.backbone import Shapes
from kdna_deploy.network.layout import Layout, check_row


class SharedRow(nn.Module):
    """Blocks with kernels of their own, and children between them, made by `child`, which convolve with these kernels.

    `first` is named `name`; the further blocks with kernels of their own are made by `parent`.
    """

    def __init__(
        self,
        layout: Layout,
        name: str,
        first: nn.Module,
        child: Callable[[], nn.Module],
        parent: Callable[[], nn.Module],
    ) -> None:
        super().__init__()
        check_row(layout)
        self.layout = layout
        self.add_module(name, first)
        self._first = name
        kids = nn.ModuleList(child() for _ in layout.children)
        parents = [parent() for _ in range(layout.full_kernels - 1)]
        self.single = len(parents) == 1
        if self.single:
            self.blocks, self.last_block = kids, parents[0]
        else:
            self.kids, self.parents = kids, nn.ModuleList(parents)

    @abstractmethod
    def convolved(self, child: nn.Module, x: Tensor, parent: Any, index: int) -> Tensor:
        """`x` through `child`, number `index` of the stage, with the kernels of `parent`."""

    def forward(self, x: Tensor) -> Tensor:
        kids = self.blocks if self.single else self.kids
        parents = [self.last_block] if self.single else list(self.parents)
        fulls = [self.get_submodule(self._first), *parents]
        for slot in self.layout.slots:
            parent = fulls[slot.parent]
            x = self.convolved(kids[slot.index], x, parent, slot.index) if slot.is_child else parent(x)
        return x


def kernels_of_row(stage: str, first: str, shapes: Shapes) -> tuple[int, int]:
    """How many full kernels and children the names give `stage`, whose first block is named `first`."""
    if not any(name.startswith(f"{stage}.{first}.") for name in shapes):
        return (0, 0)
    last = any(name.startswith(f"{stage}.last_block.") for name in shapes)
    parents, children = numbered(shapes, f"{stage}.parents"), numbered(shapes, f"{stage}.blocks", f"{stage}.kids")
    return (1 + last + parents, children)


def numbered(shapes: Shapes, *lists: str) -> int:
    """How many modules lie in the module lists of these names."""
    return len(
        {
            name.removeprefix(f"{place}.").split(".")[0]
            for name in shapes
            for place in lists
            if name.startswith(f"{place}.")
        }
    )
