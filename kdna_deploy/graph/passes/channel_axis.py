"""The axis of a map that a layer takes for its channels, seen through views; and what multiplies them in its weight.

conv(x ⊙ v, W) = conv(x, W ⊙ V)        V [1, c, 1, 1]; with g groups [c', c/g, 1, 1], zero padding included
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, fx

from kdna_deploy.graph.graph import ATEN, CONVOLUTIONS, WEIGHTED
from kdna_deploy.graph.weight_expression import shape_of

_RESHAPES = frozenset({ATEN.reshape.default, ATEN.unsqueeze.default, ATEN.squeeze.dim, ATEN.squeeze.dims})


def along_inputs(vector: Tensor, layer: fx.Node) -> Tensor:
    """`vector` [c], a number for each channel that `layer` reads, in the shape that multiplies its weight."""
    if layer.target not in CONVOLUTIONS:
        return vector.reshape(1, -1)
    groups = layer.args[6] if len(layer.args) > 6 else layer.kwargs.get("groups", 1)
    assert isinstance(groups, int)
    _, filters, *spatial = layer.meta["val"].shape
    rows = vector.reshape(groups, -1)
    if groups > 1:
        rows = torch.repeat_interleave(rows, int(filters) // groups, dim=0)
    return rows.reshape(*rows.shape, *[1] * len(spatial))


def reads_channels(reader: fx.Node, node: fx.Node, axis: int) -> bool:
    """Whether `reader` is a layer whose input is `node`, with its channels along `axis`."""
    if reader.target not in WEIGHTED or [one for one in reader.args if one is node] != [reader.args[0]]:
        return False
    rank = node.meta["val"].dim()
    if reader.target in CONVOLUTIONS:
        return axis == 1 and rank == len(shape_of(reader.args[1]))  # type: ignore[arg-type]
    return bool(axis == rank - 1)


def moved(view: fx.Node, node: fx.Node, axis: int) -> int | None:
    """Where `view`, a view of `node`, has its `axis`; None where that is no axis of its own, or `view` is none."""
    before: torch.Size = node.meta["val"].shape
    if view.target is ATEN.permute.default:
        return [dim % len(before) for dim in view.args[1]].index(axis)  # type: ignore[union-attr,operator]
    if view.target is ATEN.transpose.int:
        a, b = (dim % len(before) for dim in view.args[1:3])  # type: ignore[operator]
        return {a: b, b: a}.get(axis, axis)  # type: ignore[return-value]
    if view.target not in _RESHAPES:
        return None
    after: torch.Size = view.meta["val"].shape
    behind = _numbers(before[axis + 1 :])
    places = (i for i, size in enumerate(after) if size == before[axis] and behind == _numbers(after[i + 1 :]))
    return None if behind is None else next(places, None)


def _numbers(sizes: torch.Size) -> int | None:
    """Their product; None where one is a symbol."""
    return math.prod(sizes) if all(isinstance(size, int) for size in sizes) else None


def made_along(layer: fx.Node) -> int:
    """The axis of what `layer`, a convolution or linear layer, returns that its filters are along."""
    return 1 if layer.target in CONVOLUTIONS else layer.meta["val"].dim() - 1
