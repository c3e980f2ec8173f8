"""Constant scales and shifts of channels go into the layers behind them, exactly, or stay."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdna_deploy.graph.passes.fold_constants import fold_constants
from kdna_deploy.graph.passes.fold_input_scale import fold_input_scale
from kdna_deploy.graph.passes.fold_static_attention import fold_static_attention
from tests.graph.passes.equivalence import PIPELINE, Lambda, operators, run, trained

C = 4  # channels of the images
Network = Callable[[Lambda, Tensor], Tensor]
Layers = dict[str, nn.Module | Tensor]
FOLDED: dict[str, tuple[int, Network, Layers]] = {
    "one number each, into a linear layer": (
        2,
        lambda m, x: m.layer(x.permute(0, 2, 3, 1) * m.s + m.t),
        {"layer": nn.Linear(C, 6), "s": torch.ones(1), "t": torch.ones(1)},
    ),
    "one for each channel, a bias made": (
        2,
        lambda m, x: m.layer(m.t + m.s * x.permute(0, 2, 3, 1)),
        {"layer": nn.Linear(C, 6, bias=False), "s": torch.ones(C), "t": torch.ones(C)},
    ),
    "numbers of the code": (2, lambda m, x: m.layer(2.5 * x.mean((2, 3)) + 0.5), {"layer": nn.Linear(C, 6)}),
    "into grouped filters with taps": (
        2,
        lambda m, x: m.layer(x * m.s + m.t),
        {"layer": nn.Conv2d(C, 6, 3, groups=2), "s": torch.ones(C, 1, 1), "t": torch.ones(1, C, 1, 1)},
    ),
    "a scale alone, into padding": (
        1,
        lambda m, x: m.layer(x * m.s),
        {"layer": nn.Conv2d(C, 6, 3, padding=1), "s": torch.ones(C, 1, 1)},
    ),
    "into several layers, through a flattening": (
        1,
        lambda m, x: (lambda y: m.layer(y) + m.other(y))((x.mean((2, 3), keepdim=True) * m.s).flatten(1)),
        {"layer": nn.Linear(C, 6), "other": nn.Linear(C, 6), "s": torch.ones(C, 1, 1)},
    ),
}


@pytest.mark.parametrize(("changed", "network", "layers"), FOLDED.values(), ids=FOLDED)
def test_scales_and_shifts_go_into_the_layers_behind(changed: int, network: Network, layers: Layers) -> None:
    graph, (result, *_) = run(trained(Lambda(network, **layers)), fold_input_scale, *PIPELINE)
    assert (result.changed, result.refused) == (changed, ())
    assert "mul" not in operators(graph.module)


def test_an_adapter_and_its_rescaling_leave_the_plain_layer() -> None:
    def network(m: Lambda, x: Tensor) -> Tensor:
        weight = m.layer.weight + torch.kron(m.c, m.a @ m.b)
        return F.linear(x.permute(0, 2, 3, 1) * m.s + m.t, weight, m.layer.bias) * m.p + m.q

    numbers = {name: torch.ones(1) for name in "stpq"}
    adapter = {"c": torch.ones(2, 2), "a": torch.ones(3, 1), "b": torch.ones(1, 2)}
    graph, _ = run(trained(Lambda(network, layer=nn.Linear(C, 6), **adapter, **numbers)), *PIPELINE)
    assert operators(graph.module) == ["permute", "linear"]


STAYS: dict[str, tuple[Network, Layers, tuple[str, ...]]] = {
    "a residual reads it": (
        lambda m, x: (lambda y: m.layer(y) + y)(x * m.s),
        {"layer": nn.Conv2d(C, C, 1), "s": torch.ones(C, 1, 1)},
        (),
    ),
    "along another axis": (
        lambda m, x: m.layer(x * m.s),
        {"layer": nn.Conv2d(C, C, 1), "s": torch.ones(8)},
        (),
    ),
    "one for each position": (
        lambda m, x: m.layer(x * m.s),
        {"layer": nn.Conv2d(C, C, 1), "s": torch.ones(7, 8)},
        (),
    ),
    "a shift in front of padding": (
        lambda m, x: m.layer(x + m.s),
        {"layer": nn.Conv2d(C, C, 3, padding=1), "s": torch.ones(C, 1, 1)},
        ("pads with zeros",),
    ),
    "a kernel that is shared": (
        lambda m, x: m.layer(m.layer(x) * m.s),
        {"layer": nn.Conv2d(C, C, 1), "s": torch.ones(C, 1, 1)},
        ("is shared",),
    ),
}


@pytest.mark.parametrize(("network", "layers", "reasons"), STAYS.values(), ids=STAYS)
def test_what_cannot_be_folded_stays(network: Network, layers: Layers, reasons: tuple[str, ...]) -> None:
    _, (*_, result) = run(trained(Lambda(network, **layers)), fold_static_attention, fold_constants, fold_input_scale)
    assert result.changed == 0
    assert len(result.refused) == len(reasons)
    assert all(reason in refusal.reason for reason, refusal in zip(reasons, result.refused, strict=True))
