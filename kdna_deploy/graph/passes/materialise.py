"""Materialise: every weight expression becomes a constant of its own.

    W_l = W * M        one rounding to float32, of the float64 product

Any runtime takes the result; a parent with children is then stored once per child.
"""

from __future__ import annotations

from collections.abc import Collection

from torch import Tensor, fx

from kdna_deploy.graph.graph import add_constant, tidy
from kdna_deploy.graph.kernels import Site, main_parts, sites
from kdna_deploy.graph.passes.result import PassResult
from kdna_deploy.graph.weight_expression import evaluate, name_of


def materialise(module: fx.GraphModule, keep: Collection[Site] = ()) -> PassResult:
    """Multiply out every constant weight, but those of the layers to `keep`."""
    made: dict[fx.Node, fx.Node] = {}
    changed = 0
    for layer in sites(module):
        weight = layer.weight
        if layer in keep or weight.op == "get_attr":
            continue
        if weight not in made:
            value = evaluate(weight)
            assert isinstance(value, Tensor)
            made[weight] = add_constant(weight, materialised_name(weight), value)
        layer.layer.update_arg(layer.position, made[weight])
        changed += 1
    tidy(module)
    return PassResult(changed)


def materialised_name(weight: fx.Node) -> str:
    """What a kernel of its own is called: after the kernel that it was made from."""
    made_of = main_parts(weight)
    return f"{name_of(made_of[0].node) if made_of else weight.name}_materialised"
