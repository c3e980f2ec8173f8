"""What a network is: a backbone, a KernelDNA configuration and a class count.

    Architecture = backbone (kind, depths, widths) + KernelDNA (stages, layouts, attentions, reductions) + classes

Plain data: building and fitting to a checkpoint's shapes is done by the backbone's own class. An architecture
without a KernelDNA configuration is the plain backbone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    from torch import nn

Attention = Literal["channel", "filter", "spatial"]
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


class Backbone(Protocol):
    """A family of networks with its sizes; implementations are frozen dataclasses."""

    @property
    def kind(self) -> str: ...

    @property
    def widths(self) -> tuple[int, ...]: ...

    @property
    def in_channels(self) -> int: ...

    def build(self, sharing: KernelDNA | None, num_classes: int) -> nn.Module:
        """The network, with freshly initialised weights."""

    def fitted(self, shapes: Shapes) -> Backbone:
        """The same family with the widths that a checkpoint's shapes have.

        Raises:
            KeyError: when an entry that tells a width is not there.
        """

    def fitted_sharing(self, sharing: KernelDNA, shapes: Shapes) -> KernelDNA:
        """The configuration with the reductions that a checkpoint's shapes have."""

    def classes(self, shapes: Shapes) -> int:
        """Number of classes of a checkpoint, from the classifier's shape."""


@dataclass(frozen=True)
class Architecture:
    """One deployable network. `name` is what ``--arch`` takes."""

    name: str
    backbone: Backbone
    sharing: KernelDNA | None = None
    num_classes: int = 1000

    @property
    def plain(self) -> Architecture:
        """The unmodified backbone at the same widths and class count: the baseline of every comparison."""
        return replace(self, name=plain_name(self.name), sharing=None)

    @property
    def layouts(self) -> dict[str, str]:
        """Stage → layout; empty for a plain backbone."""
        return dict(self.sharing.stages) if self.sharing else {}

    def build(self) -> nn.Module:
        return self.backbone.build(self.sharing, self.num_classes)

    def fitted(self, shapes: Shapes) -> Architecture:
        """This architecture with widths, class count and reductions read from a checkpoint's shapes."""
        sharing = self.sharing and self.backbone.fitted_sharing(self.sharing, shapes)
        return replace(
            self,
            backbone=self.backbone.fitted(shapes),
            sharing=sharing,
            num_classes=self.backbone.classes(shapes),
        )


def plain_name(name: str) -> str:
    """Name of the plain backbone of architecture `name`."""
    return name if name.endswith("_plain") else f"{name}_plain"


def fitted_reduction(shapes: Shapes, suffix: str, default: int) -> int:
    """The reduction that explains every channel attention whose first layer's name ends in `suffix`.

    The hidden width is a quotient rounded down, so one layer alone does not tell the reduction: 24 // 16 = 24 // 20.
    """
    pairs = [(shape[1], shape[0]) for name, shape in shapes.items() if name.endswith(suffix) and len(shape) == 4]
    if not pairs:
        return default
    widest = max(channels for channels, _ in pairs)
    powers = [1 << n for n in range(widest.bit_length())]  # what people choose, where several explain the widths
    candidates = (default, *powers, *range(1, widest + 1))
    fitting = (r for r in candidates if all(hidden_width(channels, r) == hidden for channels, hidden in pairs))
    return next(fitting, default)


def hidden_width(channels: int, reduction: int) -> int:
    """Hidden width of a channel attention."""
    return max(channels // reduction, 1)


def fitted_attentions(shapes: Shapes, configured: frozenset[Attention]) -> frozenset[Attention]:
    """Of the `configured` attentions, those that a checkpoint has (the ablations of Table 5 lack some)."""
    markers: dict[Attention, str] = {
        "channel": ".se.fc1.weight",
        "filter": "static_filter_attn",
        "spatial": "static_spatial_attn",
    }
    return frozenset(a for a in configured if any(markers[a] in name for name in shapes))
