"""What a convolution weight is made of, found by evaluating it rather than by its syntax.

A weight that depends on constants alone is a *weight expression*. With `base` a leaf of the kernel's size,

    expr(base) == base * M   with   M = expr(1)   constant along the input-channel axis

makes it a modulation M [c', 1, k, k] of a parent kernel; otherwise it is a plain constant. Everything is evaluated
in float64. A leaf may be seen through views (``bank[2]``, ``w.unsqueeze(0)``): the view then is the base. An
expression of views alone is the base itself, unmodulated.

Does not apply: a weight that depends on the network's input (a dynamic kernel).
"""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, fx

from kdna_deploy.graph import ATEN, FLOATS, ancestors, constant

# Relative rounding of a handful of float64 products; a structural difference is many orders larger.
_EQUAL = 1e-12

_VIEWS = frozenset(
    {
        ATEN.alias.default,
        ATEN.clone.default,
        ATEN.contiguous.default,
        ATEN.detach.default,
        ATEN.lift_fresh_copy.default,
        ATEN.permute.default,
        ATEN.reshape.default,
        ATEN.select.int,
        ATEN.slice.Tensor,
        ATEN.split.Tensor,
        ATEN.split_with_sizes.default,
        ATEN.squeeze.default,
        ATEN.squeeze.dim,
        ATEN.squeeze.dims,
        ATEN.transpose.int,
        ATEN.unbind.int,
        ATEN.unsqueeze.default,
        ATEN.view.default,
        ATEN._unsafe_view.default,
        operator.getitem,
    }
)
# The views that take one of several, and which operand says which.
_INDICES = {ATEN.select.int: 2, operator.getitem: 1}


@dataclass(frozen=True)
class Modulation:
    """A weight W * M.

    Attributes:
        parent: name of the constant that is modulated.
        base: its value W [c', c, *k], float64.
        modulation: M [c', 1, *k], float64; None where the kernel is used as it stands.
    """

    parent: str
    base: Tensor
    modulation: Tensor | None


def leaves(node: fx.Node) -> list[fx.Node]:
    """The nodes without operands that `node` depends on."""
    return [n for n in ancestors(node) if not n.all_input_nodes]


def analyse(node: fx.Node) -> Modulation | Tensor:
    """Decompose the constant `node`, a convolution weight [c', c, *k], into `Modulation` or its plain value."""
    order = ancestors(node)
    value = _evaluate(order, {})[node]
    for base_node in _bases(order, value.shape):
        if base_node is node:
            return Modulation(_name(node), value, None)
        base = _evaluate(ancestors(base_node), {})[base_node]
        with_ones = _evaluate(order, {base_node: torch.ones_like(base)})[node]
        base = base.reshape(value.shape)
        modulation = with_ones[:, :1]
        if not torch.isfinite(with_ones).all() or not _equal(with_ones, modulation.expand_as(with_ones)):
            continue
        if _equal(value, base * modulation):
            return Modulation(_name(base_node), base, modulation.clone())
    return value


def _equal(a: Tensor, b: Tensor) -> bool:
    return bool(((a - b).abs() <= _EQUAL * b.abs().max()).all())


def _bases(order: list[fx.Node], shape: torch.Size) -> list[fx.Node]:
    """The nodes that may stand for the whole kernel: leaves, seen through views, of the weight's size.

    Several do where an attention is as large as its depthwise kernel: the first operand first, as one writes W * M.
    """
    origin = {}
    for node in order:
        if node.op == "get_attr":
            origin[node] = node
        elif node.target in _VIEWS and len(node.all_input_nodes) == 1 and node.all_input_nodes[0] in origin:
            origin[node] = origin[node.all_input_nodes[0]]
    values = _evaluate([n for n in order if n in origin], {})
    sizes = {n: value.numel() for n, value in values.items() if isinstance(value, Tensor)}
    last = {leaf: n for n, leaf in origin.items() if sizes.get(n) == shape.numel()}
    return list(last.values())[::-1]


def _name(base: fx.Node) -> str:
    """Name of the base: its constant, followed by how a stacked bank is indexed."""
    path = []
    node = base
    while node.op != "get_attr":
        if node.target in _INDICES:
            path.append(str(node.args[_INDICES[node.target]]))
        node = node.all_input_nodes[0]
    return "_".join([cast(str, node.target), *reversed(path)])


def _evaluate(order: list[fx.Node], given: dict[fx.Node, Tensor]) -> dict[fx.Node, Any]:
    """Values of the nodes in float64; `given` overrides some of them."""
    values: dict[fx.Node, Any] = {}
    for node in order:
        if node in given:
            values[node] = given[node]
        elif node.op == "get_attr":
            values[node] = _widen(constant(node))
        else:
            args, kwargs = fx.node.map_arg((node.args, dict(node.kwargs)), lambda n: values[n])
            args, kwargs = fx.node.map_aggregate((args, kwargs), _widen)
            values[node] = fx.node.map_aggregate(cast(Any, node.target)(*args, **kwargs), _widen)
    return values


def evaluate(node: fx.Node) -> Any:
    """Float64 value of a constant node."""
    return _evaluate(ancestors(node), {})[node]


def _widen(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.detach().to(torch.float64) if value.dtype in FLOATS else value
    return torch.float64 if isinstance(value, torch.dtype) and value in FLOATS else value
