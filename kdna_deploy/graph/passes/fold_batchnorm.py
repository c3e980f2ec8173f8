"""Fold BatchNorm into the convolution or linear layer in front of it.

    M ← M * γ/√(σ² + ε)        b ← (b − μ) · γ/√(σ² + ε) + β        per call site

The scale goes into the call site's own modulation M [c', 1, …], never into the parent's tensor: children of one
parent have different BatchNorms. A weight without a modulation gets one.

Does not apply: the layer's output has another consumer, BatchNorm in training mode, a BatchNorm behind anything
else than a convolution or linear layer with a constant weight, or statistics that are not constant.
"""

from __future__ import annotations

import operator
from dataclasses import dataclass

import torch
from torch import Tensor, fx

from kdna_deploy.graph.graph import (
    ATEN,
    BATCH_NORM,
    TRAINING_NORMS,
    WEIGHTED,
    add_constant,
    calls,
    constant,
    constant_nodes,
    owns_weight,
    site,
    take_site,
    tidy,
)
from kdna_deploy.graph.passes.result import PassResult, Refusal
from kdna_deploy.graph.weight_expression import modulated_parts, name_of, shape_of


@dataclass(frozen=True)
class _Affine:
    """BatchNorm in evaluation: y = scale · x + shift, both [c'] in float64."""

    scale: Tensor
    shift: Tensor


def fold_batchnorm(module: fx.GraphModule) -> PassResult:
    """Fold every BatchNorm that can be folded."""
    refused = [Refusal(site(node), "BatchNorm is in training mode") for node in calls(module, TRAINING_NORMS)]
    changed = 0
    fixed = constant_nodes(module)
    for norm in calls(module, {BATCH_NORM}):
        reason = _refusal(norm, fixed)
        if reason:
            refused.append(Refusal(site(norm), reason))
            continue
        _fold(norm)
        changed += 1
    tidy(module)
    return PassResult(changed, tuple(refused))


def _refusal(norm: fx.Node, fixed: set[fx.Node]) -> str | None:
    """Why `norm` cannot be folded, or None."""
    layer = norm.args[0]
    if not isinstance(layer, fx.Node) or layer.target not in WEIGHTED:
        return "BatchNorm does not follow a convolution or linear layer"
    weight, bias = layer.args[1], layer.args[2] if len(layer.args) > 2 else None
    checks = (
        (len(layer.users) > 1, "the layer's output has another consumer"),
        (weight not in fixed, "the layer's weight is not constant"),
        (_is_computed(*norm.args[1:5], bias), "BatchNorm statistics or the layer's bias are not constant"),
        (any(not _is_output(user) for user in norm.users), "the statistics of BatchNorm are used elsewhere"),
        (
            layer.target is ATEN.linear.default and layer.meta["val"].dim() != 2,
            "BatchNorm normalises another axis than the layer's outputs",
        ),
    )
    return next((reason for applies, reason in checks if applies), None)


def _is_computed(*operands: object) -> bool:
    return any(isinstance(operand, fx.Node) and operand.op != "get_attr" for operand in operands)


def _is_output(user: fx.Node) -> bool:
    """Whether `user` takes the normalised output; the operator also returns its statistics."""
    return user.target is operator.getitem and user.args[1:] == (0,)


def _fold(norm: fx.Node) -> None:
    layer = norm.args[0]
    assert isinstance(layer, fx.Node)
    affine = _affine(norm)
    if not owns_weight(layer):  # all functional convolutions of a module share its name; their BatchNorms differ
        take_site(layer, norm)
    scale_layer(layer, affine.scale, affine.shift)
    for user in list(norm.users):
        user.replace_all_uses_with(layer)


def _affine(norm: fx.Node) -> _Affine:
    _, gamma, beta, mean, variance, _, epsilon = norm.args
    mu, var = _value(mean), _value(variance)
    assert mu is not None and var is not None and isinstance(epsilon, float)
    scale = torch.rsqrt(var + epsilon)
    if (g := _value(gamma)) is not None:
        scale = scale * g
    shift = -mu * scale
    if (b := _value(beta)) is not None:
        shift = shift + b
    return _Affine(scale, shift)


def _value(operand: object) -> Tensor | None:
    return constant(operand).to(torch.float64) if isinstance(operand, fx.Node) else None


def scale_layer(layer: fx.Node, scale: Tensor, shift: Tensor | None = None) -> None:
    """Let `layer` compute ``scale · y + shift`` in the place of y, by its call site's own modulation and bias."""
    scale = scale.to(torch.float64)
    _scale_weight(layer, scale)
    bias = layer.args[2] if len(layer.args) > 2 else None
    if bias is not None or shift is not None:
        _shift_bias(layer, _Affine(scale, torch.zeros_like(scale) if shift is None else shift))


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


def _shift_bias(layer: fx.Node, affine: _Affine) -> None:
    bias = layer.args[2] if len(layer.args) > 2 else None
    old = _value(bias)
    new = affine.shift if old is None else old * affine.scale + affine.shift
    held = add_constant(layer, f"{layer.name}_bias", new)
    if len(layer.args) > 2:
        layer.update_arg(2, held)
    else:
        layer.args = (*layer.args, held)
