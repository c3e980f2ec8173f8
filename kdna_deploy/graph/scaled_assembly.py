"""Scale the outputs of a dynamic convolution: s ⊙ conv(x, W(x)) + t, wherever that touches the fewest numbers.

    a bank of the layer's own          K_i ← s ⊙ K_i                          once, when it is folded
    cells that other layers read too   W(x) ← s ⊙ W(x)                        c'·c/g·k² products an image
    (more numbers than outputs)        left as it is                          c'·h·w products an image
    b ← s · b + t                      whatever the kernels' mixture sums up to

Does not apply: ordinary layers (`scaled_layer`).
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, fx

from kdna_deploy.graph.assembly import apply, scaled_constants
from kdna_deploy.graph.graph import ATEN, add_constant, constant


def scale_dynamic(layer: fx.Node, scale: Tensor, shift: Tensor | None = None) -> bool:
    """Let the dynamic convolution `layer` compute ``scale · y + shift``; False where nothing is gained by that.

    `scale` and `shift` are [c'].
    """
    arguments: Any = layer.args
    weight, bias = arguments[1:3]
    kernels = weight.meta["val"].shape[1:]
    column = scale.to(torch.float64).reshape(1, -1, *[1] * (len(kernels) - 1))
    bank = scaled_constants(weight, column)
    if bank is None and math.prod(kernels) > math.prod(layer.meta["val"].shape[1:]):
        return False
    if bank is None:
        layer.update_arg(1, _times(layer, weight, column))
    else:
        apply(bank)
    layer.update_arg(2, _shifted(layer, bias, scale.to(torch.float64), shift))
    return True


def _times(layer: fx.Node, value: fx.Node, scale: Tensor) -> fx.Node:
    held = add_constant(layer, f"{layer.name}_scale", scale)
    with layer.graph.inserting_before(layer):
        made = layer.graph.call_function(ATEN.mul.Tensor, (value, held))
    made.meta = dict(value.meta)
    return made


def _shifted(layer: fx.Node, bias: fx.Node | None, scale: Tensor, shift: Tensor | None) -> fx.Node | None:
    """The bias of a layer whose outputs are scaled and shifted: a constant, or one for each image."""
    if bias is None:
        return None if shift is None else add_constant(layer, f"{layer.name}_bias", shift)
    if bias.op == "get_attr":
        new = constant(bias).to(torch.float64) * scale
        return add_constant(layer, f"{layer.name}_bias", new if shift is None else new + shift)
    bank = scaled_constants(bias, scale.reshape(1, -1))
    if bank is None:
        bias = _times(layer, bias, scale)
    else:
        apply(bank)
    if shift is None:
        return bias
    held = add_constant(layer, f"{layer.name}_bias", shift)
    with layer.graph.inserting_before(layer):
        made = layer.graph.call_function(ATEN.add.Tensor, (bias, held))
    made.meta = dict(bias.meta)
    return made
