"""Fold static attention: the weight expression of every convolution → W * M, or one constant.

    W * (1 + α_f) * (1 + α_s)  →  W * M        M = (1 + α_f)(1 + α_s)   [c', 1, k, k]

The parent W stays one constant however many children it has. A weight that is constant but no modulation
(weight standardisation, low-rank adapters, …) becomes a constant of its own.

Does not apply: a weight that depends on the network's input: refused, and left as it is.
"""

from __future__ import annotations

from torch import Tensor, fx

from kdna_deploy.graph import ATEN, CONVOLUTIONS, add_constant, calls, constant, constant_nodes, site, tidy
from kdna_deploy.passes.result import PassResult, Refusal
from kdna_deploy.weight_expression import Modulation, analyse


def fold_static_attention(module: fx.GraphModule) -> PassResult:
    """Bring every convolution weight into the form ``get_attr`` or ``mul(get_attr W, get_attr M)``."""
    fixed = constant_nodes(module)
    parents: dict[str, list[fx.Node]] = {}
    changed, refused = 0, []
    for conv in calls(module, CONVOLUTIONS):
        weight = conv.args[1]
        if not isinstance(weight, fx.Node) or is_normal(weight):
            continue
        if weight not in fixed:
            refused.append(Refusal(site(conv), "its kernel depends on the network's input"))
            continue
        found = analyse(weight)
        if isinstance(found, Tensor):
            replacement = add_constant(conv, f"{weight.name}_folded", found)
        else:
            replacement = _modulated(conv, found, parents)
        conv.update_arg(1, replacement)
        changed += 1
    tidy(module)
    return PassResult(changed, tuple(refused))


def is_normal(weight: fx.Node) -> bool:
    """Whether a weight already is a constant, or a constant times a modulation along the output channels."""
    return weight.op == "get_attr" or modulated_parts(weight) is not None


def modulated_parts(weight: fx.Node) -> tuple[fx.Node, fx.Node] | None:
    """The nodes (W, M) of a weight ``mul(W [c', c, *k], M [c', 1, *k or 1])``, or None if it is not of that form."""
    if weight.target is not ATEN.mul.Tensor or any(
        not isinstance(operand, fx.Node) or operand.op != "get_attr" for operand in weight.args
    ):
        return None
    base, modulation = weight.all_input_nodes if len(weight.all_input_nodes) == 2 else (None, None)
    if base is None or modulation is None:
        return None
    w, m = constant(base), constant(modulation)
    if w.dim() != m.dim() or m.shape[0] != w.shape[0] or m.shape[1] != 1:
        return None
    if any(size not in (1, full) for size, full in zip(m.shape, w.shape, strict=True)):
        return None  # W is the larger one: α * W of a depthwise kernel has them the other way round
    return base, modulation


def weight_base(layer: fx.Node) -> fx.Node | None:
    """The kernel that a layer's weight is, or is a product with: W of ``W``, ``W * M`` and ``W * M * B``."""
    weight = layer.args[1]
    while isinstance(weight, fx.Node) and weight.target is ATEN.mul.Tensor:
        factor = weight.args[1]
        if not isinstance(factor, fx.Node) or factor.op != "get_attr":
            return None
        weight = weight.args[0]
    return weight if isinstance(weight, fx.Node) and weight.op == "get_attr" else None


def _modulated(conv: fx.Node, found: Modulation, parents: dict[str, list[fx.Node]]) -> fx.Node:
    base = _parent_constant(conv, found, parents)
    if found.modulation is None:
        return base
    modulation = add_constant(conv, f"{base.target}_modulation", found.modulation)
    with conv.graph.inserting_before(conv):
        return conv.graph.call_function(ATEN.mul.Tensor, (base, modulation))


def _parent_constant(conv: fx.Node, found: Modulation, parents: dict[str, list[fx.Node]]) -> fx.Node:
    """A constant with the parent kernel: the network's own where it has the kernel's shape, else one per bank row."""
    for known in parents.setdefault(found.parent, []):
        if constant(known).equal(found.base):
            with conv.graph.inserting_before(conv):
                return conv.graph.get_attr(str(known.target))
    own = [n for n in conv.graph.nodes if n.op == "get_attr" and n.target == found.parent]
    if own and constant(own[0]).equal(found.base):
        with conv.graph.inserting_before(conv):
            node = conv.graph.get_attr(found.parent)
    else:
        node = add_constant(conv, found.parent, found.base)
    parents[found.parent].append(node)
    return node
