"""What is done to the channels that a layer reads, folded into the layer.

    L(s ⊙ x + t)        W ← W · diag(s)        b ← b + Σ W t        Σ over channels and taps

s lies along the channels that the layer reads, which a modulation M [c', 1, *k] does not have; so a kernel of the
layer's own is replaced, and a bias is made where there was none. With groups V [c', c/g, 1, 1] multiplies the weight;
zero padding is as good as any x where there is no t.

Does not apply: see `layers_behind` and `refusal`.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass

import torch
from torch import Tensor, fx

from kdna_deploy.graph.graph import ATEN, CONVOLUTIONS, WEIGHTED, add_constant, site
from kdna_deploy.graph.kernels import main_parts
from kdna_deploy.graph.weight_expression import evaluate, modulated_parts, name_of, shape_of

_RESHAPES = frozenset({ATEN.reshape.default, ATEN.unsqueeze.default, ATEN.squeeze.dim, ATEN.squeeze.dims})
_FOREIGN = "something else than a linear layer or a convolution of its channels reads it"


@dataclass(frozen=True)
class Affine:
    """s and t, [c] in float64; None where there is none."""

    scale: Tensor | None
    shift: Tensor | None


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


def layers_behind(node: fx.Node, axis: int, fixed: Collection[fx.Node]) -> list[fx.Node] | str:
    """The layers that read the channels along `axis` of `node`, through views; or why it is not these alone."""
    found: dict[fx.Node, None] = {}
    stack = [(node, axis)]
    while stack:
        current, axis = stack.pop()
        for reader in current.users:
            if reads_channels(reader, current, axis):
                found[reader] = None
                continue
            place = moved(reader, current, axis)
            if place is None:
                return _FOREIGN
            stack.append((reader, place))
    for layer in found:
        if any(isinstance(one, fx.Node) and one not in fixed for one in layer.args[1:3]):
            return f"the kernel or the bias of {site(layer)} is not constant"
    return list(found)


def refusal(layers: list[fx.Node], affine: Affine, shared: Collection[fx.Node]) -> str | None:
    """Why `affine` cannot be folded into `layers`, those in `shared` with a kernel of others; None where it can be."""
    if affine.scale is not None:
        for layer in layers:
            if layer in shared:
                return f"the kernel of {site(layer)} is shared, and its layers would each need another"
    shift = affine.shift
    if shift is not None and bool((shift != 0).any()):
        for layer in layers:
            if _is_padded(layer):
                return f"{site(layer)} pads with zeros, to which its bias would be added"
    return None


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


def _is_padded(layer: fx.Node) -> bool:
    if layer.target not in CONVOLUTIONS:
        return False
    padding = layer.args[4] if len(layer.args) > 4 else layer.kwargs.get("padding", 0)
    if isinstance(padding, str):
        return padding != "valid" and any(size > 1 for size in shape_of(layer.args[1])[2:])  # type: ignore[arg-type]
    return any(padding) if isinstance(padding, (list, tuple)) else bool(padding)


def fold_inputs(layer: fx.Node, affine: Affine) -> None:
    """Let `layer` compute L(s ⊙ x + t) in the place of L(x)."""
    weight, bias = layer.args[1], layer.args[2] if len(layer.args) > 2 else None
    assert isinstance(weight, fx.Node)
    if affine.shift is not None:
        terms = evaluate(weight) * along_inputs(affine.shift, layer)
        new = terms.sum(tuple(range(1, terms.dim())))
        if isinstance(bias, fx.Node):
            new = evaluate(bias) + new
        layer.args = (*layer.args[:2], add_constant(layer, f"{layer.name}_bias", new), *layer.args[3:])
    if affine.scale is None:
        return
    base, modulation = modulated_parts(weight) or (weight, None)
    made_of = main_parts(base)
    name = name_of(made_of[0].node if made_of else base)
    held = add_constant(layer, name, evaluate(base) * along_inputs(affine.scale, layer))
    if modulation is not None:
        with layer.graph.inserting_before(layer):
            held = layer.graph.call_function(ATEN.mul.Tensor, (held, modulation))
    layer.update_arg(1, held)
