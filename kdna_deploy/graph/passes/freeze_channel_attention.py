"""Freeze channel attention: the gate β(x) becomes a constant, folded into a kernel beside it.

    conv(x ⊙ β(x), W)    →  conv(x, W ⊙ B)                  B = E[β(x)] along the channels that each filter reads
    conv(x, W, b) ⊙ β    →  conv(x, W ⊙ B, b ⊙ B)           B along the filters, where nothing else reads the map
    dropped, B = 1       →  the map itself

The kernels behind the product come first, those in front of it second. What lies between may be average pooling and
other frozen gates and, where B ≥ 0, ReLU and max pooling: they give the same whether B is multiplied before or after.
Exact for the frozen gate, padding included (zero stays zero); what the network computes does change, by as much as β
varies.

Does not apply: `gates.Attention.obstacle`; a map with no such layer on either side; kernels that are not constant.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, fx

from kdna_deploy.graph.gates import Attention, channel_attentions
from kdna_deploy.graph.graph import ATEN, CONVOLUTIONS, add_constant, constant, constant_nodes, tidy
from kdna_deploy.graph.passes.input_channels import along_inputs
from kdna_deploy.graph.passes.result import PassResult, Refusal
from kdna_deploy.graph.weight_expression import evaluate, modulated_parts

# f(x ⊙ B) = f(x) ⊙ B for every B [1, c, 1, 1], and for every B ≥ 0.
_LINEAR = frozenset({ATEN.avg_pool2d.default, ATEN.adaptive_avg_pool2d.default})
_HOMOGENEOUS = _LINEAR | {ATEN.relu.default, ATEN.leaky_relu.default, ATEN.max_pool2d.default}


def freeze_channel_attention(module: fx.GraphModule, gates: Mapping[str, Tensor | None]) -> PassResult:
    """Freeze the channel attentions named in `gates` (name of the product → mean gate [c] or [1]; None drops it)."""
    asked = [found for found in channel_attentions(module) if found.name in gates]
    around, refused = _foldable(module, asked, gates)
    places = [_place(attention, gates[attention.name], around) for attention in around.frozen]
    for attention, place in zip(around.frozen, places, strict=True):
        _fold(attention, gates[attention.name], place)
    for attention in reversed(around.frozen):  # one may scale what another has scaled
        attention.product.replace_all_uses_with(attention.feature_map)
    tidy(module)
    return PassResult(len(around.frozen), refused)


@dataclass(frozen=True)
class _Surroundings:
    """A graph as it is once the gates of `frozen` are constants.

    Attributes:
        frozen: the attentions whose gates are constants.
        fixed: the nodes that depend on constants alone.
        alive: the nodes that the output still depends on.
    """

    frozen: tuple[Attention, ...]
    fixed: frozenset[fx.Node]
    alive: frozenset[fx.Node]

    def readers(self, node: fx.Node) -> list[fx.Node]:
        products = {attention.product for attention in self.frozen}
        used = (user for user in node.users if user in self.alive)
        return [user for user in used if user not in products or self.operand(user) is node]

    def passes(self, node: fx.Node, positive: bool) -> bool:
        """Whether a factor for each channel may be multiplied before or after `node`: `positive`, if it is."""
        scales = any(node is attention.product for attention in self.frozen)
        return scales or node.target in (_HOMOGENEOUS if positive else _LINEAR)

    def operand(self, node: fx.Node) -> fx.Node:
        """The map that a node which a factor passes works on."""
        scaled = [attention.feature_map for attention in self.frozen if attention.product is node]
        source = scaled[0] if scaled else node.args[0]
        assert isinstance(source, fx.Node)
        return source


def _foldable(
    module: fx.GraphModule, asked: list[Attention], gates: Mapping[str, Tensor | None]
) -> tuple[_Surroundings, tuple[Refusal, ...]]:
    """The attentions that can be folded with each other, and why the rest cannot.

    One that stays keeps its gate alive, and with it what that reads; so the rest is looked at again until none leaves.
    """
    fixed = frozenset(constant_nodes(module))
    remaining = list(asked)
    refused: dict[str, str] = {}
    while True:
        around = _Surroundings(tuple(remaining), fixed, _alive(module, remaining))
        places = {a.name: _place(a, gates[a.name], around) for a in remaining}
        leaving = {name: place for name, place in places.items() if isinstance(place, str)}
        if not leaving:
            return around, tuple(Refusal(a.site, refused[a.name]) for a in asked if a.name in refused)
        refused |= leaving
        remaining = [a for a in remaining if a.name not in leaving]


def _alive(module: fx.GraphModule, frozen: list[Attention]) -> frozenset[fx.Node]:
    maps = {attention.product: attention.feature_map for attention in frozen}
    found: set[fx.Node] = set()
    stack = [node for node in module.graph.nodes if node.op == "output"]
    while stack:
        node = stack.pop()
        if node not in found:
            found.add(node)
            stack.extend([maps[node]] if node in maps else node.all_input_nodes)
    return frozenset(found)


@dataclass(frozen=True)
class _Place:
    """Where a frozen gate goes: kernels behind the product, or the one in front of it; neither where it vanishes."""

    behind: tuple[fx.Node, ...] = ()
    front: fx.Node | None = None


def _place(attention: Attention, gate: Tensor | None, around: _Surroundings) -> _Place | str:
    """Where the gate of `attention` can be folded, or why it cannot be."""
    if gate is None or attention.product not in around.alive:
        return _Place()
    behind = _layers_behind(attention, gate, around)
    if not isinstance(behind, str):
        return _Place(behind=tuple(behind))
    front = _layer_in_front(attention, gate, around)
    return f"{behind}, and {front}" if isinstance(front, str) else _Place(front=front)


def _layers_behind(attention: Attention, gate: Tensor, around: _Surroundings) -> list[fx.Node] | str:
    """The convolutions that read the scaled map and nothing else does; or why it is not so."""
    positive = bool((gate >= 0).all())
    found: dict[fx.Node, None] = {}
    stack = [attention.product]
    while stack:
        node = stack.pop()
        for reader in around.readers(node):
            if reader.target in CONVOLUTIONS and reader.args[0] is node and reader.args[1] is not node:
                if reader.args[1] not in around.fixed:
                    return "the kernel behind it is not constant"
                found[reader] = None
            elif around.passes(reader, positive) and around.operand(reader) is node:
                stack.append(reader)
            else:
                return "something else than a convolution reads the scaled feature map"
    return list(found)


def _layer_in_front(attention: Attention, gate: Tensor, around: _Surroundings) -> fx.Node | str:
    """The convolution that makes the map, for the product alone; or why there is none."""
    positive = bool((gate >= 0).all())
    reader, node = attention.product, attention.feature_map
    while True:
        if around.readers(node) != [reader]:
            return "something else reads the map in front of it"
        if node.target in CONVOLUTIONS:
            kernel, bias = node.args[1], node.args[2] if len(node.args) > 2 else None
            constant_layer = kernel in around.fixed and (bias is None or bias in around.fixed)
            return node if constant_layer else "the kernel in front of it is not constant"
        if not around.passes(node, positive):
            return "no convolution makes the map in front of it"
        reader, node = node, around.operand(node)


def _fold(attention: Attention, gate: Tensor | None, place: _Place | str) -> None:
    assert isinstance(place, _Place)
    if gate is None:
        return
    vector = gate.double().flatten().expand(int(attention.product.meta["val"].shape[1]))
    for conv in place.behind:
        _multiply(conv, 1, f"{attention.name}_gate", along_inputs(vector, conv))
    if place.front is not None:
        _scale_outputs(place.front, f"{attention.name}_gate", vector)


def _multiply(conv: fx.Node, position: int, name: str, factor: Tensor) -> None:
    """Multiply a constant operand of `conv`."""
    operand = conv.args[position]
    assert isinstance(operand, fx.Node)
    held = add_constant(conv, name, factor)
    with conv.graph.inserting_before(conv):
        conv.update_arg(position, conv.graph.call_function(ATEN.mul.Tensor, (operand, held)))


def _scale_outputs(conv: fx.Node, name: str, vector: Tensor) -> None:
    """Multiply the output channels of `conv`; a shared kernel stays shared, for it has a modulation along them."""
    weight = conv.args[1]
    assert isinstance(weight, fx.Node)
    column = vector.reshape(-1, *[1] * (conv.meta["val"].dim() - 1))
    parts = modulated_parts(weight)
    if parts:
        base, modulation = parts
        conv.update_arg(1, base)
        column = constant(modulation).double() * column
    _multiply(conv, 1, name, column)
    bias = conv.args[2] if len(conv.args) > 2 else None
    if isinstance(bias, fx.Node):
        conv.update_arg(2, add_constant(conv, f"{name}_bias", evaluate(bias) * vector))
