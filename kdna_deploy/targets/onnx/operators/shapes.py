"""Other shapes of the same numbers: reshaping, transposing, axes of one, repeating, joining.

A shape that depends on the batch is written with −1 or 0 where it can be, and computed only where it cannot.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import onnx_ir as ir

from kdna_deploy.graph.graph import ATEN
from kdna_deploy.targets.onnx.operators.writer import Size, Table, Untranslated, Writer


def identity(w: Writer, x: ir.Value, *_unused: Any, **_memory: Any) -> ir.Value:
    """x itself: where it lies in memory, and what training does, are nothing to a file."""
    return x


def dropout(w: Writer, x: ir.Value, p: float, train: bool) -> ir.Value:
    """x itself, but in training."""
    if train:
        raise Untranslated("dropout in training")
    return x


def reshape(w: Writer, x: ir.Value, shape: Sequence[Size]) -> ir.Value:
    """x in another shape, spelled as it is in the graph where that is constant."""
    constant = all(isinstance(size, int) for size in shape)
    return w.reshape(x, w.sizes, [int(size) for size in shape] if constant else None)


def flatten(w: Writer, x: ir.Value, *_axes: int, **_named: int) -> ir.Value:
    """Some axes as one, or one as several."""
    return w.reshape(x, w.sizes)


def permute(w: Writer, x: ir.Value, dims: Sequence[int]) -> ir.Value:
    """y[i₀, i₁, …] = x with its axes in the order `dims`."""
    axes = [w.axis(axis, x) for axis in dims]
    return x if axes == sorted(axes) else w("Transpose", x, perm=axes, shape=[w.shape(x)[axis] for axis in axes])


def transpose(w: Writer, x: ir.Value, dim0: int, dim1: int) -> ir.Value:
    """x with two axes exchanged."""
    axes = list(range(w.rank(x)))
    if axes:
        first, second = w.axis(dim0, x), w.axis(dim1, x)
        axes[first], axes[second] = second, first
    return permute(w, x, axes)


def transpose_matrix(w: Writer, x: ir.Value) -> ir.Value:
    """xᵀ of a matrix; fewer axes stay as they are."""
    return permute(w, x, list(reversed(range(w.rank(x)))))


def unsqueeze(w: Writer, x: ir.Value, dim: int) -> ir.Value:
    """x with an axis of one before `dim`."""
    axis = dim % (w.rank(x) + 1)
    return w("Unsqueeze", x, w.integers([axis]), shape=[*w.shape(x)[:axis], 1, *w.shape(x)[axis:]])


def squeeze_all(w: Writer, x: ir.Value) -> ir.Value:
    """x without the axes that have one position, the batch too where it is one image."""
    return w("Squeeze", x)


def squeeze(w: Writer, x: ir.Value, dim: int | Sequence[int]) -> ir.Value:
    """x without those of the axes `dim` that have one position."""
    asked = [dim] if isinstance(dim, int) else list(dim)
    axes = sorted({w.axis(axis, x) for axis in asked if w.rank(x) and w.shape(x)[axis] == 1})
    if not axes:
        return x
    rest = [size for axis, size in enumerate(w.shape(x)) if axis not in axes]
    return w("Squeeze", x, w.integers(axes), shape=rest)


def expand(w: Writer, x: ir.Value, size: Sequence[Size], *, implicit: bool = False) -> ir.Value:
    """x repeated along axes of one, without a copy in PyTorch."""
    return broadcast(w, x, w.sizes)


def expand_as(w: Writer, x: ir.Value, other: ir.Value) -> ir.Value:
    """x repeated to the shape of another tensor."""
    return broadcast(w, x, w.sizes)


def broadcast(w: Writer, x: ir.Value, sizes: Sequence[Size]) -> ir.Value:
    """x repeated to `sizes`; an axis that stays as it is is written as 1, so that its size need not be known."""
    before = [*[1] * (len(sizes) - w.rank(x)), *w.shape(x)]
    if before == list(sizes) and w.rank(x) == len(sizes):
        return x
    shape = [1 if size == held else size for size, held in zip(sizes, before, strict=True)]
    return w("Expand", x, w.integers(shape), shape=sizes)


def repeat(w: Writer, x: ir.Value, repeats: Sequence[Size]) -> ir.Value:
    """x laid side by side with itself."""
    missing = len(repeats) - w.rank(x)
    if missing:
        x = w.reshape(x, [*[1] * missing, *w.shape(x)])
    return w("Tile", x, w.integers(repeats))


def concatenate(w: Writer, tensors: Sequence[ir.Value], dim: int = 0) -> ir.Value:
    """Tensors one behind the other along `dim`."""
    # PyTorch lets a list of no numbers pass for a tensor of any shape.
    some = [tensor for tensor in tensors if w.shape(tensor) != [0]]
    return w("Concat", *[w.cast(tensor, w.dtype) for tensor in some], axis=dim, shape=w.sizes)


def stack(w: Writer, tensors: Sequence[ir.Value], dim: int = 0) -> ir.Value:
    """Tensors one behind the other along an axis of their own."""
    axis = dim % len(w.sizes)
    return w("Concat", *[unsqueeze(w, w.cast(tensor, w.dtype), axis) for tensor in tensors], axis=axis)


def pixel_unshuffle(w: Writer, x: ir.Value, downscale_factor: int) -> ir.Value:
    """Blocks of r×r positions as channels: y[n, (c, i, j), p, q] = x[n, c, p·r + i, q·r + j]."""
    r = downscale_factor
    n, c, h, width = _four(w, x)
    split = w.reshape(x, [n, c, h // r, r, width // r, r])
    return w.reshape(permute(w, split, [0, 1, 3, 5, 2, 4]), w.sizes)


def pixel_shuffle(w: Writer, x: ir.Value, upscale_factor: int) -> ir.Value:
    """Channels as blocks of r×r positions: y[n, c, p·r + i, q·r + j] = x[n, (c, i, j), p, q]."""
    _four(w, x)
    return w("DepthToSpace", x, blocksize=upscale_factor, mode="CRD")


def channel_shuffle(w: Writer, x: ir.Value, groups: int) -> ir.Value:
    """y[n, (i, g)] = x[n, (g, i)]: a channel of each group in turn."""
    n, c, *rest = w.shape(x)
    split = w.reshape(x, [n, groups, c // groups, *rest])
    return w.reshape(permute(w, split, [0, 2, 1, *range(3, w.rank(split))]), w.sizes)


def _four(w: Writer, x: ir.Value) -> list[Any]:
    if w.rank(x) != 4:
        raise Untranslated("an image without the axis of the batch")
    return w.shape(x)


TABLE: Table = {
    ATEN.alias.default: identity,
    ATEN.clone.default: identity,
    ATEN.contiguous.default: identity,
    ATEN.detach.default: identity,
    ATEN.lift_fresh_copy.default: identity,
    ATEN.dropout.default: dropout,
    ATEN.feature_dropout.default: dropout,
    ATEN.reshape.default: reshape,
    ATEN.view.default: reshape,
    ATEN._unsafe_view.default: reshape,
    ATEN.flatten.using_ints: flatten,
    ATEN.unflatten.int: flatten,
    ATEN.permute.default: permute,
    ATEN.transpose.int: transpose,
    ATEN.t.default: transpose_matrix,
    ATEN.unsqueeze.default: unsqueeze,
    ATEN.squeeze.default: squeeze_all,
    ATEN.squeeze.dim: squeeze,
    ATEN.squeeze.dims: squeeze,
    ATEN.expand.default: expand,
    ATEN.expand_as.default: expand_as,
    ATEN.repeat.default: repeat,
    ATEN.cat.default: concatenate,
    ATEN.stack.default: stack,
    ATEN.pixel_shuffle.default: pixel_shuffle,
    ATEN.pixel_unshuffle.default: pixel_unshuffle,
    ATEN.channel_shuffle.default: channel_shuffle,
}
