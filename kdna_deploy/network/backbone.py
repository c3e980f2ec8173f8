"""A backbone: a family of networks with its sizes, and which of its stages share kernels as KernelDNA does.

Plain data: a network is built by the family's own class, in ``families/``. Imports nothing heavy.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from kdna_deploy.network.configuration import Attention
from kdna_deploy.network.layout import row_layout

if TYPE_CHECKING:
    from torch import nn
    from typing_extensions import Self

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class KernelDNA:
    """Which stages share kernels, and how.

    Attributes:
        stages: (stage module name, layout) pairs, e.g. ``(("layer3", "FS-SF-SF"),)``.
        attentions: the attentions that a child has (the paper's ablation, Table 5).
        reductions: channel attention reduction for each shared convolution of a block (Table 7).
    """

    stages: tuple[tuple[str, str], ...]
    attentions: frozenset[Attention] = frozenset({"channel", "filter", "spatial"})
    reductions: tuple[int, ...] = (4,)

    def layout(self, stage: str) -> str | None:
        """Layout of `stage`, or None where it is an unmodified stage of the backbone."""
        return dict(self.stages).get(stage)


class Backbone(ABC):
    """A family of networks with its sizes; implementations are frozen dataclasses.

    A family says of its networks what `build`, `fitted` and the three names tell. The rest is for families whose stages
    can have several layouts.

    Attributes:
        widths: channels of its stages, in the order of the layers.
        in_channels: of its images.
        kind: name of the family.
        classifier: state-dict name of the weight whose rows are the classes.
        head: how the names begin of whatever lies behind the last stage, the classifier's first.
        reductions: of each channel attention of a block, how the name of its first layer's weight ends.
    """

    widths: tuple[int, ...]
    in_channels: int
    kind: ClassVar[str]
    classifier: ClassVar[str]
    head: ClassVar[tuple[str, ...]] = ()
    reductions: ClassVar[tuple[str, ...]] = ("se.fc1.weight",)

    @abstractmethod
    def build(self, sharing: KernelDNA | None, num_classes: int) -> nn.Module:
        """The network, with freshly initialised weights."""

    @abstractmethod
    def fitted(self, shapes: Shapes) -> Self:
        """The same family with the widths that a checkpoint's shapes have, see `sized`.

        Raises:
            KeyError: when an entry that tells a width is not there.
        """

    @property
    def stages(self) -> tuple[str, ...]:
        """Names of the stages that can share kernels."""
        return ()

    def kernels(self, stage: str, shapes: Shapes) -> tuple[int, int]:
        """How many full kernels and children a checkpoint's names give `stage`; (0, 0) where it shares none."""
        return (0, 0)

    def layout(self, full_kernels: int, children: int) -> tuple[str, bool]:
        """A layout with so many kernels, and whether the numbers tell it."""
        return row_layout(full_kernels, children)

    def classes(self, shapes: Shapes) -> int:
        """Number of classes of a checkpoint."""
        return shapes[self.classifier][0]

    def has_classifier(self, shapes: Shapes) -> bool:
        """Whether a checkpoint holds anything of a classifier; so do those of families whose stages are not known."""
        return not self.head or any(name.startswith(("fc.", "head.", "classifier.")) for name in shapes)

    def scaled(self, factor: float) -> Self:
        """The same family with `factor` times the widths."""
        return self.sized(tuple(max(round(width * factor), 1) for width in self.widths), self.in_channels)

    def sized(self, widths: tuple[int, ...], in_channels: int) -> Self:
        """The same family with these widths."""
        return replace(self, widths=widths, in_channels=in_channels)  # type: ignore[type-var]

    @property
    def sizes(self) -> dict[str, int]:
        """What a checkpoint's shapes tell beside widths and channels; artifacts record it."""
        return {}

    def with_sizes(self, sizes: Mapping[str, int]) -> Self:
        """The same family with these `sizes`."""
        return self

    @property
    def image_size(self) -> tuple[int, int] | None:
        """The one size (h, w) of its images; None where it takes any."""
        return None
