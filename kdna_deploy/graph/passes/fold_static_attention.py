"""Fold static attention: the weight expression of every layer → W * M.

    W * (1 + α_f) * (1 + α_s)  →  W * M        M = (1 + α_f)(1 + α_s)   [c', 1, k, k]

The parent W stays one constant however many children it has. Where W is itself an expression (a permuted, flipped or
mixed kernel, one with a low-rank adapter, a standardised one), it stays that expression, and equal ones become one:
what is stored of it is decided later, by `share` or `materialise`.

Does not apply: a weight that depends on the network's input: refused, and left as it is. Transposed convolutions have
their input channels first, so that M would have another form: their weights stay as they are written.
"""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor, fx

from kdna_deploy.graph.graph import ATEN, TRANSPOSED, WEIGHTED, add_constant, calls, constant_nodes, site, tidy
from kdna_deploy.graph.passes.result import PassResult, Refusal
from kdna_deploy.graph.weight_expression import analyse, leaves, modulated_parts, name_of, shape_of


def fold_static_attention(module: fx.GraphModule) -> PassResult:
    """Bring every weight into the form ``W`` or ``mul(W, get_attr M)``, W the smallest base that there is."""
    merge_equal(module)
    fixed = constant_nodes(module)
    bases: dict[tuple[object, ...], fx.Node] = {}
    changed, refused = 0, []
    for layer in calls(module, WEIGHTED | TRANSPOSED):
        weight = layer.args[1]
        if not isinstance(weight, fx.Node) or weight.op == "get_attr":
            continue
        if weight not in fixed:
            refused.append(Refusal(site(layer), "its kernel depends on the network's input"))
        elif layer.target in WEIGHTED:
            changed += _normalise(layer, weight, bases)
    tidy(module)
    return PassResult(changed, tuple(refused))


def merge_equal(module: fx.GraphModule) -> None:
    """Let constant nodes that apply one operator to the same operands be one node."""
    fixed = constant_nodes(module)
    known: dict[str, fx.Node] = {}
    for node in list(module.graph.nodes):
        if node in fixed:
            first = known.setdefault(f"{node.op} {node.target} {node.args} {node.kwargs}", node)
            if first is not node:
                node.replace_all_uses_with(first)
    tidy(module)


def _normalise(layer: fx.Node, weight: fx.Node, bases: dict[tuple[object, ...], fx.Node]) -> int:
    """Rewrite one weight; return whether that changed anything."""
    parts = modulated_parts(weight)
    if parts and parts[0].op == "get_attr":
        return 0
    found = analyse(weight)
    base = bases.setdefault(_identity(found.node, found.base), found.node)
    if (found.modulation is None and base is weight) or (parts and base is parts[0]):
        return 0
    with layer.graph.inserting_before(layer):
        if shape_of(base) != found.base.shape:
            base = layer.graph.call_function(ATEN.reshape.default, (base, list(found.base.shape)))
            base.meta["val"] = torch.empty(found.base.shape, device="meta")
    if found.modulation is None:
        layer.update_arg(1, base)
    else:
        held = add_constant(layer, f"{name_of(base)}_modulation", found.modulation)
        with layer.graph.inserting_before(layer):
            layer.update_arg(1, layer.graph.call_function(ATEN.mul.Tensor, (base, held)))
    return 1


def _identity(node: fx.Node, value: Tensor) -> tuple[object, ...]:
    """Equal for expressions of the same constants with the same value."""
    if node.op == "get_attr":
        return (node.target,)
    digest = hashlib.blake2b(value.contiguous().numpy().tobytes()).digest()
    return (*sorted(str(leaf.target) for leaf in leaves(node)), tuple(value.shape), digest)
