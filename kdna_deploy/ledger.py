"""The sharing ledger: which convolutions borrow which parent kernel, and what that saves.

    unique bytes       = Σ 4 · |W|                     every kernel once
    materialised bytes = Σ 4 · |W| · consumers         every child with a kernel of its own

Read off a graph whose static attention is folded: a constant that is the base W of several convolution weights is a
parent. Does not apply before `fold_static_attention`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from torch import fx

from kdna_deploy.graph import BATCH_NORM, CONVOLUTIONS, calls, constant, site
from kdna_deploy.passes.fold_static_attention import modulated_parts

_FLOAT32_BYTES = 4


@dataclass(frozen=True)
class Parent:
    """A kernel with several consumers.

    Attributes:
        name: of the constant, as in the state dict.
        shape: [c', c/g, k, k].
        layer: the convolution that uses the kernel as it stands, if any.
        children: the convolutions that modulate it.
    """

    name: str
    shape: tuple[int, ...]
    layer: str | None
    children: tuple[str, ...]

    @property
    def consumers(self) -> int:
        return len(self.children) + (self.layer is not None)


@dataclass(frozen=True)
class Ledger:
    """All parents of a network, and the bytes of all its convolution kernels."""

    parents: tuple[Parent, ...]
    unique_bytes: int
    materialised_bytes: int

    @property
    def children(self) -> int:
        return sum(len(parent.children) for parent in self.parents)


def sharing_ledger(module: fx.GraphModule) -> Ledger:
    """The ledger of a graph after `fold_static_attention` and before any later pass."""
    layers: dict[str, list[fx.Node]] = {}
    for conv in calls(module, CONVOLUTIONS):
        layers.setdefault(_base(conv), []).append(conv)
    layers.pop("", None)
    parents = [_parent(name, convs) for name, convs in layers.items() if len(convs) > 1]
    sizes = {name: _FLOAT32_BYTES * _kernel(convs[0]).numel() for name, convs in layers.items()}
    return Ledger(
        tuple(parents),
        unique_bytes=sum(sizes.values()),
        materialised_bytes=sum(sizes[name] * len(convs) for name, convs in layers.items()),
    )


def _base(conv: fx.Node) -> str:
    weight = conv.args[1]
    assert isinstance(weight, fx.Node)
    parts = modulated_parts(weight)
    node = parts[0] if parts else weight
    return str(node.target) if node.op == "get_attr" else ""


def _kernel(conv: fx.Node):  # type: ignore[no-untyped-def]
    weight = cast(fx.Node, conv.args[1])
    parts = modulated_parts(weight)
    return constant(parts[0] if parts else weight)


def _parent(name: str, convs: list[fx.Node]) -> Parent:
    own = [conv for conv in convs if modulated_parts(cast(fx.Node, conv.args[1])) is None]
    children = [conv for conv in convs if conv not in own]
    # A kernel that several layers use unmodulated: the first is its layer, the others count as children.
    labels = tuple(conv_label(conv) for conv in [*own[1:], *children])
    return Parent(name, tuple(_kernel(convs[0]).shape), conv_label(own[0]) if own else None, labels)


def conv_label(conv: fx.Node) -> str:
    """The layer's module, or, for a functional convolution, the module whose BatchNorm follows it."""
    follower = next(iter(conv.users), None)
    if follower is not None and follower.target is BATCH_NORM:
        norm = site(follower)
        return norm if not _has_own_module(conv) else site(conv)
    return site(conv)


def _has_own_module(conv: fx.Node) -> bool:
    weight = cast(fx.Node, conv.args[1])
    return weight.op == "get_attr" and str(weight.target).rpartition(".")[0] == site(conv)
