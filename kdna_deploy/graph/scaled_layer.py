"""Scale the outputs of a convolution or linear layer, by what the call site has of its own.

    s ⊙ L(x) + t        M ← M * s        b ← s · b + t

The scale goes into the call site's own modulation M [c', 1, …], never into the parent's tensor, which other layers may
read as well. A weight without a modulation gets one.

Does not apply: weights that depend on the input; `assembly` knows of those.
"""

from __future__ import annotations

import torch
from torch import Tensor, fx

from kdna_deploy.graph.graph import ATEN, add_constant, constant
from kdna_deploy.graph.weight_expression import modulated_parts, name_of, shape_of


def scale_layer(layer: fx.Node, scale: Tensor | None, shift: Tensor | None = None) -> None:
    """Let `layer` compute ``scale · y + shift`` in the place of y; both are [c'], or None."""
    if scale is not None:
        scale = scale.to(torch.float64)
        _scale_weight(layer, scale)
    bias = layer.args[2] if len(layer.args) > 2 else None
    if bias is None and shift is None:
        return
    new = torch.zeros((), dtype=torch.float64) if shift is None else shift.to(torch.float64)
    if isinstance(bias, fx.Node):
        old = constant(bias).to(torch.float64)
        new = (old if scale is None else old * scale) + new
    held = add_constant(layer, f"{layer.name}_bias", new)
    layer.args = (*layer.args[:2], held, *layer.args[3:])


def _scale_weight(layer: fx.Node, scale: Tensor) -> None:
    weight = layer.args[1]
    assert isinstance(weight, fx.Node)
    parts = modulated_parts(weight)
    base, modulation = parts if parts else (weight, None)
    column = scale.reshape(-1, *[1] * (len(shape_of(base)) - 1))
    new = column if modulation is None else constant(modulation) * column
    name = str(modulation.target) if modulation is not None else f"{name_of(base)}_modulation"
    held = add_constant(layer, name, new)
    with layer.graph.inserting_before(layer):
        layer.update_arg(1, layer.graph.call_function(ATEN.mul.Tensor, (base, held)))
