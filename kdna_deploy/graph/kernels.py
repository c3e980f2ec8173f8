"""Which kernels the layers of a graph are made from, told by the trained numbers that they read.

A weight expression reads numbers of constants through index maps (views, slices, permutations, flips). The largest of
what it reads is its kernel, or its kernels where several are mixed; the rest are adapters and coefficients. Two layers
have a kernel in common when most of what one reads the other reads too: ``w`` and ``w[:8]`` are one kernel, ``bank[0]``
and ``bank[1]`` are two.

Does not apply: weights that depend on the network's input, which belong to no kernel.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import cast

import torch
from torch import Tensor, fx

from kdna_deploy.graph.graph import FLOATS, PRODUCTS, TRANSPOSED, WEIGHTED, ancestors, calls, constant, constant_nodes
from kdna_deploy.graph.weight_expression import INDEX_MAPS, VIEWS, evaluate_with, modulated_parts, name_of, shape_of


@dataclass(frozen=True)
class Site:
    """A layer and the constant weight that it multiplies its input by: operand `position`."""

    layer: fx.Node
    position: int

    @property
    def weight(self) -> fx.Node:
        return cast(fx.Node, self.layer.args[self.position])


@dataclass(frozen=True, eq=False)
class Part:
    """Numbers of one constant, as an expression reads them.

    Attributes:
        constant: name of the constant.
        node: the constant itself, or an index map of it.
        covered: which of its numbers are read, flat.
    """

    constant: str
    node: fx.Node
    covered: Tensor

    @property
    def numbers(self) -> int:
        return int(shape_of(self.node).numel())


@dataclass(eq=False)
class Kernel:
    """Numbers of one constant that layers have in common.

    Attributes:
        constant: name of the constant.
        covered: which of its numbers the layers read.
        uses: the layers, in execution order, each with what it reads.
    """

    constant: str
    covered: Tensor
    uses: list[tuple[Site, Part]] = field(default_factory=list)

    @property
    def name(self) -> str:
        """The constant, with the index of its row where the layers use that row of a bank."""
        return name_of(self._largest.node) if self._largest.covered.equal(self.covered) else self.constant

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the largest that a layer reads of it."""
        return tuple(shape_of(self._largest.node))

    @property
    def _largest(self) -> Part:
        return max((part for _, part in self.uses), key=lambda part: part.numbers)

    @property
    def sites(self) -> list[Site]:
        return [site for site, _ in self.uses]

    def as_it_stands(self) -> list[Site]:
        """The layers whose weight is the whole kernel, neither modulated nor mixed nor permuted."""
        return [s for s, part in self.uses if s.weight is part.node and _is_whole_view(part, self.covered)]


def sites(module: fx.GraphModule) -> list[Site]:
    """Every layer with a constant weight, in execution order."""
    fixed = constant_nodes(module)
    found = [Site(layer, 1) for layer in calls(module, WEIGHTED | TRANSPOSED | PRODUCTS) if layer not in fixed]
    found += [Site(layer, 0) for layer in calls(module, PRODUCTS) if layer not in fixed]
    order = {node: i for i, node in enumerate(module.graph.nodes)}
    return sorted((s for s in found if s.layer.args[s.position] in fixed), key=lambda s: order[s.layer])


def is_weight(node: fx.Node, user: fx.Node) -> bool:
    """Whether `user` is a layer that has the constant `node` as its weight."""
    if user.target in PRODUCTS:
        return node in user.args
    return user.target in WEIGHTED | TRANSPOSED and user.args[1] is node


def kernels(layers: Iterable[Site]) -> list[Kernel]:
    """The kernels of `layers`, in the order of their first use."""
    found: list[Kernel] = []
    for layer in layers:
        for part in main_parts(layer.weight):
            same = [k for k in found if k.constant == part.constant and _overlap(k.covered, part.covered)]
            kernel = _merged(same) if same else Kernel(part.constant, torch.zeros_like(part.covered))
            kernel.covered = kernel.covered | part.covered
            if layer not in kernel.sites:
                kernel.uses.append((layer, part))
            if not same:
                found.append(kernel)
            found = [k for k in found if k not in same[1:]]
    return found


def shared_kernels(layers: Iterable[Site]) -> list[Kernel]:
    """The kernels that several layers use."""
    return [kernel for kernel in kernels(layers) if len(kernel.uses) > 1]


def main_parts(weight: fx.Node) -> list[Part]:
    """The largest of what a weight is made of: one kernel, or several of a size that are mixed."""
    found = parts(unmodulated(weight))
    largest = max((part.numbers for part in found), default=0)
    return [part for part in found if part.numbers == largest]


def parts(weight: fx.Node) -> list[Part]:
    """All floating-point numbers of constants that an expression reads, those of first operands first."""
    origin: dict[fx.Node, fx.Node] = {}
    order = ancestors(weight)
    for node in order:
        source = node.args[0] if node.target in INDEX_MAPS and node.args else None
        if node.op == "get_attr":
            if constant(node).dtype in FLOATS:
                origin[node] = node
        elif isinstance(source, fx.Node) and source in origin and not _reads_numbers(node, source, origin):
            origin[node] = origin[source]
    inside = set(order)
    read = [n for n in reversed(order) if n in origin and (n is weight or _leaves_origin(n, inside, origin))]
    return [_part(node, origin[node]) for node in read]


def unmodulated(weight: fx.Node) -> fx.Node:
    """W of a weight W * M, and the weight itself where it has another form."""
    found = modulated_parts(weight)
    return found[0] if found else weight


def covered(layers: Sequence[Site]) -> dict[str, Tensor]:
    """Constant → which of its numbers the weights read, their modulations left out."""
    masks: dict[str, Tensor] = {}
    for layer in layers:
        for part in parts(unmodulated(layer.weight)):
            known = masks.get(part.constant)
            masks[part.constant] = part.covered if known is None else known | part.covered
    return masks


def _overlap(a: Tensor, b: Tensor) -> bool:
    """Whether most of the smaller set is in the larger one."""
    both, fewer = (a & b).count_nonzero(), min(a.count_nonzero(), b.count_nonzero())
    return bool(2 * both > fewer)


def _merged(same: list[Kernel]) -> Kernel:
    """The first of `same` with what the others have."""
    first = same[0]
    for other in same[1:]:
        first.covered = first.covered | other.covered
        first.uses += [use for use in other.uses if use[0] not in first.sites]
    return first


def _is_whole_view(part: Part, everything: Tensor) -> bool:
    node = part.node
    while node.op != "get_attr":
        if node.target not in VIEWS:
            return False
        node = node.all_input_nodes[0]
    return part.covered.equal(everything)


def _reads_numbers(node: fx.Node, source: fx.Node, origin: dict[fx.Node, fx.Node]) -> bool:
    """Whether an index map takes its indices from trained numbers too."""
    return any(other in origin for other in node.all_input_nodes if other is not source)


def _leaves_origin(node: fx.Node, inside: set[fx.Node], origin: dict[fx.Node, fx.Node]) -> bool:
    """Whether something that is more than an index map of it reads `node`."""
    return any(user in inside and user not in origin for user in node.users)


def _part(node: fx.Node, leaf: fx.Node) -> Part:
    value = constant(leaf)
    if node is leaf:
        mask = torch.ones(value.numel(), dtype=torch.bool)
    else:
        mask = torch.zeros(value.numel(), dtype=torch.bool)
        numbered = torch.arange(value.numel()).reshape(value.shape)
        mask[evaluate_with(node, {leaf: numbered}).flatten()] = True
    return Part(str(leaf.target), node, mask)
