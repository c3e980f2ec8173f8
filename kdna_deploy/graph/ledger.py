"""The sharing ledger: which layers borrow which parent kernel, and what that saves.

    unique bytes       = Σ 4 · |W|          what the checkpoint's kernels hold, every number once
    materialised bytes = Σ 4 · |W_l|        every convolution with a kernel of its own

Read off a graph whose static attention is folded: a kernel from which several weights are made is a parent. A child of
several parents (a mixture) is listed with each. Linear layers are listed where they share; the bytes are those of
convolutions. What kernels are put together from for each image is a bank, neither parent nor child; it is stored once
however many layers read it, and a kernel of its own is that of one image.

Does not apply before `fold_static_attention`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from torch import Tensor, fx

from kdna_deploy.graph.assembly import banks
from kdna_deploy.graph.dynamic_convolution import dynamic_convolution, dynamic_convolutions
from kdna_deploy.graph.graph import BATCH_NORM, CONVOLUTIONS, TRANSPOSED, constant, constant_nodes, owns_weight, site
from kdna_deploy.graph.kernels import Kernel, Site, covered, kernels, shared_kernels, sites
from kdna_deploy.graph.stored_kernels import Bank, KernelStorage, Parent
from kdna_deploy.graph.weight_expression import leaves, name_of, shape_of

__all__ = ["Bank", "KernelStorage", "Ledger", "Parent", "conv_label", "graph_storage", "sharing_ledger"]

_FLOAT32_BYTES = 4


@dataclass(frozen=True)
class Ledger:
    """All parents of a network, the banks of kernels that are made for each image, and what its kernels take."""

    parents: tuple[Parent, ...]
    storage: KernelStorage
    banks: tuple[Bank, ...] = ()

    @property
    def children(self) -> int:
        return sum(len(parent.children) for parent in self.parents)


def sharing_ledger(module: fx.GraphModule) -> Ledger:
    """The ledger of a graph after `fold_static_attention` and before any later pass."""
    found, assembling = _banks(module)
    layers = [site for site in sites(module) if site.layer not in assembling]
    storage = graph_storage(module, "checkpoint")
    # What the kernels are made of in the checkpoint; it holds α, not M, which is left out.
    numbers = sum(int(mask.count_nonzero()) for mask in covered(_convolutions(layers)).values())
    stored = _FLOAT32_BYTES * numbers + sum(bank.stored_bytes for bank in found)
    parents = tuple(_parent(kernel) for kernel in shared_kernels(layers))
    return Ledger(parents, replace(storage, unique_bytes=stored), found)


def graph_storage(module: fx.GraphModule, stage: str) -> KernelStorage:
    """Count the kernels of a graph at any point between the passes."""
    stored_banks, assembling = _banks(module)
    found = kernels(_convolutions([site for site in sites(module) if site.layer not in assembling]))
    dynamic = dynamic_convolutions(module)
    used = dict.fromkeys(site for kernel in found for site in kernel.sites)
    leaf_nodes = [leaf for site in used for leaf in leaves(site.weight) if leaf.op == "get_attr"]
    parts = {str(leaf.target): constant(leaf) for leaf in leaf_nodes}
    return KernelStorage(
        stage,
        kernels=len(found) + len(stored_banks),
        convolutions=len(used) + len(dynamic),
        unique_bytes=sum(map(_bytes, parts.values())) + sum(bank.stored_bytes for bank in stored_banks),
        materialised_bytes=_FLOAT32_BYTES * sum(shape_of(site.weight).numel() for site in used)
        + sum(map(_of_one_image, dynamic)),
    )


def _banks(module: fx.GraphModule) -> tuple[tuple[Bank, ...], set[fx.Node]]:
    """The banks of a graph, in the order of their first use; and all that stands between these and kernels."""
    fixed = constant_nodes(module)
    readers: dict[fx.Node, list[fx.Node]] = {}
    assembling: set[fx.Node] = set()
    for layer in dynamic_convolutions(module):
        found, between = banks(layer, fixed)
        assembling |= between
        for node in found:
            readers.setdefault(node, []).append(layer)
    return tuple(_bank(node, layers) for node, layers in readers.items()), assembling


def _bank(node: fx.Node, layers: list[fx.Node]) -> Bank:
    shape = shape_of(node)
    labels = tuple(map(conv_label, layers))
    return Bank(name_of(node), tuple(shape), labels, _FLOAT32_BYTES * shape.numel(), sum(map(_of_one_image, layers)))


def _of_one_image(layer: fx.Node) -> int:
    """Bytes of the kernel that a dynamic convolution makes of one image."""
    weight = layer.args[1]
    assert isinstance(weight, fx.Node)
    return _FLOAT32_BYTES * math.prod(weight.meta["val"].shape[1:])


def _convolutions(layers: list[Site]) -> list[Site]:
    return [site for site in layers if site.layer.target in CONVOLUTIONS | TRANSPOSED]


def _bytes(value: Tensor) -> int:
    return value.numel() * (_FLOAT32_BYTES if value.is_floating_point() else value.element_size())


def _parent(kernel: Kernel) -> Parent:
    own = [site.layer for site in kernel.as_it_stands()]
    children = [site.layer for site in kernel.sites if site.layer not in own]
    # A kernel that several layers use unmodulated: the first is its layer, the others count as children.
    labels = tuple(conv_label(layer) for layer in [*own[1:], *children])
    return Parent(kernel.name, kernel.shape, conv_label(own[0]) if own else None, labels)


def conv_label(conv: fx.Node) -> str:
    """The layer's module, or, for a functional convolution, the module whose BatchNorm follows it."""
    follower = next(iter(conv.users), None)
    if follower is not None and follower.target is BATCH_NORM and conv.target is not dynamic_convolution:
        norm = site(follower)
        return norm if not owns_weight(conv) else site(conv)
    return site(conv)
