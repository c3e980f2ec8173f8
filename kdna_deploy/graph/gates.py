"""Channel attention in a graph: products of a feature map and a gate, and which operand is which.

    y = x ⊙ β(x)        x [n, c, h, w], β [n, c, 1, 1] or [n, 1, 1, 1]

The gate is the operand that is smaller than the product, seen through `expand`; unless the other ends in a sigmoid or
the like and this one does not. Where the map is 1×1 both are of a size, and the gate is told by what it computes:

    one operand is bounded (it ends in a sigmoid, softmax, tanh or clamp)      → that one
    both are                                                                 → the one computed from the other
    neither is, or what is bounded is what the other is computed from        → cannot be told

Does not apply: activations such as x ⊙ σ(x), products of two maps, products with a constant, networks that are no
functions of images [n, c, h, w].
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import fx

from kdna_deploy.graph.graph import ATEN, ancestors, calls, constant_nodes, site

_SIGMOIDS = frozenset(
    {
        ATEN.sigmoid.default,
        ATEN.hardsigmoid.default,
        ATEN.tanh.default,
        ATEN.softmax.int,
        ATEN._softmax.default,
    }
)
# Maps that go on to the next layer end in these as well.
_BOUNDED = _SIGMOIDS | {ATEN.relu6.default, ATEN.hardtanh.default}
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
_VIEWS = frozenset(
    {
        ATEN.view.default,
        ATEN.reshape.default,
        ATEN._unsafe_view.default,
        ATEN.unsqueeze.default,
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
# Functions of one number: x ⊙ f(x) with f made of these is an activation.
_POINTWISE = (
    _ARITHMETIC
    | _VIEWS
    | (_BOUNDED - {ATEN.softmax.int, ATEN._softmax.default})
    | {ATEN.clamp.default, ATEN.relu.default, ATEN.softplus.default, ATEN.exp.default, ATEN.erf.default}
)


@dataclass(frozen=True)
class Attention:
    """A product that scales a feature map by a gate.

    Attributes:
        product: the node that multiplies.
        feature_map: its operand of the product's size.
        gate: the other, as it was before it was expanded.
        obstacle: why the gate is not one number for each image and channel, or cannot be told from the map; None where
            the product is a channel attention. It completes "not frozen: …".
    """

    product: fx.Node
    feature_map: fx.Node
    gate: fx.Node
    obstacle: str | None = None

    @property
    def name(self) -> str:
        """Of the product in its graph; a clone of the graph has it too."""
        return self.product.name

    @property
    def site(self) -> str:
        return site(self.product)


def channel_attentions(module: fx.GraphModule) -> list[Attention]:
    """The channel attentions that depend on the input, in execution order."""
    return [found for found in scaled_maps(module) if found.obstacle is None]


def scaled_maps(module: fx.GraphModule) -> list[Attention]:
    """Every product that scales a map by something smaller, channel attention or not."""
    fixed = constant_nodes(module)
    found = (_scaled_map(node, fixed) for node in calls(module, {ATEN.mul.Tensor}))
    return [attention for attention in found if attention is not None]


def _scaled_map(product: fx.Node, fixed: set[fx.Node]) -> Attention | None:
    first, second = product.args[:2]
    if not isinstance(first, fx.Node) or not isinstance(second, fx.Node) or {first, second} & fixed or first is second:
        return None
    full, one, other = _shape(product), _unexpanded(first), _unexpanded(second)
    if full is None or len(full) < 4 or not all(isinstance(size, int) for size in full[1:]):
        return None
    is_map = [_same_size(_shape(node), full) for node in (one, other)]
    if all(is_map):
        return _between_pixels(product, first, second) if full[2:] == (1, 1) else None
    if not any(is_map):
        return Attention(product, first, other, "neither operand has the size of the product")
    feature_map, gate = (first, other) if is_map[0] else (second, one)
    return Attention(product, feature_map, gate, _shape_obstacle(gate, full) or _role_obstacle(gate, feature_map))


def _shape(node: fx.Node) -> tuple[Any, ...] | None:
    """Sizes of a tensor; the batch is a symbol."""
    shape = getattr(node.meta.get("val"), "shape", None)
    return None if shape is None else tuple(shape)


def _unexpanded(node: fx.Node) -> fx.Node:
    while node.target is ATEN.expand.default and isinstance(node.args[0], fx.Node):
        node = node.args[0]
    return node


def _same_size(shape: tuple[Any, ...] | None, full: tuple[Any, ...]) -> bool:
    if shape is None or len(shape) != len(full):
        return False
    return isinstance(shape[0], int) == isinstance(full[0], int) and shape[1:] == full[1:]


def _shape_obstacle(gate: fx.Node, full: tuple[Any, ...]) -> str | None:
    shape = _shape(gate)
    if shape is None or len(full) != 4:
        return f"the scaled map has {len(full)} axes in place of [n, c, h, w]"
    if len(shape) != 4 or isinstance(shape[0], int):
        return "its gate is the same for all images of a batch"
    if shape[2:] != (1, 1):
        return "its gate varies over positions, a kernel does not"
    return None


def _role_obstacle(gate: fx.Node, feature_map: fx.Node) -> str | None:
    if _is_bounded(feature_map, _SIGMOIDS) and not _is_bounded(gate):
        return "what is scaled is bounded as a gate is and what scales it is not, so that the gate cannot be told"
    return None


def _between_pixels(product: fx.Node, first: fx.Node, second: fx.Node) -> Attention | None:
    """A product of two maps of one pixel: the gate is told by what it computes."""
    if _is_activation(first, second) or _is_activation(second, first):
        return None
    bounded = [_is_bounded(node) for node in (first, second)]
    computed = [second in ancestors(first), first in ancestors(second)]  # from the other
    if bounded == [True, True] and any(computed):
        position = computed.index(True)
    elif sum(bounded) == 1 and not computed[1 - bounded.index(True)]:
        position = bounded.index(True)
    else:
        why = (
            "neither operand is bounded as a gate is",
            "what is bounded is what the other operand is computed from",
            "both operands are bounded and neither is computed from the other",
        )[sum(bounded)]
        reason = f"the map is one pixel and {why}, so that the gate cannot be told from the map"
        return Attention(product, first, second, reason)
    gate, feature_map = (first, second) if position == 0 else (second, first)
    return Attention(product, feature_map, _unexpanded(gate))


def _is_activation(gate: fx.Node, feature_map: fx.Node) -> bool:
    """Whether `gate` is a function of each number of `feature_map` alone."""
    node = gate
    while node is not feature_map:
        sources = [n for n in node.all_input_nodes if n.op != "get_attr"]
        if node.target not in _POINTWISE or len(sources) != 1:
            return False
        node = sources[0]
    return True


def _is_bounded(node: fx.Node, by: frozenset[Any] = _BOUNDED) -> bool:
    """Whether what `node` computes is bounded whatever the input, `by` an activation at its end."""
    if node.target in by:
        return True
    if node.target is ATEN.clamp.default and ATEN.hardtanh.default in by:
        return len(node.args) > 2 and None not in node.args[1:3]
    if node.target is ATEN.div.Tensor and isinstance(node.args[1], fx.Node) and node.args[1].op != "get_attr":
        return False
    sources = [n for n in node.all_input_nodes if n.op != "get_attr"]
    return node.target in _ARITHMETIC | _VIEWS and bool(sources) and all(_is_bounded(n, by) for n in sources)
