"""Parts of a tensor: slices, positions, pieces, and orders of its entries."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import onnx_ir as ir

from kdna_deploy.graph.graph import ATEN
from kdna_deploy.targets.onnx.operators.shapes import permute
from kdna_deploy.targets.onnx.operators.writer import Size, Table, Untranslated, Writer

_END, _START = sys.maxsize, -sys.maxsize


def take_slice(
    w: Writer, x: ir.Value, dim: int = 0, start: Size | None = None, end: Size | None = None, step: Size = 1
) -> ir.Value:
    """x from `start` up to `end` along `dim`, every `step`-th position; all of it without a node."""
    size = w.shape(x)[dim]
    first, last = 0 if start is None else start, _END if end is None else end
    whole = last == size or (isinstance(last, int) and (last == _END or (isinstance(size, int) and last >= size)))
    if first == 0 and step == 1 and whole:
        return x
    return _slice(w, x, [w.axis(dim, x)], [first], [last], [step], w.sizes)


def _slice(
    w: Writer,
    x: ir.Value,
    axes: Sequence[int],
    starts: Sequence[Size],
    ends: Sequence[Size],
    steps: Sequence[Size],
    sizes: Sequence[Size],
) -> ir.Value:
    return w("Slice", x, *[w.integers(list(each)) for each in (starts, ends, axes, steps)], shape=sizes)


def select(w: Writer, x: ir.Value, dim: int, index: Size) -> ir.Value:
    """The position `index` along `dim`, without that axis."""
    axis = w.axis(dim, x)
    return w("Gather", x, w.number(index, ir.DataType.INT64), axis=axis, shape=_without(w.shape(x), axis))


def unbind(w: Writer, x: ir.Value, dim: int = 0) -> tuple[ir.Value, ...]:
    """Every position along `dim`."""
    return tuple(select(w, x, dim, index) for index in range(_fixed(w, x, dim)))


def split(w: Writer, x: ir.Value, split_size: Size, dim: int = 0) -> tuple[ir.Value, ...]:
    """Pieces of `split_size` along `dim`, the last of what remains."""
    size = _fixed(w, x, dim)
    if not isinstance(split_size, int):
        raise Untranslated("pieces whose size depends on the batch")
    return pieces(w, x, [min(split_size, size - start) for start in range(0, size, split_size)], dim)


def chunk(w: Writer, x: ir.Value, chunks: int, dim: int = 0) -> tuple[ir.Value, ...]:
    """At most `chunks` pieces of one size along `dim`, the last of what remains."""
    return split(w, x, -(-_fixed(w, x, dim) // chunks), dim)


def pieces(w: Writer, x: ir.Value, split_sizes: Sequence[Size], dim: int = 0) -> tuple[ir.Value, ...]:
    """Pieces of the given sizes along `dim`."""
    if len(split_sizes) == 1:
        return (x,)
    axis = w.axis(dim, x)
    parts = w("Split", x, w.integers(list(split_sizes)), axis=axis, outputs=len(split_sizes))
    return tuple(parts)


def flip(w: Writer, x: ir.Value, dims: Sequence[int]) -> ir.Value:
    """x backwards along `dims`."""
    axes = [w.axis(axis, x) for axis in dims]
    if not axes:
        return x
    count = len(axes)
    return _slice(w, x, axes, [-1] * count, [_START] * count, [-1] * count, w.shape(x))


def rotate(w: Writer, x: ir.Value, k: int = 1, dims: Sequence[int] = (0, 1)) -> ir.Value:
    """x turned k times by a right angle from the first of `dims` to the second."""
    first, second = (w.axis(axis, x) for axis in dims)
    exchanged = list(range(w.rank(x)))
    exchanged[first], exchanged[second] = second, first
    turns = k % 4
    if turns == 1:
        return permute(w, flip(w, x, [second]), exchanged)
    if turns == 3:
        return permute(w, flip(w, x, [first]), exchanged)
    return flip(w, x, [first, second] if turns == 2 else [])


def roll(w: Writer, x: ir.Value, shifts: Sequence[Size], dims: Sequence[int] = ()) -> ir.Value:
    """x moved by `shifts` along `dims`; what leaves at the end comes in at the start."""
    if not dims:
        raise Untranslated("a flattened tensor")
    for shift, dim in zip(shifts, dims, strict=True):
        size = _fixed(w, x, dim)
        if not isinstance(shift, int):
            raise Untranslated("a shift that depends on the batch")
        if shift % size:
            axis, cut = w.axis(dim, x), size - shift % size
            head, tail = w("Split", x, w.integers([cut, size - cut]), axis=axis, outputs=2)
            x = w("Concat", tail, head, axis=axis, shape=w.shape(x))
    return x


def index_select(w: Writer, x: ir.Value, dim: int, index: ir.Value) -> ir.Value:
    """The positions `index` [m] along `dim`."""
    if w.rank(index) != 1:
        raise Untranslated("an index of no axis")
    axis = w.axis(dim, x)
    sizes = [w.shape(index)[0] if at == axis else size for at, size in enumerate(w.shape(x))]
    return w("Gather", x, index, axis=axis, shape=sizes)


def index(w: Writer, x: ir.Value, indices: Sequence[ir.Value | None]) -> ir.Value:
    """x at positions along one axis."""
    used = [(axis, one) for axis, one in enumerate(indices) if one is not None]
    if len(used) != 1 or used[0][1].dtype not in (ir.DataType.INT64, ir.DataType.INT32):
        raise Untranslated("positions along several axes, or truth values in their place")
    axis, positions = used[0]
    return w("Gather", x, positions, axis=axis)


def gather(w: Writer, x: ir.Value, dim: int, index: ir.Value, *, sparse_grad: bool = False) -> ir.Value:
    """y[i] = x at i, but at index[i] along `dim`."""
    return w("GatherElements", x, index, axis=dim)


def _fixed(w: Writer, x: ir.Value, dim: int) -> int:
    size = w.shape(x)[dim]
    if not isinstance(size, int):
        raise Untranslated("pieces of the batch")
    return size


def _without(sizes: Sequence[Any], axis: int) -> list[Any]:
    return [size for at, size in enumerate(sizes) if at != axis]


TABLE: Table = {
    ATEN.slice.Tensor: take_slice,
    ATEN.select.int: select,
    ATEN.unbind.int: unbind,
    ATEN.split.Tensor: split,
    ATEN.split_with_sizes.default: pieces,
    ATEN.chunk.default: chunk,
    ATEN.flip.default: flip,
    ATEN.rot90.default: rotate,
    ATEN.roll.default: roll,
    ATEN.index_select.default: index_select,
    ATEN.index.Tensor: index,
    ATEN.gather.default: gather,
}
