"""Fold constants: what depends on constants alone is computed once.

    f(c₁, …, cₙ) → c

Evaluated in float64. Linear weights, biases and attention tables written as expressions end here.

Does not apply: convolution weights in the form W * M (they are the sharing, and `materialise` decides on them),
and values that are not tensors.
"""

from __future__ import annotations

from torch import Tensor, fx

from kdna_deploy.graph import WEIGHTED, add_constant, constant_nodes, tidy
from kdna_deploy.passes.fold_static_attention import modulated_parts
from kdna_deploy.passes.result import PassResult
from kdna_deploy.weight_expression import evaluate


def fold_constants(module: fx.GraphModule) -> PassResult:
    """Replace every maximal constant sub-expression by its value."""
    fixed = constant_nodes(module)
    frontier = [
        node
        for node in module.graph.nodes
        if node in fixed and node.op == "call_function" and any(user not in fixed for user in node.users)
    ]
    changed = 0
    for node in frontier:
        if _is_shared_weight(node):
            continue
        value = evaluate(node)
        if not isinstance(value, Tensor):
            continue
        node.replace_all_uses_with(add_constant(node, f"{node.name}_folded", value))
        changed += 1
    tidy(module)
    return PassResult(changed)


def _is_shared_weight(node: fx.Node) -> bool:
    weights_only = all(user.target in WEIGHTED and user.args[1] is node for user in node.users)
    return weights_only and modulated_parts(node) is not None
