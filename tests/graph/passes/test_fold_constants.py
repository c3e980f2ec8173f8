"""Whatever depends on constants alone is computed once, except for the shared kernels."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdna_deploy.graph.graph import CONVOLUTIONS, WEIGHTED, calls
from kdna_deploy.graph.passes.fold_constants import fold_constants
from kdna_deploy.graph.passes.fold_static_attention import fold_static_attention
from kdna_deploy.graph.passes.materialise import materialise
from tests.graph.passes.equivalence import Lambda, operators, run, trained

EXPRESSIONS: dict[str, tuple[Callable[[Lambda, Tensor], Tensor], list[str]]] = {
    "a convolution's bias": (lambda m, x: F.conv2d(x, m.kernel, m.bias * 2 - 1), ["conv2d"]),
    "a gate over channels": (lambda m, x: x * torch.sigmoid(m.channels).view(1, -1, 1, 1), ["mul"]),
    "a row picked by a counter": (lambda m, x: x + m.channels[torch.arange(4)].view(-1, 1, 1), ["add"]),
    "an identity": (lambda m, x: x + (torch.eye(4, dtype=x.dtype) @ m.channels).view(-1, 1, 1), ["add"]),
    "one of several parts": (lambda m, x: x + m.channels.view(2, 2).unbind(1)[1].sum(), ["add"]),
    "a whole number": (lambda m, x: x * torch.full((1, 1, 1, 1), 3), ["mul"]),
    "the output itself": (lambda m, x: x.mean((1, 2, 3)) * 0 + m.bias.mean(), ["mean", "mul", "add"]),
}


@pytest.mark.parametrize(("function", "left"), EXPRESSIONS.values(), ids=EXPRESSIONS)
def test_an_expression_of_constants_becomes_one_constant(
    function: Callable[[Lambda, Tensor], Tensor], left: list[str]
) -> None:
    network = Lambda(
        function,
        bias=torch.empty(5),
        kernel=torch.empty(5, 4, 3, 2),
        channels=torch.empty(4),
    )
    graph, (result,) = run(trained(network), fold_constants)
    assert result.changed >= 1
    assert [name for name in operators(graph.module) if name != "sym_size"] == left


@pytest.mark.parametrize(
    "weight", [lambda m: m.rows * (1 + m.bias.mean()), lambda m: m.rows + m.down @ m.up], ids=["scaled", "low-rank"]
)
def test_a_linear_weight_is_left_to_those_who_decide_on_sharing(weight: Callable[[Lambda], Tensor]) -> None:
    network = Lambda(
        lambda m, x: F.linear(x.flatten(1), weight(m), m.bias * 2),
        rows=torch.empty(5, 224),
        down=torch.empty(5, 2),
        up=torch.empty(2, 224),
        bias=torch.empty(5),
    )
    graph, (folded, _) = run(trained(network), fold_constants, materialise)
    assert folded.changed == 1, "the bias"
    assert operators(graph.module) == ["reshape", "linear"]


def test_a_shared_kernel_keeps_its_modulation() -> None:
    network = Lambda(
        lambda m, x: F.conv2d(x, m.kernel * (1 + m.filters)) + F.conv2d(x, m.kernel),
        kernel=torch.empty(6, 4, 3, 2),
        filters=torch.empty(6, 1, 1, 1),
    )
    graph, (_, result) = run(trained(network), fold_static_attention, fold_constants)
    assert result.changed == 0
    assert operators(graph.module) == ["mul", "conv2d", "conv2d", "add"]


def test_a_product_that_is_more_than_a_kernel_is_folded_where_it_is_more() -> None:
    network = Lambda(
        lambda m, x: F.conv2d(x, m.kernel * m.filters) + (m.kernel * m.filters).sum(),
        kernel=torch.empty(6, 4, 3, 2),
        filters=torch.empty(6, 1, 1, 1),
    )
    graph, (result,) = run(trained(network), fold_constants)
    assert result.changed == 1
    assert operators(graph.module) == ["mul", "conv2d", "add"]


def test_a_kernel_that_also_is_an_operand_elsewhere_is_one_constant() -> None:
    def both(m: Lambda, x: Tensor) -> Tensor:
        kernel = m.kernel * m.filters
        return F.conv2d(x, kernel) * F.linear(kernel.flatten(1), m.rows).sum() + x.mean((1, 2, 3)).view(-1, 1, 1, 1)

    network = Lambda(both, kernel=torch.empty(6, 4, 3, 2), filters=torch.empty(6, 1, 1, 1), rows=torch.empty(5, 24))
    graph, (result,) = run(trained(network), fold_constants)
    assert result.changed >= 1
    assert len(calls(graph.module, WEIGHTED)) == len(calls(graph.module, CONVOLUTIONS)) == 1


def test_what_depends_on_the_input_is_left_alone() -> None:
    network = trained(nn.Sequential(nn.Conv2d(4, 6, 3), nn.BatchNorm2d(6), nn.Flatten(), nn.Linear(180, 5)))
    _, (result,) = run(network, fold_constants)
    assert (result.changed, result.refused) == (0, ())
