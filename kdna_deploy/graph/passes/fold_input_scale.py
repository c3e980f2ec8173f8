"""Fold a constant scale or shift of channels into the layers behind it: re-scaling, as in KARST.

    y = L(s ⊙ x)        W ← W · diag(s)
    y = L(x + t)        b ← b + Σ W t        Σ over channels and taps

s and t are one number for all channels or one for each. Of L(s ⊙ x + t) the shift goes first, and the scale is then in
front of the layer.

Does not apply: something else than linear layers and convolutions reads the result (nothing is said of that: any
network multiplies by numbers somewhere); a scale in front of a kernel that others share, whose layers would each need
another; a shift in front of a convolution that pads with zeros; weights or biases that are not constant.
"""

from __future__ import annotations

import torch
from torch import Tensor, fx

from kdna_deploy.graph.graph import ATEN, calls, constant, constant_nodes, site, tidy
from kdna_deploy.graph.kernels import shared_kernels, sites
from kdna_deploy.graph.passes.input_channels import Affine, fold_inputs, layers_behind, refusal
from kdna_deploy.graph.passes.result import PassResult, Refusal


def fold_input_scale(module: fx.GraphModule) -> PassResult:
    """Fold every constant scale and shift in front of layers that can be folded."""
    changed, refused = 0, []
    fixed = constant_nodes(module)
    found = [
        (node, split) for node in calls(module, {ATEN.mul.Tensor, ATEN.add.Tensor}) if (split := _split(node, fixed))
    ]
    if not found:
        return PassResult(0)
    shared = {use.layer for kernel in shared_kernels(sites(module)) for use in kernel.sites}
    for node, (source, value) in reversed(found):  # the last first: it stands in front of the layer
        for axis in _axes(node, value):
            layers = layers_behind(node, axis, fixed)
            if isinstance(layers, str) or not layers:
                continue
            vector = value.double().flatten().expand(node.meta["val"].shape[axis])
            affine = Affine(vector, None) if node.target is ATEN.mul.Tensor else Affine(None, vector)
            reason = refusal(layers, affine, shared)
            if reason is not None:
                refused.append(Refusal(site(node), reason))
                break
            for layer in layers:
                fold_inputs(layer, affine)
                fixed.update(layer.args[1:3])  # type: ignore[arg-type]
            node.replace_all_uses_with(source)
            module.graph.erase_node(node)  # or the one in front would see it as another reader
            changed += 1
            break
    tidy(module)
    return PassResult(changed, tuple(refused))


def _split(node: fx.Node, fixed: set[fx.Node]) -> tuple[fx.Node, Tensor] | None:
    """What `node` scales or shifts, and the constant by which it does; None where it is not of that form."""
    if node in fixed or node.kwargs:
        return None
    one, other = node.args[:2]
    if not (isinstance(one, fx.Node) and one not in fixed):
        one, other = other, one
    if not isinstance(one, fx.Node) or one in fixed:
        return None
    if isinstance(other, fx.Node):
        value = constant(other) if other.op == "get_attr" else None
    else:
        value = torch.tensor(other, dtype=torch.float64) if isinstance(other, (int, float)) else None
    there, result = one.meta.get("val"), node.meta.get("val")
    if value is None or not value.is_floating_point() or there is None or result is None or there.shape != result.shape:
        return None
    return one, value


def _axes(node: fx.Node, value: Tensor) -> list[int]:
    """The axes along which `value` can be channels: all of one number, else that which it lies along."""
    rank = node.meta["val"].dim()
    if value.numel() == 1:
        return sorted({rank - 1, min(1, rank - 1)}, reverse=True)
    long = [rank - value.dim() + i for i, size in enumerate(value.shape) if size > 1]
    return long if len(long) == 1 else []
