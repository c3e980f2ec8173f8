"""Fold the scale and the bias of a LayerNorm into the layers behind it.

    y = γ ⊙ x̂ + β        W ← W · diag(γ)        b ← b + Σ W β        x̂ the normalised input; Σ over channels and taps

Between the two there may be views that keep the normalised axis as the channels that the layer reads, such as the
permutations around a norm of maps. γ lies along those channels, which a modulation M [c', 1, *k] does not have; so a
kernel of the layer's own is replaced, and a bias is made where there was none. RMSNorm has γ alone.

Does not apply: something else than linear layers and convolutions reads y; a kernel that others share, whose children
would need kernels of their own; a convolution that pads with zeros, to which β would be added, unless β = 0; a norm of
several axes; operands that are not constant.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from torch import Tensor, fx

from kdna_deploy.graph.graph import ATEN, CONVOLUTIONS, add_constant, calls, constant_nodes, site, tidy
from kdna_deploy.graph.kernels import shared_kernels, sites
from kdna_deploy.graph.passes.channel_axis import along_inputs, moved, reads_channels
from kdna_deploy.graph.passes.result import PassResult, Refusal
from kdna_deploy.graph.weight_expression import evaluate, modulated_parts, name_of, shape_of

# Norms, and where γ and β end among their operands, behind the input and the normalised shape.
_NORMS: dict[Any, int] = {ATEN.layer_norm.default: 4, ATEN.rms_norm.default: 3}
_FOREIGN = "something else than a linear layer or a convolution of its channels reads it"


@dataclass(frozen=True)
class _Affine:
    """γ and β, [c] in float64; None where there is none."""

    scale: Tensor | None
    shift: Tensor | None


def fold_layer_norm(module: fx.GraphModule) -> PassResult:
    """Fold the affine of every LayerNorm that can be folded."""
    norms = [norm for norm in calls(module, set(_NORMS)) if any(_operands(norm))]
    if not norms:
        return PassResult(0)
    fixed = constant_nodes(module)
    shared = {use.layer for kernel in shared_kernels(sites(module)) for use in kernel.sites}
    changed, refused = 0, []
    for norm in norms:
        layers = _layers(norm, fixed)
        reason = layers if isinstance(layers, str) else _refusal(norm, layers, shared)
        if reason is not None:
            refused.append(Refusal(site(norm), reason))
            continue
        for layer in layers:
            assert isinstance(layer, fx.Node)
            _fold(layer, _affine(norm))
        _strip(norm)
        changed += 1
    tidy(module)
    return PassResult(changed, tuple(refused))


def _operands(norm: fx.Node) -> list[fx.Node | None]:
    """The nodes of γ and β."""
    given = [one if isinstance(one, fx.Node) else None for one in norm.args[2 : _NORMS[norm.target]]]
    return [*given, None, None][:2]


def _affine(norm: fx.Node) -> _Affine:
    return _Affine(*(None if one is None else evaluate(one).flatten() for one in _operands(norm)))


def _strip(norm: fx.Node) -> None:
    norm.args = tuple(None if 2 <= i < _NORMS[norm.target] else one for i, one in enumerate(norm.args))


def _layers(norm: fx.Node, fixed: Collection[fx.Node]) -> list[fx.Node] | str:
    """The layers that read what `norm` returns, where nothing else does; or why it cannot be folded."""
    if any(one is not None and one not in fixed for one in _operands(norm)):
        return "its scale or bias is not constant"
    if len(norm.args[1]) > 1:  # type: ignore[arg-type]
        return "it normalises several axes"
    found: dict[fx.Node, None] = {}
    stack = [(norm, norm.meta["val"].dim() - 1)]
    while stack:
        node, axis = stack.pop()
        for reader in node.users:
            if reads_channels(reader, node, axis):
                found[reader] = None
                continue
            place = moved(reader, node, axis)
            if place is None:
                return _FOREIGN
            stack.append((reader, place))
    for layer in found:
        if any(isinstance(one, fx.Node) and one not in fixed for one in layer.args[1:3]):
            return f"the kernel or the bias of {site(layer)} is not constant"
    return list(found)


def _refusal(norm: fx.Node, layers: list[fx.Node], shared: Collection[fx.Node]) -> str | None:
    for layer in layers:
        if layer in shared:
            return f"the kernel of {site(layer)} is shared, and its layers would each need another"
    shift = _affine(norm).shift
    if shift is not None and bool((shift != 0).any()):
        for layer in layers:
            if _is_padded(layer):
                return f"{site(layer)} pads with zeros, to which its bias would be added"
    return None


def _is_padded(layer: fx.Node) -> bool:
    if layer.target not in CONVOLUTIONS:
        return False
    padding = layer.args[4] if len(layer.args) > 4 else layer.kwargs.get("padding", 0)
    if isinstance(padding, str):
        return padding != "valid" and any(size > 1 for size in shape_of(layer.args[1])[2:])  # type: ignore[arg-type]
    return any(padding) if isinstance(padding, (list, tuple)) else bool(padding)


def _fold(layer: fx.Node, affine: _Affine) -> None:
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
    held = add_constant(layer, name_of(base), evaluate(base) * along_inputs(affine.scale, layer))
    if modulation is not None:
        with layer.graph.inserting_before(layer):
            held = layer.graph.call_function(ATEN.mul.Tensor, (held, modulation))
    layer.update_arg(1, held)
