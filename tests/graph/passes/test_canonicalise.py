"""One spelling for what runtimes know under one name."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdna_deploy.graph.passes.canonicalise import canonicalise
from tests.graph.passes.equivalence import Lambda, operators, run, trained

Head = Callable[[Lambda, Tensor], Tensor]


def network(head: Head) -> Lambda:
    return trained(Lambda(head, fc=nn.Linear(4, 5), wide=nn.Linear(224, 5), relu=nn.ReLU(inplace=True)))


POOLED: dict[str, tuple[Head, list[str]]] = {
    "mean((2, 3))": (lambda m, x: m.fc(x.mean((2, 3))), ["adaptive_avg_pool2d", "reshape", "linear"]),
    "mean([-1, -2])": (lambda m, x: m.fc(x.mean([-1, -2])), ["adaptive_avg_pool2d", "reshape", "linear"]),
    "mean(dim=(3, 2))": (lambda m, x: m.fc(torch.mean(x, dim=(3, 2))), ["adaptive_avg_pool2d", "reshape", "linear"]),
    "mean, kept, flattened": (
        lambda m, x: m.fc(x.mean([-1, -2], keepdim=True).flatten(1)),
        ["adaptive_avg_pool2d", "reshape", "linear"],
    ),
    "mean, kept, viewed with the size of the batch": (
        lambda m, x: m.fc(x.mean((2, 3), keepdim=True).view(x.size(0), -1)),
        ["adaptive_avg_pool2d", "reshape", "linear"],
    ),
    "mean, kept, reshaped": (
        lambda m, x: m.fc(x.mean((2, 3), True).reshape(-1, 4)),
        ["adaptive_avg_pool2d", "reshape", "linear"],
    ),
    "mean, kept, squeezed": (
        lambda m, x: m.fc(x.mean((2, 3), keepdim=True).squeeze(-1).squeeze(-1)),
        ["adaptive_avg_pool2d", "squeeze", "squeeze", "linear"],
    ),
    "mean, kept, indexed": (
        lambda m, x: m.fc(x.mean((2, 3), keepdim=True)[:, :, 0, 0]),
        ["adaptive_avg_pool2d", "select", "select", "linear"],
    ),
    "adaptive pooling": (
        lambda m, x: m.fc(torch.flatten(F.adaptive_avg_pool2d(x, 1), 1)),
        ["adaptive_avg_pool2d", "reshape", "linear"],
    ),
    "a gate": (lambda m, x: x * x.mean((2, 3), keepdim=True).sigmoid(), ["adaptive_avg_pool2d", "sigmoid", "mul"]),
}


@pytest.mark.parametrize(("head", "spelled"), POOLED.values(), ids=POOLED)
def test_a_global_mean_is_spelled_as_average_pooling(head: Head, spelled: list[str]) -> None:
    graph, _ = run(network(head), canonicalise)
    # Whether x[:, 0] leaves a slice of everything in the graph depends on the version of torch.
    found = [name for name in operators(graph.module) if name != "slice"]
    assert found == spelled, "and no arithmetic on the size of the batch is left"


OTHER_MEANS: dict[str, Head] = {
    "over height alone": lambda m, x: x.mean(2),
    "over width alone": lambda m, x: x.mean(-1, keepdim=True),
    "over channels": lambda m, x: x.mean(1),
    "over channels and width": lambda m, x: x.mean((1, 3)),
    "over all but the batch": lambda m, x: x.mean((1, 2, 3)),
    "over the batch too": lambda m, x: x.mean((0, 2, 3), keepdim=True) + x,
    "of a sequence": lambda m, x: x.flatten(2).mean(-1),
    "of a clip": lambda m, x: x.unsqueeze(2).mean((2, 3)),
    "in another precision": lambda m, x: x.mean((2, 3), dtype=torch.float64).to(x.dtype),
}


@pytest.mark.parametrize("head", OTHER_MEANS.values(), ids=OTHER_MEANS)
def test_other_means_stay_means(head: Head) -> None:
    graph, _ = run(network(head), canonicalise)
    assert "mean" in operators(graph.module)
    assert "adaptive_avg_pool2d" not in operators(graph.module)


SHAPES: dict[str, tuple[Head, list[str]]] = {
    "flatten": (lambda m, x: m.wide(x.flatten(1)), ["reshape", "linear"]),
    "nn.Flatten": (lambda m, x: m.wide(nn.Flatten()(x)), ["reshape", "linear"]),
    "view": (lambda m, x: m.wide(x.view(x.shape[0], -1)), ["reshape", "linear"]),
    "reshape": (lambda m, x: m.wide(x.reshape(-1, 4 * 7 * 8)), ["reshape", "linear"]),
    "flatten of channels-last maps": (
        lambda m, x: m.wide(x.permute(0, 2, 3, 1).flatten(1)),
        ["permute", "reshape", "linear"],
    ),
    "a channel shuffle": (
        lambda m, x: x.view(-1, 2, 2, 7, 8).transpose(1, 2).contiguous().view(x.size(0), 4, 7, 8),
        ["reshape", "transpose", "reshape"],
    ),
    "channels in front": (
        lambda m, x: x.permute(1, 0, 2, 3).contiguous().view(4, -1).transpose(0, 1).reshape(-1, 56, 4),
        ["permute", "reshape", "transpose", "reshape"],
    ),
}


@pytest.mark.parametrize(("head", "spelled"), SHAPES.values(), ids=SHAPES)
def test_views_become_reshapes_of_a_batch_of_any_size(head: Head, spelled: list[str]) -> None:
    graph, _ = run(network(head), canonicalise)
    assert [name for name in operators(graph.module) if name != "sym_size"] == spelled


@pytest.mark.parametrize(
    "head",
    [
        lambda m, x: F.dropout(x, 0.5, training=False),
        lambda m, x: nn.Dropout(0.5).eval()(x),
        lambda m, x: nn.Dropout2d(0.5).eval()(x),
        lambda m, x: nn.Identity()(x),
        lambda m, x: x.clone(),
        lambda m, x: x.detach(),
        lambda m, x: x.contiguous(),
    ],
    ids=["F.dropout", "nn.Dropout", "nn.Dropout2d", "nn.Identity", "clone", "detach", "contiguous"],
)
def test_what_does_nothing_in_evaluation_is_removed(head: Head) -> None:
    graph, _ = run(network(lambda m, x: m.fc(head(m, x.relu()).mean((2, 3)))), canonicalise)
    assert operators(graph.module) == ["relu", "adaptive_avg_pool2d", "reshape", "linear"]


def test_in_place_operators_compute_what_they_computed() -> None:
    def in_place(m: Lambda, x: Tensor) -> Tensor:
        y = x * 2
        y.add_(1)
        return m.fc(F.relu_(m.relu(y - 2)).mul_(3).mean((2, 3)))

    graph, _ = run(network(in_place), canonicalise)
    assert not [name for name in operators(graph.module) if name.endswith("_")]


def test_a_canonical_graph_is_left_alone() -> None:
    _, (result,) = run(trained(nn.Sequential(nn.Conv2d(4, 6, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1))), canonicalise)
    assert (result.changed, result.refused) == (0, ())


def test_conversions_to_the_type_that_a_value_has_and_assertions_of_it_vanish() -> None:
    """They stand where a network says ``.to(x.dtype)``, and would keep what they read alive."""
    network = Lambda(lambda m, x: x * torch.arange(8).eq(3).to(x.dtype).to(x.dtype))
    graph, (result,) = run(network, canonicalise)
    assert operators(graph.module).count("_assert_tensor_metadata") == 0
    assert result.changed > 0
