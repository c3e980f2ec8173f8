"""Fold a constant scale of channels into the convolution or linear layer in front of it: layer scale, as in ConvNeXt.

    y = γ ⊙ L(x)        M ← M * γ        b ← b · γ        per call site

Between the two the axes may be permuted, as where a linear layer works on maps [n, h, w, c]. Like a BatchNorm's, the
scale goes into the call site's own modulation, never into a shared kernel.

Does not apply: the layer's output has another consumer, its weight or bias is not constant, or the scale is not one
number for each of its channels.
"""

from __future__ import annotations

from torch import Tensor, fx

from kdna_deploy.graph.graph import ATEN, WEIGHTED, calls, constant, constant_nodes, site, tidy
from kdna_deploy.graph.passes.fold_batchnorm import scale_layer
from kdna_deploy.graph.passes.result import PassResult, Refusal

_PERMUTE = ATEN.permute.default


def fold_layer_scale(module: fx.GraphModule) -> PassResult:
    """Fold every scale of a layer's channels that can be folded."""
    changed, refused = 0, []
    fixed = constant_nodes(module)
    for product in calls(module, {ATEN.mul.Tensor}):
        scaled, layer, axis = _scaled(product, fixed)
        if scaled is None or layer is None:
            continue
        scale = _scale(product, scaled, axis)
        if scale is None or not _is_constant(layer, fixed):
            continue
        if len(layer.users) > 1 or len(scaled.users) > 1:
            refused.append(Refusal(site(layer), "the output that a constant scales has another consumer"))
            continue
        scale_layer(layer, scale)
        product.replace_all_uses_with(scaled)
        changed += 1
    tidy(module)
    return PassResult(changed, tuple(refused))


def _scaled(product: fx.Node, fixed: set[fx.Node]) -> tuple[fx.Node | None, fx.Node | None, int]:
    """What the product scales by a constant, the layer that made it, and the axis of that layer's channels."""
    operands = [one for one in product.args[:2] if isinstance(one, fx.Node)]
    scaled = next((one for one in operands if one not in fixed), None)
    if len(operands) != 2 or scaled is None or not any(one.op == "get_attr" for one in operands):
        return None, None, 0
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
    """The constant, [c']; None where it is not one number for each channel, or enlarges what it scales."""
    shape = scaled.meta["val"].shape
    value = constant(next(one for one in product.args[:2] if one is not scaled))  # type: ignore[arg-type]
    wanted = [1] * len(shape)
    wanted[axis] = shape[axis]
    there = [1] * (len(shape) - value.dim()) + list(value.shape)
    return value.flatten() if there == wanted and value.is_floating_point() else None
