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
from typing import Any

from torch import fx

from kdna_deploy.graph.graph import ATEN, calls, constant_nodes, site, tidy
from kdna_deploy.graph.kernels import shared_kernels, sites
from kdna_deploy.graph.passes.input_channels import Affine, fold_inputs, layers_behind, refusal
from kdna_deploy.graph.passes.result import PassResult, Refusal
from kdna_deploy.graph.weight_expression import evaluate

# Norms, and where γ and β end among their operands, behind the input and the normalised shape.
_NORMS: dict[Any, int] = {ATEN.layer_norm.default: 4, ATEN.rms_norm.default: 3}


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
        reason = layers if isinstance(layers, str) else refusal(layers, _affine(norm), shared)
        if reason is not None:
            refused.append(Refusal(site(norm), reason))
            continue
        for layer in layers:
            assert isinstance(layer, fx.Node)
            fold_inputs(layer, _affine(norm))
        _strip(norm)
        changed += 1
    tidy(module)
    return PassResult(changed, tuple(refused))


def _operands(norm: fx.Node) -> list[fx.Node | None]:
    """The nodes of γ and β."""
    given = [one if isinstance(one, fx.Node) else None for one in norm.args[2 : _NORMS[norm.target]]]
    return [*given, None, None][:2]


def _affine(norm: fx.Node) -> Affine:
    return Affine(*(None if one is None else evaluate(one).flatten() for one in _operands(norm)))


def _strip(norm: fx.Node) -> None:
    norm.args = tuple(None if 2 <= i < _NORMS[norm.target] else one for i, one in enumerate(norm.args))


def _layers(norm: fx.Node, fixed: Collection[fx.Node]) -> list[fx.Node] | str:
    """The layers that read what `norm` returns, where nothing else does; or why it cannot be folded."""
    if any(one is not None and one not in fixed for one in _operands(norm)):
        return "its scale or bias is not constant"
    if len(norm.args[1]) > 1:  # type: ignore[arg-type]
        return "it normalises several axes"
    return layers_behind(norm, norm.meta["val"].dim() - 1, fixed)
