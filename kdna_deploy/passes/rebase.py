"""Rebase: a shared parent is stored as one of its layers has it, and the others are taken relative to that one.

    W' = W * M_0         M_l' = M_l / M_0

The layer whose modulation is M_0 then needs no product at all. That matters where products are computed at every
inference (children on the fly): ONNX Runtime packs a constant kernel once, a computed one never.

Does not apply: when no M is along the filters alone, or all have values so small that dividing by them could leave
float32's range; or when a layer already has the parent as it stands.
"""

from __future__ import annotations

import torch
from torch import Tensor, fx

from kdna_deploy.graph import ATEN, add_constant, constant, tidy
from kdna_deploy.passes.fold_static_attention import modulated_parts
from kdna_deploy.passes.result import PassResult
from kdna_deploy.passes.share import shared_weights

# Ratio of the smallest to the largest |M_0| below which relative modulations could leave float32's range.
_SMALLEST = 1e-6


def rebase(module: fx.GraphModule) -> PassResult:
    """Rebase every shared parent that can be; the change counts the weights rewritten."""
    changed = sum(_rebase(consumers) for consumers in shared_weights(module))
    tidy(module)
    return PassResult(changed)


def _rebase(consumers: list[fx.Node]) -> int:
    """Store the parent as one consumer has it; return how many weights that rewrote."""
    parts = [_parts(layer) for layer in consumers]
    if any(part is None for part in parts):
        return 0  # a consumer has the kernel as it stands already, or more than a modulation
    bases = [part[0] for part in parts if part is not None]
    modulations = [part[1] for part in parts if part is not None]
    first = next((i for i, m in enumerate(modulations) if _is_divisor(m)), None)
    if first is None:
        return 0
    base = bases[0]
    name, reference = str(base.target), modulations[first]
    anchor = next(iter(base.graph.nodes))
    kernel = str(add_constant(anchor, f"{name}_shared", constant(base) * reference).target)
    for i, (layer, modulation) in enumerate(zip(consumers, modulations, strict=True)):
        held = None if i == first else add_constant(layer, f"{name}_relative", modulation / reference)
        with layer.graph.inserting_before(layer):
            weight = layer.graph.get_attr(kernel)
            product = weight if held is None else layer.graph.call_function(ATEN.mul.Tensor, (weight, held))
        layer.update_arg(1, product)
    return len(consumers)


def _parts(layer: fx.Node) -> tuple[fx.Node, Tensor] | None:
    weight = layer.args[1]
    parts = modulated_parts(weight) if isinstance(weight, fx.Node) else None
    return (parts[0], constant(parts[1])) if parts else None


def _is_divisor(modulation: Tensor) -> bool:
    along_filters = modulation.numel() == modulation.shape[0]
    magnitude = modulation.abs()
    return bool(along_filters and torch.isfinite(magnitude).all() and magnitude.min() > _SMALLEST * magnitude.max())
