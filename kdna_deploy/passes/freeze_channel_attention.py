"""Freeze channel attention: the gate β(x) becomes a constant, folded into the kernel's input-channel axis.

    conv(x * β(x), W)  →  conv(x, W * B)        B [1, c, 1, 1] = E[β(x)] over calibration data   (freeze)
                                                B = 1                                            (drop)

Exact for the frozen gate, padding included (zero stays zero); what the network computes does change, by as much as
β varies. With groups, B is laid out along the channels that each filter reads.

Does not apply: a gated map that something else than a convolution reads, or a kernel that is not constant.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, fx

from kdna_deploy.graph import ATEN, CONVOLUTIONS, add_constant, constant_nodes, gate_of, prescales, site, tidy
from kdna_deploy.passes.result import PassResult, Refusal


def freeze_channel_attention(module: fx.GraphModule, gates: Mapping[str, Tensor | None]) -> PassResult:
    """Freeze the pre-scales named in `gates` (node name → mean gate [c]; None drops the gate)."""
    fixed = constant_nodes(module)
    changed, refused = 0, []
    for prescale in prescales(module):
        if prescale.name not in gates:
            continue
        reason = _refusal(prescale, fixed)
        if reason:
            refused.append(Refusal(site(prescale), reason))
            continue
        _fold(prescale, gates[prescale.name])
        changed += 1
    tidy(module)
    return PassResult(changed, tuple(refused))


def _refusal(prescale: fx.Node, fixed: set[fx.Node]) -> str | None:
    for user in prescale.users:
        if user.target not in CONVOLUTIONS or user.args[0] is not prescale:
            return "something else than a convolution reads the scaled feature map"
        if user.args[1] not in fixed:
            return "the kernel behind it is not constant"
    return None


def _fold(prescale: fx.Node, gate: Tensor | None) -> None:
    feature_map, _ = gate_of(prescale)
    for conv in list(prescale.users):
        if gate is not None:
            weight = conv.args[1]
            assert isinstance(weight, fx.Node)
            held = add_constant(conv, f"{prescale.name}_gate", _per_filter(gate.double(), conv))
            with conv.graph.inserting_before(conv):
                conv.update_arg(1, conv.graph.call_function(ATEN.mul.Tensor, (weight, held)))
        conv.update_arg(0, feature_map)


def _per_filter(gate: Tensor, conv: fx.Node) -> Tensor:
    """The gate [c] in the shape that multiplies the kernel [c', c/g, *k]."""
    groups = conv.args[6] if len(conv.args) > 6 else conv.kwargs.get("groups", 1)
    assert isinstance(groups, int)
    spatial = [1] * (conv.meta["val"].dim() - 2)
    if groups == 1:
        return gate.reshape(1, -1, *spatial)
    filters = int(conv.meta["val"].shape[1])
    rows = gate.reshape(groups, -1)
    return torch.repeat_interleave(rows, filters // groups, dim=0).reshape(filters, -1, *spatial)
