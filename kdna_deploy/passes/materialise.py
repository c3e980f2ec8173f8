"""Materialise: every modulated weight becomes a constant of its own.

    W_l = W * M        one rounding to float32, of the float64 product

Any runtime takes the result; a parent with children is then stored once per child.
"""

from __future__ import annotations

from torch import fx

from kdna_deploy.graph import WEIGHTED, add_constant, calls, constant, tidy
from kdna_deploy.passes.fold_static_attention import modulated_parts
from kdna_deploy.passes.result import PassResult


def materialise(module: fx.GraphModule) -> PassResult:
    """Multiply out every weight ``mul(W, M)``."""
    changed = 0
    for layer in calls(module, WEIGHTED):
        weight = layer.args[1]
        parts = modulated_parts(weight) if isinstance(weight, fx.Node) else None
        if parts is None:
            continue
        base, modulation = parts
        layer.update_arg(1, add_constant(layer, f"{base.target}_materialised", constant(base) * constant(modulation)))
        changed += 1
    tidy(module)
    return PassResult(changed)
