"""Fold a constant scale or shift of channels into the layer in front of it: layer scale, as in ConvNeXt.

    y = γ ⊙ L(x)        M ← M * γ        b ← b · γ        per call site
    y = L(x) / T        γ = 1/T          the temperature of a mixture's weights
    y = L(x) + t        b ← b + t        re-scaling, as in KARST

Between the two the axes may be permuted, as where a linear layer works on maps [n, h, w, c]. Like a BatchNorm's, the
scale goes into the call site's own modulation, never into a shared kernel.

Does not apply: the layer's output has another consumer, its weight or bias is not constant, or the scale is not one
number for each of its channels.
"""

from __future__ import annotations

import torch
from torch import Tensor, fx

from kdna_deploy.graph.graph import ATEN, WEIGHTED, calls, constant, constant_nodes, site, tidy
from kdna_deploy.graph.passes.result import PassResult, Refusal
from kdna_deploy.graph.scaled_layer import scale_layer

_PERMUTE = ATEN.permute.default


def fold_layer_scale(module: fx.GraphModule) -> PassResult:
    """Fold every scale of a layer's channels that can be folded."""
    changed, refused = 0, []
    fixed = constant_nodes(module)
    for product in calls(module, {ATEN.mul.Tensor, ATEN.div.Tensor, ATEN.add.Tensor}):
        scaled, layer, axis = _scaled(product, fixed)
        if scaled is None or layer is None:
            continue
        scale = _scale(product, scaled, axis)
        shifts = product.target is ATEN.add.Tensor
        if scale is not None and product.target is ATEN.div.Tensor:
            scale = 1 / scale
        if scale is None or not _is_constant(layer, fixed):
            continue
        if bool((scale == (0 if shifts else 1)).all()):
            product.replace_all_uses_with(scaled)
            module.graph.erase_node(product)
            changed += 1
            continue
        if len(layer.users) > 1 or len(scaled.users) > 1:
            refused.append(Refusal(site(layer), "the output that a constant scales has another consumer"))
            continue
        scale_layer(layer, *((None, scale) if shifts else (scale, None)))
        fixed.add(layer.args[1])  # type: ignore[arg-type]
        product.replace_all_uses_with(scaled)
        module.graph.erase_node(product)  # or the next would see it as another consumer
        changed += 1
    tidy(module)
    return PassResult(changed, tuple(refused))


def _scaled(product: fx.Node, fixed: set[fx.Node]) -> tuple[fx.Node | None, fx.Node | None, int]:
    """What is scaled or shifted by a constant, the layer that made it, and the axis of that layer's channels."""
    one, other = product.args[:2]
    if product.target is not ATEN.div.Tensor and not (isinstance(one, fx.Node) and one not in fixed):
        one, other = other, one
    is_constant = isinstance(other, (int, float)) or (isinstance(other, fx.Node) and other.op == "get_attr")
    if not isinstance(one, fx.Node) or one in fixed or not is_constant or product.kwargs:
        return None, None, 0
    scaled = one
    layer, moved = scaled, False
    if scaled.target is _PERMUTE:
        layer, moved = scaled.args[0], True  # type: ignore[assignment]
    if layer.target not in WEIGHTED:
        return None, None, 0
    rank = layer.meta["val"].dim()
    axis = rank - 1 if layer.target is ATEN.linear.default else 1
    if moved:
        axis = [dim % rank for dim in scaled.args[1]].index(axis)  # type: ignore[union-attr,operator]
    return scaled, layer, axis


def _is_constant(layer: fx.Node, fixed: set[fx.Node]) -> bool:
    bias = layer.args[2] if len(layer.args) > 2 else None
    return layer.args[1] in fixed and (not isinstance(bias, fx.Node) or bias.op == "get_attr")


def _scale(product: fx.Node, scaled: fx.Node, axis: int) -> Tensor | None:
    """The constant, [c']; None where it is not one number for each channel or for all, or enlarges what it scales."""
    shape = scaled.meta["val"].shape
    factor = next(one for one in product.args[:2] if one is not scaled)
    value = constant(factor) if isinstance(factor, fx.Node) else torch.tensor(factor, dtype=torch.float64)
    if not value.is_floating_point() or value.dim() > len(shape):
        return None
    wanted = [1] * len(shape)
    wanted[axis] = shape[axis]
    there = [1] * (len(shape) - value.dim()) + list(value.shape)
    return value.flatten().expand(shape[axis]) if there in (wanted, [1] * len(shape)) else None
