"""A classifier whose stage outputs can be had in place of its logits, for nothing (`network.stages`)."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn

from kdna_deploy.network.stages import STAGES


class Staged(nn.Module):
    """A network [n, c, h, w] → logits [n, classes], or the stage outputs `stage_names`, maps [n, c', h', w']."""

    stage_names: tuple[str, ...] = ()

    @abstractmethod
    def stage_outputs(self, x: Tensor) -> Iterator[Tensor]:
        """The outputs of the four stages, each computed when it is asked for."""

    @abstractmethod
    def classified(self, last: Tensor) -> Tensor:
        """Logits of the last stage's output."""

    def forward(self, x: Tensor) -> Any:
        if not self.stage_names:
            *_, last = self.stage_outputs(x)
            return self.classified(last)
        needed = STAGES[: STAGES.index(self.stage_names[-1]) + 1]
        maps = dict(zip(needed, self.stage_outputs(x), strict=False))  # no stage behind the last one that is needed
        return tuple(maps[name] for name in self.stage_names)


def beheaded(network: nn.Module, head: tuple[str, ...], names: tuple[str, ...]) -> nn.Module:
    """`network`, a `Staged` one, returning the stage outputs `names`, without the modules of its `head`."""
    assert isinstance(network, Staged)
    for path in head:
        owner, _, name = path.rstrip(".").rpartition(".")
        if name in dict(network.get_submodule(owner).named_children()):
            delattr(network.get_submodule(owner), name)
    network.stage_names = names
    return network
