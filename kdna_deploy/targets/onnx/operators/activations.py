"""Activations: functions of one number, applied to each, most of them one operator in ONNX."""

from __future__ import annotations

import math
from collections.abc import Callable

import onnx_ir as ir

from kdna_deploy.graph.graph import ATEN
from kdna_deploy.targets.onnx.operators.writer import Number, Table, Untranslated, Writer

# From there on log(1 + exp x) is x in float32.
_LINEAR_FROM = 16


def same_name(operator: str) -> Callable[[Writer, ir.Value], ir.Value]:
    """The function that writes an operator which ONNX has under a name of its own and without attributes."""

    def write(w: Writer, x: ir.Value) -> ir.Value:
        return w(operator, x)

    write.__doc__ = f"`{operator}` of each number."
    return write


def clamp(w: Writer, x: ir.Value, min: Number | None = None, max: Number | None = None) -> ir.Value:
    """min(max(x, lowest), highest), either of which may be left out."""
    x = w.cast(x, w.dtype)
    bounds = [None if bound is None else w.number(bound, w.dtype) for bound in (min, max)]
    return w("Clip", x, *(bounds if bounds[1] is not None else bounds[:1]))


def clamp_max(w: Writer, x: ir.Value, max: Number) -> ir.Value:
    """min(x, highest)."""
    return clamp(w, x, None, max)


def hardtanh(w: Writer, x: ir.Value, min_val: Number = -1, max_val: Number = 1) -> ir.Value:
    """min(max(x, lowest), highest)."""
    return clamp(w, x, min_val, max_val)


def relu6(w: Writer, x: ir.Value) -> ir.Value:
    """min(max(x, 0), 6)."""
    return clamp(w, x, 0, 6)


def hardsigmoid(w: Writer, x: ir.Value) -> ir.Value:
    """min(max(x/6 + 1/2, 0), 1)."""
    return w("HardSigmoid", x, alpha=1 / 6, beta=1 / 2)


def silu(w: Writer, x: ir.Value) -> ir.Value:
    """x·σ(x)."""
    return w("Mul", x, w("Sigmoid", x))


def gelu(w: Writer, x: ir.Value, *, approximate: str = "none") -> ir.Value:
    """x·Φ(x) = x/2·(1 + erf(x/√2)); "tanh": x/2·(1 + tanh(√(2/π)·(x + 0.044715·x³)))."""
    if approximate == "tanh":
        cube = w("Mul", w.number(0.044715, x.dtype), w("Pow", x, w.number(3, x.dtype)))
        inner = w("Tanh", w("Mul", w.number(math.sqrt(2 / math.pi), x.dtype), w("Add", x, cube)))
    else:
        inner = w("Erf", w("Div", x, w.number(math.sqrt(2), x.dtype)))
    return w("Mul", w.number(0.5, x.dtype), w("Mul", x, w("Add", inner, w.number(1, x.dtype))))


def elu(w: Writer, x: ir.Value, alpha: float = 1, scale: float = 1, input_scale: float = 1) -> ir.Value:
    """s·x for x > 0, s·α·(exp(i·x) − 1) elsewhere."""
    if scale != 1 or input_scale != 1:
        raise Untranslated("scales inside and outside of it")
    return w("Elu", x, alpha=float(alpha))


def celu(w: Writer, x: ir.Value, alpha: float = 1.0) -> ir.Value:
    """max(0, x) + min(0, α·(exp(x/α) − 1))."""
    return w("Celu", x, alpha=float(alpha))


def leaky_relu(w: Writer, x: ir.Value, negative_slope: float = 0.01) -> ir.Value:
    """x for x > 0, s·x elsewhere."""
    return w("LeakyRelu", x, alpha=float(negative_slope))


def prelu(w: Writer, x: ir.Value, weight: ir.Value) -> ir.Value:
    """x for x > 0, s·x elsewhere, with a slope for each channel, the second axis, or one for all."""
    slopes = w.fixed_sizes(weight)
    if slopes and slopes != [1]:
        weight = w.reshape(weight, [*slopes, *[1] * (w.rank(x) - 2)])
    return w("PRelu", x, weight)


def softplus(w: Writer, x: ir.Value, beta: float = 1, threshold: float = 20) -> ir.Value:
    """log(1 + exp(β·x))/β, and x where β·x is above the threshold."""
    if threshold < _LINEAR_FROM:
        raise Untranslated(f"a threshold below {_LINEAR_FROM}")
    if beta == 1:
        return w("Softplus", x)
    factor = w.number(beta, x.dtype)
    return w("Div", w("Softplus", w("Mul", x, factor)), factor)


def log_sigmoid(w: Writer, x: ir.Value) -> ir.Value:
    """log σ(x) = −log(1 + exp(−x))."""
    return w("Neg", w("Softplus", w("Neg", x)))


def threshold(w: Writer, x: ir.Value, threshold: Number, value: Number) -> ir.Value:
    """x above the threshold, a constant elsewhere."""
    above = w("Greater", x, w.number(threshold, x.dtype))
    return w("Where", above, x, w.number(value, x.dtype))


def hardshrink(w: Writer, x: ir.Value, lambd: float = 0.5) -> ir.Value:
    """x where |x| > λ, 0 elsewhere."""
    return w("Shrink", x, lambd=float(lambd), bias=0.0)


def softshrink(w: Writer, x: ir.Value, lambd: float = 0.5) -> ir.Value:
    """x − λ for x > λ, x + λ for x < −λ, 0 elsewhere."""
    return w("Shrink", x, lambd=float(lambd), bias=float(lambd))


def glu(w: Writer, x: ir.Value, dim: int = -1) -> ir.Value:
    """a·σ(b), the halves of x along `dim`."""
    half = w.sizes[dim]
    first, second = w("Split", x, w.integers([half, half]), axis=dim, outputs=2, shape=w.sizes)
    return w("Mul", first, w("Sigmoid", second))


TABLE: Table = {
    ATEN.relu.default: same_name("Relu"),
    ATEN.sigmoid.default: same_name("Sigmoid"),
    ATEN.tanh.default: same_name("Tanh"),
    ATEN.selu.default: same_name("Selu"),
    ATEN.mish.default: same_name("Mish"),
    ATEN.hardswish.default: same_name("HardSwish"),
    ATEN.hardsigmoid.default: hardsigmoid,
    ATEN.relu6.default: relu6,
    ATEN.hardtanh.default: hardtanh,
    ATEN.clamp.default: clamp,
    ATEN.clamp_min.default: clamp,
    ATEN.clamp_max.default: clamp_max,
    ATEN.silu.default: silu,
    ATEN.gelu.default: gelu,
    ATEN.elu.default: elu,
    ATEN.celu.default: celu,
    ATEN.leaky_relu.default: leaky_relu,
    ATEN.prelu.default: prelu,
    ATEN.softplus.default: softplus,
    ATEN.log_sigmoid.default: log_sigmoid,
    ATEN.threshold.default: threshold,
    ATEN.hardshrink.default: hardshrink,
    ATEN.softshrink.default: softshrink,
    ATEN.glu.default: glu,
}
