"""Normalisation: y = (x − μ)/√(σ² + ε) · γ + β.

    batch: μ, σ² of training, for each channel          instance: of each channel of each image
    group: of each group of channels of each image      layer: over the last axes        RMS: over the last axes, μ = 0

Does not apply: statistics of the batch at hand, which `purity` refuses.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import onnx_ir as ir
import torch
from onnx_ir.tensor_adapters import to_torch_dtype

from kdna_deploy.graph.graph import ATEN, BATCH_NORM
from kdna_deploy.targets.onnx.operators.writer import Table, Untranslated, Writer


def batch_norm(
    w: Writer,
    x: ir.Value,
    weight: ir.Value | None,
    bias: ir.Value | None,
    running_mean: ir.Value,
    running_var: ir.Value,
    momentum: float,
    eps: float,
) -> tuple[ir.Value]:
    """(x − μ)/√(σ² + ε) · γ + β with constant statistics [c]; what it returns beside, nobody reads."""
    weight, bias = _affine(w, weight, bias, w.fixed_sizes(running_mean), x)
    return (w("BatchNormalization", x, weight, bias, running_mean, running_var, epsilon=eps),)


def instance_norm(
    w: Writer,
    x: ir.Value,
    weight: ir.Value | None,
    bias: ir.Value | None,
    running_mean: ir.Value | None,
    running_var: ir.Value | None,
    use_input_stats: bool,
    momentum: float,
    eps: float,
    cudnn_enabled: bool,
) -> ir.Value:
    """(x − μ)/√(σ² + ε) · γ + β by the statistics of each channel of each image, or by those of training."""
    if not use_input_stats:
        assert running_mean is not None and running_var is not None
        return batch_norm(w, x, weight, bias, running_mean, running_var, momentum, eps)[0]
    channels = w.shape(x)[1]
    if not isinstance(channels, int):
        raise Untranslated("channels that depend on the batch")
    weight, bias = _affine(w, weight, bias, [channels], x)
    return w("InstanceNormalization", x, weight, bias, epsilon=eps)


def group_norm(
    w: Writer,
    x: ir.Value,
    num_groups: int,
    weight: ir.Value | None = None,
    bias: ir.Value | None = None,
    eps: float = 1e-05,
    cudnn_enabled: bool = True,
) -> ir.Value:
    """(x − μ)/√(σ² + ε) · γ + β by the statistics of each group of channels of each image; γ, β for each channel."""
    batch, *rest = w.shape(x)
    if not all(isinstance(size, int) for size in rest):
        raise Untranslated("a map whose size depends on the batch")
    grouped = w.reshape(x, [batch, num_groups, math.prod(rest) // num_groups])
    ones, zeros = _affine(w, None, None, [num_groups], x)
    y = w("InstanceNormalization", grouped, ones, zeros, epsilon=eps, shape=w.shape(grouped))
    y = w.reshape(y, w.shape(x))
    channels = [rest[0], *[1] * (len(rest) - 1)]
    for operator, parameter in (("Mul", weight), ("Add", bias)):
        if parameter is not None:
            y = w(operator, y, w.reshape(parameter, channels))
    return y


def layer_norm(
    w: Writer,
    x: ir.Value,
    normalized_shape: Sequence[int],
    weight: ir.Value | None = None,
    bias: ir.Value | None = None,
    eps: float = 1e-05,
    cudnn_enable: bool = True,
) -> ir.Value:
    """(x − μ)/√(σ² + ε) · γ + β by the statistics over the last axes, as many as `normalized_shape` has."""
    weight = weight if weight is not None else _ones(w, list(normalized_shape), x)
    inputs = (x, weight) if bias is None else (x, weight, bias)
    return w("LayerNormalization", *inputs, axis=-len(normalized_shape), epsilon=eps)


def rms_norm(
    w: Writer,
    x: ir.Value,
    normalized_shape: Sequence[int],
    weight: ir.Value | None = None,
    eps: float | None = None,
) -> ir.Value:
    """x/√(mean x² + ε) · γ over the last axes, as many as `normalized_shape` has; ε is the type's own by default."""
    axes = w.integers(list(range(-len(normalized_shape), 0)))
    epsilon = torch.finfo(to_torch_dtype(w.dtype)).eps if eps is None else eps
    kept = [*w.shape(x)[: -len(normalized_shape)], *[1] * len(normalized_shape)]
    mean = w("ReduceMean", w("Mul", x, x), axes, keepdims=1, shape=kept)
    y = w("Mul", x, w("Reciprocal", w("Sqrt", w("Add", mean, w.number(epsilon, w.dtype)))))
    return y if weight is None else w("Mul", y, weight)


def _affine(
    w: Writer, weight: ir.Value | None, bias: ir.Value | None, shape: list[int], x: ir.Value
) -> tuple[ir.Value, ir.Value]:
    """γ and β, ones and zeros where there are none."""
    weight = weight if weight is not None else _ones(w, shape, x)
    return weight, bias if bias is not None else w.constant("zeros", torch.zeros(shape), x.dtype)


def _ones(w: Writer, shape: list[int], x: ir.Value) -> ir.Value:
    return w.constant("ones", torch.ones(shape), x.dtype)


TABLE: Table = {
    BATCH_NORM: batch_norm,
    ATEN.instance_norm.default: instance_norm,
    ATEN.group_norm.default: group_norm,
    ATEN.layer_norm.default: layer_norm,
    ATEN.rms_norm.default: rms_norm,
}
