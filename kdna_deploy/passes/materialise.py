"""Materialise: every modulated weight becomes a constant of its own.

    W_l = W * M        one rounding to float32, of the float64 product

Any runtime takes the result; a parent with children is then stored once per child.
"""

from __future__ import annotations

from torch import Tensor, fx

from kdna_deploy.graph import WEIGHTED, add_constant, calls, tidy
from kdna_deploy.passes.fold_static_attention import weight_base
from kdna_deploy.passes.result import PassResult
from kdna_deploy.weight_expression import evaluate


def materialise(module: fx.GraphModule, keep: frozenset[fx.Node] = frozenset()) -> PassResult:
    """Multiply out every weight that is a product with a kernel, but those of the layers to `keep`."""
    changed = 0
    for layer in calls(module, WEIGHTED):
        weight, base = layer.args[1], weight_base(layer)
        if layer in keep or base is None or not isinstance(weight, fx.Node) or weight.op == "get_attr":
            continue
        value = evaluate(weight)
        assert isinstance(value, Tensor)
        layer.update_arg(1, add_constant(layer, f"{base.target}_materialised", value))
        changed += 1
    tidy(module)
    return PassResult(changed)
