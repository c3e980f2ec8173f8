"""Attention in a graph: what multiplies a map, or convolves it, and depends on the image itself.

    y = x ⊙ β(x)        a gate: [n, c, 1, 1], [n, 1, h, w], or anything else that is no larger than x [n, …]
    y = conv(x, W(x))   a kernel for each image (`dynamic_convolution`), and its bias

The gate of a product is the operand that is smaller than it, seen through `expand`; unless the other ends in a sigmoid
or the like and this one does not, or this one is neither one number for each channel nor bounded. Where both are of a
size, as on maps of one pixel, it is told by what it computes:

    one operand is bounded (it ends in a sigmoid, softmax, tanh or clamp)      → that one
    both are                                                                 → the one computed from the other
    neither is, or what is bounded is what the other is computed from        → cannot be told

Bounded on larger maps are sigmoids, softmax and tanh alone: networks multiply maps that end in ReLU6 as well.

Does not apply: activations such as x ⊙ σ(x), products with a constant, what only goes into a kernel W(x), which
becomes a constant as a whole.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import fx

from kdna_deploy.graph.bounded import SIGMOIDS, VIEWS, is_activation, is_bounded, is_reciprocal
from kdna_deploy.graph.dynamic_convolution import dynamic_convolution, dynamic_convolutions
from kdna_deploy.graph.graph import ATEN, PRODUCTS, ancestors, calls, constant_nodes, site

# What the name of a kernel's bias ends in.
BIAS = ".bias"


@dataclass(frozen=True)
class Attention:
    """Something that multiplies a map and depends on the image.

    Attributes:
        product: the node that multiplies; a dynamic convolution, of a kernel or its bias.
        position: which of its operands depends on the image.
        gate: that operand, as it was before it was expanded.
        obstacle: why it cannot become a constant, or cannot be told from the map; None where it can. It completes
            "not frozen: …".
    """

    product: fx.Node
    position: int
    gate: fx.Node
    obstacle: str | None = None

    @property
    def name(self) -> str:
        """Of the product in its graph; a clone of the graph has it too."""
        return self.product.name + BIAS if self.is_bias else self.product.name

    @property
    def site(self) -> str:
        return f"{site(self.product)}, bias" if self.is_bias else site(self.product)

    @property
    def is_kernel(self) -> bool:
        """Whether it is a kernel, or the bias that belongs to one."""
        return self.product.target is dynamic_convolution

    @property
    def is_bias(self) -> bool:
        return self.is_kernel and self.position != 1

    @property
    def feature_map(self) -> fx.Node:
        """What is multiplied."""
        found = self.product.args[0 if self.is_kernel else 1 - self.position]
        assert isinstance(found, fx.Node)
        return found

    @property
    def is_channel_attention(self) -> bool:
        """Whether it is one number for each image and channel of a map [n, c, h, w], or for each image."""
        return not self.is_kernel and len(_shape(self.product) or ()) == 4 and _is_one_for_each_channel(self.gate)


def channel_attentions(module: fx.GraphModule) -> list[Attention]:
    """The channel attentions that depend on the input, in execution order."""
    return [one for one in _scaled_maps(module) if one.obstacle is None and one.is_channel_attention]


def attentions(module: fx.GraphModule) -> list[Attention]:
    """What can become a constant: gates in execution order, then kernels for each image and their biases."""
    return [one for one in dynamic_values(module) if one.obstacle is None]


def dynamic_values(module: fx.GraphModule) -> list[Attention]:
    """The same with what has an obstacle."""
    alive = _outside_kernels(module)
    return [one for one in (*_scaled_maps(module), *_kernels(module)) if one.product in alive]


def image_products(module: fx.GraphModule) -> list[fx.Node]:
    """Products with a matrix that is made of one vector for each image, as Φ(x) of DCD: neither gates nor kernels."""
    fixed, alive = constant_nodes(module), _outside_kernels(module)
    found = [one for one in calls(module, PRODUCTS) if one in alive and not fixed.intersection(one.all_input_nodes)]
    return [one for one in found if any(map(_is_of_vector, one.all_input_nodes))]


def _is_of_vector(matrix: fx.Node) -> bool:
    while matrix.target in VIEWS and isinstance(matrix.args[0], fx.Node):
        matrix = matrix.args[0]
    shape = _shape(matrix) or ()
    return len(shape) == 2 and not isinstance(shape[0], int)


def _outside_kernels(module: fx.GraphModule) -> set[fx.Node]:
    """What the output depends on in another way than through a kernel for each image alone."""
    found: set[fx.Node] = set()
    stack = [module.graph.output_node()]
    while stack:
        node = stack.pop()
        if node not in found:
            found.add(node)
            stack.extend(node.all_input_nodes[:1] if node.target is dynamic_convolution else node.all_input_nodes)
    return found


def _kernels(module: fx.GraphModule) -> list[Attention]:
    fixed = constant_nodes(module)
    found = [(node, i, node.args[i]) for node in dynamic_convolutions(module) for i in (1, 2)]
    return [Attention(node, i, one) for node, i, one in found if isinstance(one, fx.Node) and one not in fixed]


def _scaled_maps(module: fx.GraphModule) -> list[Attention]:
    """Every product of two values that depend on the input, activations aside."""
    fixed = constant_nodes(module)
    found = (_scaled_map(node, fixed) for node in calls(module, {ATEN.mul.Tensor}))
    return [attention for attention in found if attention is not None]


def _scaled_map(product: fx.Node, fixed: set[fx.Node]) -> Attention | None:
    first, second = product.args[:2]
    if not isinstance(first, fx.Node) or not isinstance(second, fx.Node) or {first, second} & fixed or first is second:
        return None
    full, operands = _shape(product), [_unexpanded(first), _unexpanded(second)]
    if not full or is_activation(first, second, fixed):
        return None
    is_map = [_same_size(_shape(node), full) for node in operands]
    if all(is_map):
        return _of_one_size(product, first, second, full)
    if not any(is_map):
        return Attention(product, 1, operands[1], "neither operand has the size of the product")
    position = is_map.index(False)
    gate, feature_map = operands[position], operands[1 - position]
    return Attention(product, position, gate, _shape_obstacle(gate, full) or _role_obstacle(gate, feature_map))


def _shape(node: fx.Node) -> tuple[Any, ...] | None:
    """Sizes of a tensor; the batch is a symbol."""
    shape = getattr(node.meta.get("val"), "shape", None)
    return None if shape is None else tuple(shape)


def _unexpanded(node: fx.Node) -> fx.Node:
    while node.target is ATEN.expand.default and isinstance(node.args[0], fx.Node):
        node = node.args[0]
    return node


def _is_one_for_each_channel(gate: fx.Node) -> bool:
    """Whether it is [n, c, 1, 1] or [n, 1, 1, 1]."""
    return (_shape(gate) or ())[2:] == (1, 1)


def _same_size(shape: tuple[Any, ...] | None, full: tuple[Any, ...]) -> bool:
    if shape is None or len(shape) != len(full):
        return False
    return isinstance(shape[0], int) == isinstance(full[0], int) and shape[1:] == full[1:]


def _shape_obstacle(gate: fx.Node, full: tuple[Any, ...]) -> str | None:
    shape = _shape(gate)
    if isinstance(full[0], int) or not all(isinstance(size, int) for size in full[1:]):
        return "the images of a batch do not lie along the first axis of what it scales"
    if shape is None or len(shape) != len(full) or isinstance(shape[0], int):
        return "its gate is the same for all images of a batch"
    return None


def _role_obstacle(gate: fx.Node, feature_map: fx.Node) -> str | None:
    if is_bounded(feature_map, SIGMOIDS) and not is_bounded(gate):
        return "what is scaled is bounded as a gate is and what scales it is not, so that the gate cannot be told"
    if is_reciprocal(gate):
        return "what scales it is the reciprocal of something, as in a normalisation, and no gate"
    if not _is_one_for_each_channel(gate) and not is_bounded(gate):
        return "what scales it is not bounded as a gate is, so that the gate cannot be told from the map"
    return None


def _of_one_size(product: fx.Node, first: fx.Node, second: fx.Node, full: tuple[Any, ...]) -> Attention:
    """A product of two maps of a size: the gate is told by what it computes."""
    pixel = all(size == 1 for size in full[2:])
    bounded = [is_bounded(node) if pixel else is_bounded(node, SIGMOIDS) for node in (first, second)]
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
        reason = f"both operands are of a size and {why}, so that the gate cannot be told from the map"
        return Attention(product, 1, second, reason)
    gate = _unexpanded((first, second)[position])
    return Attention(product, position, gate, _shape_obstacle(gate, full))
