"""The sharing ledger: which convolutions borrow which parent kernel, and what that saves.

    unique bytes       = Σ 4 · |W|                     every kernel once
    materialised bytes = Σ 4 · |W| · consumers         every child with a kernel of its own

Read off a graph whose static attention is folded: a constant that is the base W of several convolution weights is a
parent. Does not apply before `fold_static_attention`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import cast

from torch import Tensor, fx

from kdna_deploy.graph import BATCH_NORM, CONVOLUTIONS, calls, constant, owns_weight, site
from kdna_deploy.passes.fold_static_attention import modulated_parts, weight_base
from kdna_deploy.weight_expression import leaves

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
class KernelStorage:
    """The convolution kernels at one stage on the way from checkpoint to runtime.

    Attributes:
        stage: where they were counted.
        kernels: distinct kernels stored.
        convolutions: that use them.
        unique_bytes: stored, modulations included.
        materialised_bytes: if every convolution had a kernel of its own.
    """

    stage: str
    kernels: int
    convolutions: int
    unique_bytes: int
    materialised_bytes: int


@dataclass(frozen=True)
class Ledger:
    """All parents of a network, and what its kernels take."""

    parents: tuple[Parent, ...]
    storage: KernelStorage

    @property
    def children(self) -> int:
        return sum(len(parent.children) for parent in self.parents)


def sharing_ledger(module: fx.GraphModule) -> Ledger:
    """The ledger of a graph after `fold_static_attention` and before any later pass."""
    layers = _by_kernel(module)
    parents = [_parent(name, convs) for name, convs in layers.items() if len(convs) > 1]
    storage = graph_storage(module, "checkpoint")
    # A checkpoint holds α, not M: its kernels alone are counted.
    kernels = sum(_FLOAT32_BYTES * _kernel(convs[0]).numel() for convs in layers.values())
    return Ledger(tuple(parents), replace(storage, unique_bytes=kernels))


def graph_storage(module: fx.GraphModule, stage: str) -> KernelStorage:
    """Count the kernels of a graph at any point between the passes."""
    layers = _by_kernel(module)
    kernels = {name: _kernel(convs[0]).numel() for name, convs in layers.items()}
    parts = {
        str(leaf.target): constant(leaf).numel()
        for convs in layers.values()
        for conv in convs
        for leaf in leaves(cast(fx.Node, conv.args[1]))
        if leaf.op == "get_attr"
    }
    return KernelStorage(
        stage,
        kernels=len(kernels),
        convolutions=sum(map(len, layers.values())),
        unique_bytes=_FLOAT32_BYTES * sum(parts.values()),
        materialised_bytes=_FLOAT32_BYTES * sum(size * len(layers[name]) for name, size in kernels.items()),
    )


def _by_kernel(module: fx.GraphModule) -> dict[str, list[fx.Node]]:
    """Name of the base kernel → the convolutions that use it; dynamic kernels are left out."""
    layers: dict[str, list[fx.Node]] = {}
    for conv in calls(module, CONVOLUTIONS):
        base = weight_base(conv)
        if base is not None:
            layers.setdefault(str(base.target), []).append(conv)
    return layers


def _kernel(conv: fx.Node) -> Tensor:
    base = weight_base(conv)
    assert base is not None
    return constant(base)


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
        return norm if not owns_weight(conv) else site(conv)
    return site(conv)
