"""Fold constants: what depends on constants alone is computed once.

    f(c₁, …, cₙ) → c

Evaluated in float64. Biases, statistics and tables written as expressions end here.

Does not apply: weights of layers (they are the sharing, and `share` or `materialise` decides on them), and values that
are not tensors.
"""

from __future__ import annotations

from torch import Tensor, fx

from kdna_deploy.graph.graph import add_constant, constant_nodes, tidy
from kdna_deploy.graph.kernels import is_weight
from kdna_deploy.graph.passes.result import PassResult
from kdna_deploy.graph.weight_expression import evaluate


def fold_constants(module: fx.GraphModule) -> PassResult:
    """Replace every maximal constant sub-expression by its value."""
    fixed = constant_nodes(module)
    frontier = [
        node
        for node in module.graph.nodes
        if node in fixed
        and node.op == "call_function"
        and any(user not in fixed and not is_weight(node, user) for user in node.users)
    ]
    changed = 0
    for node in frontier:
        value = evaluate(node)
        if not isinstance(value, Tensor):
            continue
        held = add_constant(node, f"{node.name}_folded", value)
        node.replace_all_uses_with(held, lambda user, node=node: user not in fixed and not is_weight(node, user))
        changed += 1
    tidy(module)
    return PassResult(changed)
