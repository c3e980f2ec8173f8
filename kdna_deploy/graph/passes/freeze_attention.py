"""Freeze attention: a gate β(x) or a kernel W(x) becomes a constant, folded into a kernel beside it.

    conv(x ⊙ β(x), W)    →  conv(x, W ⊙ B)                  B = E[β(x)] along the channels that each filter reads
    conv(x, W, b) ⊙ β    →  conv(x, W ⊙ B, b ⊙ B)           B along the filters, where nothing else reads the map
    conv(x, W(x), b(x))  →  conv(x, E[W(x)], E[b(x)])       an ordinary convolution
    dropped, B = 1       →  the map itself

The layers behind a product come first, those in front of it second. What lies between may be views, average pooling,
products with constants and, where B ≥ 0, ReLU and max pooling: they give the same whether B is multiplied before or
after. Exact for the constant, padding included (zero stays zero); what the network computes does change, by as much as
β and W vary.

Does not apply: `gates.Attention.obstacle`. A constant that no layer can take up stays as a product, with the reason: it
varies over positions, as in spatial attention, or something else reads the map on either side.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from torch import Tensor, fx

from kdna_deploy.graph.dynamic_convolution import dynamic_convolutions
from kdna_deploy.graph.gates import Attention, attentions
from kdna_deploy.graph.graph import ATEN, CONVOLUTIONS, WEIGHTED, add_constant, calls, constant, constant_nodes, tidy
from kdna_deploy.graph.passes.input_channels import along_inputs, moved, reads_channels
from kdna_deploy.graph.passes.result import PassResult, Refusal
from kdna_deploy.graph.scaled_layer import scale_layer

# f(x ⊙ B) = f(x) ⊙ B for every B [1, c, 1, 1], and for every B ≥ 0.
_POOLS = frozenset({ATEN.avg_pool2d.default, ATEN.adaptive_avg_pool2d.default})
_HOMOGENEOUS = frozenset({ATEN.relu.default, ATEN.leaky_relu.default, ATEN.max_pool2d.default})
_CONVOLUTION = {1: ATEN.conv1d.default, 2: ATEN.conv2d.default, 3: ATEN.conv3d.default}


def freeze_attention(module: fx.GraphModule, gates: Mapping[str, Tensor | None]) -> PassResult:
    """Freeze the attention named in `gates` (`Attention.name` → mean, of its shape for one image; None drops it)."""
    asked = [found for found in attentions(module) if found.name in gates]
    for attention in asked:
        _hold(attention, gates[attention.name])
    for node in dynamic_convolutions(module):
        _make_static(node)
    tidy(module)
    left = calls(module, {ATEN.mul.Tensor})
    products = [one for one in asked if one.product in left and gates[one.name] is not None]
    refused = [(one, _fold(one, constant_nodes(module))) for one in products]
    tidy(module)
    return PassResult(len(asked), tuple(Refusal(one.site, reason) for one, reason in refused if reason))


def _hold(attention: Attention, gate: Tensor | None) -> None:
    """Put the constant in its place."""
    if gate is None:
        attention.product.replace_all_uses_with(attention.feature_map)
        return
    shape = (1, *attention.gate.meta["val"].shape[1:])
    held = add_constant(attention.product, f"{attention.name}_mean", gate.double().reshape(shape))
    attention.product.update_arg(attention.position, held)


def _make_static(node: fx.Node) -> None:
    """Write a dynamic convolution whose kernel and bias are constants as an ordinary one."""
    x, weight, bias, *settings = node.args
    if any(isinstance(one, fx.Node) and one.op != "get_attr" for one in (weight, bias)):
        return
    assert isinstance(weight, fx.Node)
    kernel = add_constant(node, f"{node.name}_kernel", constant(weight)[0])
    shift = add_constant(node, f"{node.name}_bias", constant(bias).flatten()) if isinstance(bias, fx.Node) else None
    with node.graph.inserting_before(node):
        made = node.graph.call_function(_CONVOLUTION[constant(kernel).dim() - 2], (x, kernel, shift, *settings))
    made.meta = dict(node.meta)
    node.replace_all_uses_with(made)


def _fold(attention: Attention, fixed: Collection[fx.Node]) -> str | None:
    """Fold a product with a constant into a layer beside it; the reason where there is none."""
    product = attention.product
    held = product.args[attention.position]
    assert isinstance(held, fx.Node)
    value = constant(held)
    axes = [axis for axis in range(1, value.dim()) if value.shape[axis] > 1]
    if len(axes) > 1:
        return "it varies over positions, which a kernel does not"
    reasons = []
    for axis in axes or range(1, value.dim()):
        scale = _Scale(value.flatten().expand(int(product.meta["val"].shape[axis])), axis, fixed)
        behind = scale.layers_behind(product)
        if not isinstance(behind, str):
            for layer in behind:
                _scale_inputs(layer, f"{attention.name}_gate", scale.vector)
            product.replace_all_uses_with(attention.feature_map)
            return None
        front = scale.layer_in_front(product, attention.feature_map)
        if not isinstance(front, str):
            scale_layer(front, scale.vector)
            product.replace_all_uses_with(attention.feature_map)
            return None
        reasons.append(f"{behind}, and {front}")
    return reasons[0]


@dataclass(frozen=True)
class _Scale:
    """A constant `vector` along the `axis` of a map, in a graph whose constant nodes are `fixed`."""

    vector: Tensor
    axis: int
    fixed: Collection[fx.Node]

    def layers_behind(self, product: fx.Node) -> list[fx.Node] | str:
        """The layers that read the scaled map and nothing else does; or why it is not so."""
        found: dict[fx.Node, None] = {}
        stack = [(product, self.axis)]
        while stack:
            node, axis = stack.pop()
            for reader in node.users:
                if reads_channels(reader, node, axis):
                    if reader.args[1] not in self.fixed:
                        return "the kernel behind it is not constant"
                    found[reader] = None
                    continue
                place = self._passed(reader, node, axis)
                if place is None:
                    return "something else than a layer of its channels reads the scaled map"
                stack.append((reader, place))
        return list(found)

    def layer_in_front(self, product: fx.Node, feature_map: fx.Node) -> fx.Node | str:
        """The layer that makes the map, for the product alone; or why there is none."""
        reader, node, axis = product, feature_map, self.axis
        while True:
            if list(node.users) != [reader]:
                return "something else reads the map in front of it"
            if node.target in WEIGHTED and axis == _made_along(node):
                bias = node.args[2] if len(node.args) > 2 else None
                constant_layer = node.args[1] in self.fixed and (not isinstance(bias, fx.Node) or bias.op == "get_attr")
                return node if constant_layer else "the kernel in front of it is not constant"
            source = next((one for one in node.all_input_nodes if one not in self.fixed), None)
            places = range(1, source.meta["val"].dim()) if source else ()
            before = next((place for place in places if self._passed(node, source, place) == axis), None)
            if source is None or before is None:
                return "no layer makes the map in front of it"
            reader, node, axis = node, source, before

    def _passed(self, node: fx.Node, source: fx.Node | None, axis: int) -> int | None:
        """Where `node`, computed from `source`, has the channels along `axis`, and may be scaled before or after."""
        assert source is not None
        if node.target in (_POOLS | {ATEN.max_pool2d.default}) and axis != 1:
            return None
        if node.target in _POOLS or (node.target in _HOMOGENEOUS and bool((self.vector >= 0).all())):
            return axis
        if node.target is ATEN.mul.Tensor:
            by_constant = any(one in self.fixed for one in node.args[:2])
            return axis if by_constant and node.meta["val"].shape == source.meta["val"].shape else None
        return moved(node, source, axis)


def _scale_inputs(layer: fx.Node, name: str, vector: Tensor) -> None:
    """Multiply the input channels of `layer`."""
    weight = layer.args[1]
    assert isinstance(weight, fx.Node)
    held = add_constant(layer, name, along_inputs(vector, layer))
    with layer.graph.inserting_before(layer):
        layer.update_arg(1, layer.graph.call_function(ATEN.mul.Tensor, (weight, held)))


def _made_along(layer: fx.Node) -> int:
    """The axis of what `layer`, a convolution or linear layer, returns that its filters are along."""
    return 1 if layer.target in CONVOLUTIONS else layer.meta["val"].dim() - 1
