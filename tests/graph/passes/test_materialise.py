"""Every modulated weight becomes a constant of its own, and nothing else changes."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from kdna_deploy.graph.graph import WEIGHTED, calls, constant
from kdna_deploy.graph.passes.fold_batchnorm import fold_batchnorm
from kdna_deploy.graph.passes.fold_static_attention import fold_static_attention
from kdna_deploy.graph.passes.materialise import materialise
from tests.graph.passes.equivalence import Lambda, operators, run, trained


def siblings() -> Lambda:
    """A kernel with its own layer and two children."""
    network = Lambda(
        lambda m, x: (
            F.conv2d(x, m.kernel * (1 + m.filters))
            + 2 * F.conv2d(x, m.kernel * (1 + m.spatial), m.bias)
            + 3 * F.conv2d(x, m.kernel)
        ),
        kernel=torch.empty(6, 4, 3, 2),
        filters=torch.empty(6, 1, 1, 1),
        spatial=torch.empty(1, 1, 3, 2),
        bias=torch.empty(6),
    )
    return trained(network)


def test_every_child_gets_the_product_of_its_parent_and_its_own_modulation() -> None:
    network = siblings()
    graph, (_, result) = run(network, fold_static_attention, materialise)
    assert result.changed == 2
    weights = [constant(layer.args[1]) for layer in calls(graph.module, WEIGHTED)]
    kernel, filters, spatial = (p.detach().double() for p in (network.kernel, network.filters, network.spatial))
    for weight, expected in zip(weights, [kernel * (1 + filters), kernel * (1 + spatial), kernel], strict=True):
        # Two roundings of float64 on either side.
        torch.testing.assert_close(weight, expected, rtol=1e-15, atol=0.0)
    assert operators(graph.module) == ["conv2d", "conv2d", "mul", "add", "conv2d", "mul", "add"]


@pytest.mark.slow
def test_what_batchnorm_scaled_is_multiplied_out_in_linear_layers_too() -> None:
    network = trained(
        nn.Sequential(nn.Conv2d(4, 6, 3), nn.BatchNorm2d(6), nn.Flatten(), nn.Linear(180, 5), nn.BatchNorm1d(5))
    )
    graph, (_, result) = run(network, fold_batchnorm, materialise)
    assert result.changed == 2
    assert operators(graph.module) == ["conv2d", "reshape", "linear"]


def test_a_graph_without_modulations_is_left_alone() -> None:
    _, (result,) = run(trained(nn.Sequential(nn.Conv2d(4, 6, 3), nn.Flatten(), nn.Linear(180, 5))), materialise)
    assert (result.changed, result.refused) == (0, ())


def test_a_product_in_the_data_is_no_weight() -> None:
    network = Lambda(lambda m, x: x * (m.kernel * m.filters).sum(), kernel=torch.empty(6, 4), filters=torch.empty(6, 1))
    _, (result,) = run(trained(network), materialise)
    assert result.changed == 0
