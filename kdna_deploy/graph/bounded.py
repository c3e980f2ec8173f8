"""What bounds a value in a graph, and what is computed number by number.

    bounded      ends in a sigmoid, softmax, tanh, ReLU6 or clamp, then in sums, products, means and views of such alone
    activation   x ⊙ f(x), f number by number: both operands are functions of one and the same map

This tells a gate from the map that it scales (`gates`). Bounds are told by the operators, never by values: a product
with a weight that happens to be small bounds nothing, and a quotient by something computed may be as large as it likes.
"""

from __future__ import annotations

from typing import Any

from torch import fx

from kdna_deploy.graph.graph import ATEN

SIGMOIDS = frozenset(
    {
        ATEN.sigmoid.default,
        ATEN.hardsigmoid.default,
        ATEN.tanh.default,
        ATEN.softmax.int,
        ATEN._softmax.default,
    }
)
# Maps that go on to the next layer end in these as well.
_BOUNDED = SIGMOIDS | {ATEN.relu6.default, ATEN.hardtanh.default}
_ARITHMETIC = frozenset(
    {
        ATEN.add.Tensor,
        ATEN.add.Scalar,
        ATEN.sub.Tensor,
        ATEN.rsub.Scalar,
        ATEN.mul.Tensor,
        ATEN.mul.Scalar,
        ATEN.div.Tensor,
        ATEN.div.Scalar,
        ATEN.neg.default,
    }
)
VIEWS = frozenset(
    {
        ATEN.view.default,
        ATEN.reshape.default,
        ATEN._unsafe_view.default,
        ATEN.unsqueeze.default,
        ATEN.squeeze.default,
        ATEN.squeeze.dim,
        ATEN.squeeze.dims,
        ATEN.permute.default,
        ATEN.transpose.int,
        ATEN.alias.default,
        ATEN.clone.default,
        ATEN.contiguous.default,
        ATEN.dropout.default,
        ATEN.expand.default,
    }
)
# What lies between the least and the greatest of its operands.
_MEANS = frozenset(
    {
        ATEN.mean.dim,
        ATEN.amax.default,
        ATEN.avg_pool2d.default,
        ATEN.adaptive_avg_pool2d.default,
        ATEN.max_pool2d.default,
        ATEN.select.int,
        ATEN.slice.Tensor,
        ATEN.cat.default,
        ATEN.stack.default,
    }
)
# Functions of one number: a product of two that are made of these, of one map, is an activation.
_POINTWISE = (
    _ARITHMETIC
    | VIEWS
    | (_BOUNDED - {ATEN.softmax.int, ATEN._softmax.default})
    | {ATEN.clamp.default, ATEN.relu.default, ATEN.softplus.default, ATEN.exp.default, ATEN.erf.default}
)


def is_activation(first: fx.Node, second: fx.Node, fixed: set[fx.Node]) -> bool:
    """Whether both are functions, number by number, of one and the same map."""
    source = _pointwise_sources(first, fixed)
    return len(source) == 1 and source == _pointwise_sources(second, fixed)


def _pointwise_sources(node: fx.Node, fixed: set[fx.Node]) -> set[fx.Node]:
    """What `node` is computed from, number by number."""
    found: set[fx.Node] = set()
    seen: set[fx.Node] = set()
    stack = [node]
    while stack:
        one = stack.pop()
        if one in seen or one in fixed:
            continue
        seen.add(one)
        if one.target in _POINTWISE:
            stack.extend(one.all_input_nodes)
        else:
            found.add(one)
    return found


def is_reciprocal(node: fx.Node) -> bool:
    while node.target in VIEWS:
        node = node.all_input_nodes[0]
    if node.target is ATEN.pow.Tensor_Scalar:
        return float(node.args[1]) < 0  # type: ignore[arg-type]
    return node.target in {ATEN.rsqrt.default, ATEN.reciprocal.default}


def is_bounded(node: fx.Node, by: frozenset[Any] = _BOUNDED) -> bool:
    """Whether what `node` computes is bounded whatever the input, `by` an activation at its end."""
    if node.target in by:
        return True
    if node.target is ATEN.clamp.default and ATEN.hardtanh.default in by:
        return len(node.args) > 2 and None not in node.args[1:3]
    if node.target is ATEN.div.Tensor and isinstance(node.args[1], fx.Node) and node.args[1].op != "get_attr":
        return False
    sources = [n for n in node.all_input_nodes if n.op != "get_attr"]
    return node.target in _ARITHMETIC | VIEWS | _MEANS and bool(sources) and all(is_bounded(n, by) for n in sources)
