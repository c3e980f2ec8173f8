"""Arithmetic, comparisons and choices, number by number, of tensors that broadcast and of plain numbers.

Operands are brought to the type that PyTorch computes in: that of the result, or, where the result is a truth value,
the one that both operands promote to.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import onnx_ir as ir
import torch
from onnx_ir.tensor_adapters import from_torch_dtype, to_torch_dtype

from kdna_deploy.graph.graph import ATEN
from kdna_deploy.targets.onnx.operators.activations import same_name
from kdna_deploy.targets.onnx.operators.writer import Number, Table, Untranslated, Writer

Operand: TypeAlias = "ir.Value | Number"


def _arithmetic(w: Writer, operator: str, a: Operand, b: Operand) -> ir.Value:
    """a ∘ b in the type of the result."""
    if w.dtype == ir.DataType.BOOL:
        raise Untranslated("arithmetic of truth values")
    return w(operator, w.operand(a, w.dtype), w.operand(b, w.dtype))


def _scaled(w: Writer, x: Operand, alpha: Number) -> Operand:
    if isinstance(alpha, (int, float)) and alpha == 1:
        return x
    return w("Mul", w.operand(x, w.dtype), w.number(alpha, w.dtype))


def add(w: Writer, a: ir.Value, b: Operand, alpha: Number = 1) -> ir.Value:
    """a + α·b."""
    return _arithmetic(w, "Add", a, _scaled(w, b, alpha))


def subtract(w: Writer, a: Operand, b: Operand, alpha: Number = 1) -> ir.Value:
    """a − α·b."""
    return _arithmetic(w, "Sub", a, _scaled(w, b, alpha))


def subtract_from(w: Writer, a: ir.Value, b: Operand, alpha: Number = 1) -> ir.Value:
    """b − α·a."""
    return subtract(w, b, a, alpha)


def multiply(w: Writer, a: ir.Value, b: Operand) -> ir.Value:
    """a·b."""
    return _arithmetic(w, "Mul", a, b)


def divide(w: Writer, a: ir.Value, b: Operand, *, rounding_mode: str | None = None) -> ir.Value:
    """a/b, rounded down or towards zero if asked for."""
    if rounding_mode is not None and w.dtype not in (ir.DataType.FLOAT, ir.DataType.DOUBLE):
        raise Untranslated("a rounded quotient of integers")
    quotient = _arithmetic(w, "Div", a, b)
    if rounding_mode == "floor":
        return w("Floor", quotient)
    if rounding_mode == "trunc":
        return w("Mul", w("Sign", quotient), w("Floor", w("Abs", quotient)))
    return quotient


def power(w: Writer, a: Operand, b: Operand) -> ir.Value:
    """a to the power of b."""
    return _arithmetic(w, "Pow", a, b)


def minimum(w: Writer, a: ir.Value, b: ir.Value) -> ir.Value:
    """The smaller of a and b."""
    return _arithmetic(w, "Min", a, b)


def maximum(w: Writer, a: ir.Value, b: ir.Value) -> ir.Value:
    """The larger of a and b."""
    return _arithmetic(w, "Max", a, b)


def interpolate(w: Writer, a: ir.Value, b: ir.Value, weight: Number) -> ir.Value:
    """a + t·(b − a), from the nearer end, so that t = 1 is b itself."""
    difference = _arithmetic(w, "Sub", b, a)
    if not isinstance(weight, (int, float)):
        raise Untranslated("a weight that depends on the batch")
    if abs(weight) < 0.5:
        return w("Add", a, w("Mul", w.number(weight, w.dtype), difference))
    return w("Sub", b, w("Mul", difference, w.number(1 - weight, w.dtype)))


def reciprocal_root(w: Writer, x: ir.Value) -> ir.Value:
    """1/√x."""
    return w("Reciprocal", w("Sqrt", x))


def square(w: Writer, x: ir.Value) -> ir.Value:
    """x²."""
    return w("Mul", x, x)


def where(w: Writer, condition: ir.Value, a: Operand, b: Operand) -> ir.Value:
    """a where the condition holds, b elsewhere."""
    return w("Where", w.cast(condition, ir.DataType.BOOL), w.operand(a, w.dtype), w.operand(b, w.dtype))


def masked_fill(w: Writer, x: ir.Value, mask: ir.Value, value: Operand) -> ir.Value:
    """A constant where the mask holds, x elsewhere."""
    return where(w, mask, value, x)


def _comparison(operator: str, negated: bool = False) -> Callable[[Writer, ir.Value, Operand], ir.Value]:
    def write(w: Writer, a: ir.Value, b: Operand) -> ir.Value:
        common = from_torch_dtype(torch.result_type(_typed(w, a), _typed(w, b)))
        if common == ir.DataType.BOOL and operator != "Equal":
            raise Untranslated("an order of truth values")
        found = w(operator, w.operand(a, common), w.operand(b, common))
        return w("Not", found) if negated else found

    write.__doc__ = f"`{operator}` of a and b, in the type that both promote to{', negated' if negated else ''}."
    return write


def _typed(w: Writer, x: Operand) -> Any:
    """What promotes as `x` does."""
    if isinstance(x, ir.Value):
        assert x.dtype is not None
        return torch.empty([1] * w.rank(x), dtype=to_torch_dtype(x.dtype), device="meta")
    return x if isinstance(x, (bool, int, float)) else 1


def _logical(operator: str) -> Callable[[Writer, ir.Value, ir.Value], ir.Value]:
    def write(w: Writer, a: ir.Value, b: ir.Value) -> ir.Value:
        return w(operator, w.cast(a, ir.DataType.BOOL), w.cast(b, ir.DataType.BOOL))

    write.__doc__ = f"`{operator}` of the truth of a and of b."
    return write


def logical_not(w: Writer, x: ir.Value) -> ir.Value:
    """Whether x is zero or false."""
    return w("Not", w.cast(x, ir.DataType.BOOL))


def convert(
    w: Writer,
    x: ir.Value,
    *,
    dtype: Any = None,
    layout: Any = None,
    device: Any = None,
    pin_memory: Any = None,
    non_blocking: bool = False,
    memory_format: Any = None,
) -> ir.Value:
    """x in another type; where it lies in memory is not for a file to say."""
    return w.cast(x, w.dtype)


def convert_to(
    w: Writer, x: ir.Value, dtype: Any, non_blocking: bool = False, copy: bool = False, memory_format: Any = None
) -> ir.Value:
    """x in another type."""
    return w.cast(x, w.dtype)


TABLE: Table = {
    ATEN.add.Tensor: add,
    ATEN.add.Scalar: add,
    ATEN.sub.Tensor: subtract,
    ATEN.sub.Scalar: subtract,
    ATEN.rsub.Scalar: subtract_from,
    ATEN.rsub.Tensor: subtract_from,
    ATEN.mul.Tensor: multiply,
    ATEN.mul.Scalar: multiply,
    ATEN.div.Tensor: divide,
    ATEN.div.Scalar: divide,
    ATEN.div.Tensor_mode: divide,
    ATEN.div.Scalar_mode: divide,
    ATEN.pow.Tensor_Scalar: power,
    ATEN.pow.Tensor_Tensor: power,
    ATEN.pow.Scalar: power,
    ATEN.minimum.default: minimum,
    ATEN.maximum.default: maximum,
    ATEN.clamp_min.Tensor: maximum,
    ATEN.clamp_max.Tensor: minimum,
    ATEN.lerp.Scalar: interpolate,
    ATEN.neg.default: same_name("Neg"),
    ATEN.abs.default: same_name("Abs"),
    ATEN.exp.default: same_name("Exp"),
    ATEN.log.default: same_name("Log"),
    ATEN.sqrt.default: same_name("Sqrt"),
    ATEN.erf.default: same_name("Erf"),
    ATEN.sin.default: same_name("Sin"),
    ATEN.cos.default: same_name("Cos"),
    ATEN.floor.default: same_name("Floor"),
    ATEN.ceil.default: same_name("Ceil"),
    ATEN.round.default: same_name("Round"),
    ATEN.sign.default: same_name("Sign"),
    ATEN.reciprocal.default: same_name("Reciprocal"),
    ATEN.rsqrt.default: reciprocal_root,
    ATEN.square.default: square,
    ATEN.where.self: where,
    ATEN.where.ScalarOther: where,
    ATEN.where.ScalarSelf: where,
    ATEN.masked_fill.Scalar: masked_fill,
    ATEN.masked_fill.Tensor: masked_fill,
    ATEN.eq.Tensor: _comparison("Equal"),
    ATEN.eq.Scalar: _comparison("Equal"),
    ATEN.ne.Tensor: _comparison("Equal", negated=True),
    ATEN.ne.Scalar: _comparison("Equal", negated=True),
    ATEN.lt.Tensor: _comparison("Less"),
    ATEN.lt.Scalar: _comparison("Less"),
    ATEN.le.Tensor: _comparison("LessOrEqual"),
    ATEN.le.Scalar: _comparison("LessOrEqual"),
    ATEN.gt.Tensor: _comparison("Greater"),
    ATEN.gt.Scalar: _comparison("Greater"),
    ATEN.ge.Tensor: _comparison("GreaterOrEqual"),
    ATEN.ge.Scalar: _comparison("GreaterOrEqual"),
    ATEN.logical_and.default: _logical("And"),
    ATEN.logical_or.default: _logical("Or"),
    ATEN.logical_xor.default: _logical("Xor"),
    ATEN.logical_not.default: logical_not,
    ATEN._to_copy.default: convert,
    ATEN.to.dtype: convert_to,
}
