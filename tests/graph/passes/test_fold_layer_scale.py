"""A constant scale of channels goes into the layer in front of it, through a change of axes, and stays elsewhere."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdna_deploy.graph.graph import WEIGHTED, calls
from kdna_deploy.graph.passes.fold_batchnorm import fold_batchnorm
from kdna_deploy.graph.passes.fold_constants import fold_constants
from kdna_deploy.graph.passes.fold_layer_scale import fold_layer_scale
from kdna_deploy.graph.passes.fold_static_attention import fold_static_attention
from tests.graph.passes.equivalence import PIPELINE, Lambda, operators, run, trained

C, H, W = 4, 7, 8  # of the images
Network = Callable[[Lambda, Tensor], Tensor]
FOLDED: dict[str, tuple[Network, dict[str, nn.Module | Tensor]]] = {
    "behind a convolution": (
        lambda m, x: m.conv(x) * m.gamma,
        {"conv": nn.Conv2d(C, 6, 3), "gamma": torch.ones(6, 1, 1)},
    ),
    "behind a convolution without bias, in front": (
        lambda m, x: m.gamma * m.conv(x),
        {"conv": nn.Conv2d(C, 6, 3, bias=False), "gamma": torch.ones(1, 6, 1, 1)},
    ),
    "behind a linear layer on maps": (
        lambda m, x: m.gamma * m.linear(x.permute(0, 2, 3, 1)),
        {"linear": nn.Linear(C, 6), "gamma": torch.ones(6)},
    ),
    "behind a permutation": (
        lambda m, x: m.gamma * m.linear(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2),
        {"linear": nn.Linear(C, 6), "gamma": torch.ones(6, 1, 1)},
    ),
    "behind a permutation told backwards": (
        lambda m, x: m.gamma * m.linear(x.permute(0, 2, 3, 1)).permute(0, -1, -3, -2),
        {"linear": nn.Linear(C, 6), "gamma": torch.ones(6, 1, 1)},
    ),
}


@pytest.mark.parametrize(("network", "layers"), FOLDED.values(), ids=FOLDED)
def test_a_scale_is_folded(network: Network, layers: dict[str, nn.Module | Tensor]) -> None:
    graph, (result,) = run(trained(Lambda(network, **layers)), fold_layer_scale)
    assert (result.changed, result.refused) == (1, ())
    assert operators(graph.module).count("mul") == 1  # the kernel's modulation


@pytest.mark.parametrize("bias", [True, False])
def test_a_rescaling_is_folded_scale_and_shift(bias: bool) -> None:
    layers = {"linear": nn.Linear(C, 6, bias=bias), "s": torch.ones(1), "t": torch.ones(6)}
    network = Lambda(lambda m, x: m.linear(x.permute(0, 2, 3, 1)) * m.s + m.t, **layers)
    graph, results = run(trained(network), fold_layer_scale, *PIPELINE)
    assert results[0].changed == 2
    assert operators(graph.module) == ["permute", "linear"]


def test_children_of_one_kernel_keep_it_and_have_scales_of_their_own() -> None:
    def network(m: Lambda, x: Tensor) -> Tensor:
        x = m.first * m.conv(x)
        return m.second[:, None, None] * F.conv2d(x, m.conv.weight * (1 + m.attention), padding=1)

    layers = {"conv": nn.Conv2d(C, C, 3, padding=1), "attention": torch.ones(C, 1, 1, 1)}
    scales = {"first": torch.ones(C, 1, 1), "second": torch.ones(C)}
    passes = (fold_static_attention, fold_constants, fold_layer_scale)
    graph, results = run(trained(Lambda(network, **layers, **scales)), *passes)
    assert results[-1].changed == 2
    weights = [layer.args[1] for layer in calls(graph.module, WEIGHTED)]
    assert weights[0].args[0].target == weights[1].args[0].target == "conv.weight"


def test_a_scale_behind_batchnorm_is_folded_with_it() -> None:
    layers = {"conv": nn.Conv2d(C, 6, 3), "norm": nn.BatchNorm2d(6), "gamma": torch.ones(6, 1, 1)}
    network = trained(Lambda(lambda m, x: m.gamma * m.norm(m.conv(x)), **layers))
    _, results = run(network, fold_batchnorm, fold_layer_scale)
    assert [result.changed for result in results] == [1, 1]


KEPT: dict[str, tuple[Network, dict[str, nn.Module | Tensor]]] = {
    "a scale of positions": (
        lambda m, x: m.gamma * m.conv(x),
        {"conv": nn.Conv2d(C, W, 3, padding=1), "gamma": torch.ones(W)},
    ),
    "a scale of another axis behind a permutation": (
        lambda m, x: m.gamma * m.linear(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2),
        {"linear": nn.Linear(C, W), "gamma": torch.ones(W)},
    ),
    "a scale that makes several maps of one": (
        lambda m, x: m.gamma * m.conv(x),
        {"conv": nn.Conv2d(C, 1, 3), "gamma": torch.ones(6, 1, 1)},
    ),
    "a scale of what is no layer's": (
        lambda m, x: m.gamma * F.relu(m.conv(x)),
        {"conv": nn.Conv2d(C, 6, 3), "gamma": torch.ones(6, 1, 1)},
    ),
    "a scale of what has a bias that is computed": (
        lambda m, x: m.gamma * F.conv2d(x[:1], m.conv.weight, x.mean((0, 2, 3))) + 0 * x[:, :, :1, :1],
        {"conv": nn.Conv2d(C, C, 3), "gamma": torch.ones(C, 1, 1)},
    ),
    "a product of two maps": (lambda m, x: m.conv(x) * torch.sigmoid(m.conv(x)), {"conv": nn.Conv2d(C, 6, 3)}),
}


@pytest.mark.parametrize(("network", "layers"), KEPT.values(), ids=KEPT)
def test_what_is_no_scale_of_a_layers_channels_stays(network: Network, layers: dict[str, nn.Module | Tensor]) -> None:
    _, (result,) = run(trained(Lambda(network, **layers)), fold_layer_scale)
    assert (result.changed, result.refused) == (0, ())


@pytest.mark.parametrize("permuted", [False, True])
def test_a_layer_with_another_consumer_is_refused(permuted: bool) -> None:
    def network(m: Lambda, x: Tensor) -> Tensor:
        out = m.linear(x.permute(0, 2, 3, 1))
        moved = out.permute(0, 3, 1, 2)
        return m.gamma * moved + (moved if permuted else out.permute(0, 3, 1, 2))

    layers = {"linear": nn.Linear(C, 6), "gamma": torch.ones(6, 1, 1)}
    _, (result,) = run(trained(Lambda(network, **layers)), fold_layer_scale)
    assert result.changed == 0
    assert [refusal.reason for refusal in result.refused] == ["the output that a constant scales has another consumer"]


def test_the_whole_pipeline_folds_it() -> None:
    network, layers = FOLDED["behind a permutation"]
    graph, _ = run(trained(Lambda(network, **layers)), *PIPELINE)
    assert "mul" not in operators(graph.module)
