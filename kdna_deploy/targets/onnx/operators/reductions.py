"""Reductions: one number of all those along some axes.

    mean: 1/N Σ x        variance: 1/(N − c) Σ (x − mean)²        norm: (Σ |x|ᵖ)^(1/p), p = 1 or 2

A mean over height and width that keeps both axes is `GlobalAveragePool`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import onnx_ir as ir

from kdna_deploy.graph.graph import ATEN
from kdna_deploy.targets.onnx.operators.writer import Table, Untranslated, Writer

Axes = int | Sequence[int] | None


def _reduced(w: Writer, operator: str, x: ir.Value, dim: Axes, keepdim: bool) -> ir.Value:
    axes = _axes(w, x, dim)
    sizes = w.shape(x)
    kept = [1 if axis in axes else size for axis, size in enumerate(sizes) if keepdim or axis not in axes]
    if not sizes:  # of one number
        return x
    return w(operator, x, w.integers(axes), keepdims=int(keepdim), shape=kept)


def _axes(w: Writer, x: ir.Value, dim: Axes) -> list[int]:
    """The axes, counted from the first; all where none are told."""
    if dim is None or (not isinstance(dim, int) and not dim):
        return list(range(w.rank(x)))
    return sorted(w.axis(axis, x) for axis in ([dim] if isinstance(dim, int) else dim))


def mean(w: Writer, x: ir.Value, dim: Axes = None, keepdim: bool = False, *, dtype: Any = None) -> ir.Value:
    """1/N Σ x along `dim`."""
    x = w.cast(x, w.dtype)
    if keepdim and w.rank(x) == 4 and _axes(w, x, dim) == [2, 3]:
        return w("GlobalAveragePool", x)
    return _reduced(w, "ReduceMean", x, dim, keepdim)


def mean_of_all(w: Writer, x: ir.Value, *, dtype: Any = None) -> ir.Value:
    """1/N Σ x."""
    return mean(w, x, dtype=dtype)


def total(w: Writer, x: ir.Value, dim: Axes = None, keepdim: bool = False, *, dtype: Any = None) -> ir.Value:
    """Σ x along `dim`."""
    return _reduced(w, "ReduceSum", w.cast(x, w.dtype), dim, keepdim)


def total_of_all(w: Writer, x: ir.Value, *, dtype: Any = None) -> ir.Value:
    """Σ x."""
    return total(w, x)


def largest(w: Writer, x: ir.Value, dim: Axes = None, keepdim: bool = False) -> ir.Value:
    """max x along `dim`."""
    return _reduced(w, "ReduceMax", x, dim, keepdim)


def smallest(w: Writer, x: ir.Value, dim: Axes = None, keepdim: bool = False) -> ir.Value:
    """min x along `dim`."""
    return _reduced(w, "ReduceMin", x, dim, keepdim)


def variance(
    w: Writer, x: ir.Value, dim: Axes = None, *, correction: float | None = None, keepdim: bool = False
) -> ir.Value:
    """1/(N − c) Σ (x − mean)² along `dim`, with c = 1 where none is given."""
    axes = _axes(w, x, dim)
    sizes = [w.shape(x)[axis] for axis in axes]
    if not all(isinstance(size, int) for size in sizes):
        raise Untranslated("a variance over the batch")
    count = math.prod(int(size) for size in sizes) - (1 if correction is None else correction)
    if count <= 0:
        raise Untranslated("a variance of too few numbers")
    deviation = w("Sub", x, _reduced(w, "ReduceMean", x, axes, keepdim=True))
    squares = _reduced(w, "ReduceSum", w("Mul", deviation, deviation), axes, keepdim)
    return w("Div", squares, w.number(float(count), x.dtype))


def deviation(
    w: Writer, x: ir.Value, dim: Axes = None, *, correction: float | None = None, keepdim: bool = False
) -> ir.Value:
    """√ of the variance."""
    return w("Sqrt", variance(w, x, dim, correction=correction, keepdim=keepdim))


def norm(
    w: Writer, x: ir.Value, ord: float = 2, dim: Axes = None, keepdim: bool = False, *, dtype: Any = None
) -> ir.Value:
    """Σ |x| or √Σ x² along `dim`."""
    if ord not in (1, 2):
        raise Untranslated(f"a norm of order {ord}")
    return _reduced(w, f"ReduceL{int(ord)}", w.cast(x, w.dtype), dim, keepdim)


def place(operator: str) -> Callable[..., ir.Value]:
    """The function that writes where the largest or smallest number is."""

    def write(w: Writer, x: ir.Value, dim: int | None = None, keepdim: bool = False) -> ir.Value:
        if dim is None:
            raise Untranslated("the place in a flattened tensor")
        return w(operator, x, axis=dim, keepdims=int(keepdim), dtype=ir.DataType.INT64)

    write.__doc__ = f"{operator} along an axis, the first of equal ones."
    return write


def largest_and_place(w: Writer, x: ir.Value, dim: int, keepdim: bool = False) -> tuple[ir.Value, ir.Value]:
    """max x along `dim`, and where it is."""
    return largest(w, x, dim, keepdim), place("ArgMax")(w, x, dim, keepdim)


def smallest_and_place(w: Writer, x: ir.Value, dim: int, keepdim: bool = False) -> tuple[ir.Value, ir.Value]:
    """min x along `dim`, and where it is."""
    return smallest(w, x, dim, keepdim), place("ArgMin")(w, x, dim, keepdim)


def running_total(w: Writer, x: ir.Value, dim: int, *, dtype: Any = None) -> ir.Value:
    """Σ_{j ≤ i} xⱼ along `dim`."""
    return w("CumSum", w.cast(x, w.dtype), w.number(dim, ir.DataType.INT64))


def largest_few(
    w: Writer, x: ir.Value, k: Any, dim: int = -1, largest: bool = True, sorted: bool = True
) -> tuple[ir.Value, ir.Value]:
    """The k largest or smallest numbers along `dim`, in order, and where they are."""
    values, places = w("TopK", x, w.integers([k]), axis=dim, largest=int(largest), sorted=int(sorted), outputs=2)
    places.dtype = ir.DataType.INT64
    return values, places


def in_order(w: Writer, x: ir.Value, dim: int = -1, descending: bool = False) -> tuple[ir.Value, ir.Value]:
    """All numbers along `dim` in order, and where they were."""
    return largest_few(w, x, w.shape(x)[dim], dim, descending)


TABLE: Table = {
    ATEN.mean.dim: mean,
    ATEN.mean.default: mean_of_all,
    ATEN.sum.dim_IntList: total,
    ATEN.sum.default: total_of_all,
    ATEN.amax.default: largest,
    ATEN.amin.default: smallest,
    ATEN.max.default: largest,
    ATEN.min.default: smallest,
    ATEN.max.dim: largest_and_place,
    ATEN.min.dim: smallest_and_place,
    ATEN.var.correction: variance,
    ATEN.std.correction: deviation,
    ATEN.linalg_vector_norm.default: norm,
    ATEN.argmax.default: place("ArgMax"),
    ATEN.argmin.default: place("ArgMin"),
    ATEN.cumsum.default: running_total,
    ATEN.topk.default: largest_few,
    ATEN.sort.default: in_order,
}
