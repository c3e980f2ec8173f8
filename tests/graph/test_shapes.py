"""Shapes of every value, with a symbol for the batch, whatever the passes and another size have left there."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdna_deploy.graph.capture import capture
from kdna_deploy.graph.graph import Graph
from kdna_deploy.graph.shapes import fill_missing_shapes, fill_shapes


def _network() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, stride=2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5)
    )


def test_every_value_has_its_shape_and_the_batch_is_a_symbol() -> None:
    graph = capture(_network(), (3, 9, 9))
    for node in graph.module.graph.nodes:
        node.meta.pop("val", None)

    fill_shapes(graph)

    values = {node.name: node.meta["val"] for node in graph.module.graph.nodes if node.op != "output"}
    assert list(values["conv2d"].shape[1:]) == [4, 4, 4]
    assert list(values["linear"].shape[1:]) == [5]
    batches = [values[name].shape[0] for name in ("conv2d", "relu", "adaptive_avg_pool2d", "linear")]
    assert all(isinstance(batch, torch.SymInt) for batch in batches)
    assert len({str(batch) for batch in batches}) == 1
    # Which kernel PyTorch would run for a batch of 2 must not narrow the symbol.
    assert not batches[0].node.shape_env.guards


def test_another_size_gives_other_shapes() -> None:
    graph = Graph(capture(_network(), (3, 9, 9)).module, (3, 33, 21))

    fill_shapes(graph)

    convolved = next(node for node in graph.module.graph.nodes if node.name == "conv2d")
    assert list(convolved.meta["val"].shape[1:]) == [4, 16, 10]


def test_a_graph_in_float64_has_values_in_float64() -> None:
    graph = capture(_network(), (3, 9, 9))
    graph.module.double()

    fill_shapes(graph)

    kinds = {
        node.meta["val"].dtype
        for node in graph.module.graph.nodes
        if node.op == "call_function" and hasattr(node.meta["val"], "dtype")
    }
    assert kinds == {torch.float64}


class _Bordered(nn.Module):
    """Operators that PyTorch has in C++ alone."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, (2, 4), padding="same")

    def forward(self, x: Tensor) -> Tensor:
        return F.pad(self.conv(x), (1, 2)).mean((2, 3))


def test_the_batch_is_a_symbol_behind_every_operator() -> None:
    graph = capture(_Bordered(), (3, 9, 9))

    fill_shapes(graph)

    calls = [node for node in graph.module.graph.nodes if node.op == "call_function"]
    assert {str(node.meta["val"].shape[0]) for node in calls} == {str(calls[0].meta["val"].shape[0])}
    assert isinstance(calls[0].meta["val"].shape[0], torch.SymInt)


def test_what_is_known_stays_and_what_a_pass_has_made_is_filled_in() -> None:
    graph = capture(_network(), (3, 9, 9))
    nodes = {node.name: node for node in graph.module.graph.nodes}
    known, made = nodes["conv2d"].meta["val"], nodes["relu"].meta.pop("val")

    fill_missing_shapes(graph)

    assert nodes["conv2d"].meta["val"] is known
    assert nodes["relu"].meta["val"].shape == made.shape
    assert all("val" in node.meta for node in graph.module.graph.nodes if node.op != "output")


@pytest.mark.parametrize(("shape", "dtype"), [((3, 33, 21), torch.float32), ((3, 9, 9), torch.float64)])
def test_what_is_known_of_other_images_is_not_kept(shape: tuple[int, int, int], dtype: torch.dtype) -> None:
    graph = Graph(capture(_network(), (3, 9, 9)).module.to(dtype), shape)

    fill_missing_shapes(graph)

    convolved = next(node.meta["val"] for node in graph.module.graph.nodes if node.name == "conv2d")
    assert (tuple(convolved.shape[2:]), convolved.dtype) == ((shape[1] // 2, shape[2] // 2), dtype)
