"""Convolutions with a kernel for each image are found however they are spelled, and BatchNorm goes into their banks."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import fx

from kdna_deploy.graph.dynamic_convolution import dynamic_convolutions, spell_out
from kdna_deploy.graph.graph import Graph, constant
from kdna_deploy.graph.passes import PassResult
from kdna_deploy.graph.passes.find_dynamic_convolutions import find_dynamic_convolutions
from kdna_deploy.graph.shapes import fill_missing_shapes
from tests.dynamic import LAYERS, Mixture, Warehouse, captured_layer, network
from tests.graph.passes.equivalence import PIPELINE, Lambda, assert_same, constants, operators, run, trained


def run_layer(name: str) -> tuple[Graph, list[PassResult]]:
    """All passes on one of the layers."""
    return run(LAYERS[name](), *PIPELINE, graph=captured_layer(name))


@pytest.mark.slow
@pytest.mark.parametrize("name", LAYERS)
def test_every_spelling_is_found_and_computes_the_same_through_all_passes(name: str) -> None:
    graph, results = run_layer(name)
    assert results[0].changed and not results[0].refused
    assert len(dynamic_convolutions(graph.module)) == (2 if isinstance(LAYERS[name](), Warehouse) else 1)
    assert not {"conv2d", "convolution"} & {name for name in operators(graph.module) if name == "convolution"}


@pytest.mark.parametrize("name", LAYERS)
def test_spelled_out_for_a_program_it_is_found_again(name: str) -> None:
    module = LAYERS[name]()
    graph = captured_layer(name)
    find_dynamic_convolutions(graph.module)
    found = len(dynamic_convolutions(graph.module))
    fill_missing_shapes(graph)
    spell_out(graph.module)
    assert not dynamic_convolutions(graph.module)
    assert_same(graph, module.double())
    fill_missing_shapes(graph)
    find_dynamic_convolutions(graph.module)
    assert len(dynamic_convolutions(graph.module)) == found
    assert_same(graph, module.double())


def test_no_reshape_of_the_images_is_left() -> None:
    graph, _ = run(network(Mixture(padding=1)), *PIPELINE)
    (layer,) = dynamic_convolutions(graph.module)
    assert layer.args[0].op == "placeholder"  # type: ignore[union-attr]
    assert [user.target.__name__ for user in layer.users] == ["relu.default"]  # type: ignore[union-attr]


def test_a_constant_that_is_added_is_the_bias_also_in_a_program_that_was_saved() -> None:
    graph = captured_layer("a constant bias")
    find_dynamic_convolutions(graph.module)
    fill_missing_shapes(graph)
    for _ in range(2):
        (layer,) = dynamic_convolutions(graph.module)
        bias = layer.args[2]
        assert isinstance(bias, fx.Node) and constant(bias).shape == (6,) and constant(bias).dtype is torch.float64
        assert "add" not in operators(graph.module)
        spell_out(graph.module)
        fill_missing_shapes(graph)
        find_dynamic_convolutions(graph.module)
        fill_missing_shapes(graph)


@pytest.mark.parametrize("name", ["mixture", "weights that do not sum up to one", "depthwise", "pointwise", "einsum"])
def test_batchnorm_goes_into_a_bank_of_the_layers_own(name: str) -> None:
    graph, _ = run_layer(name)
    assert "_native_batch_norm_legit_no_training" not in operators(graph.module)
    assert operators(graph.module).count("mul") == 0  # nothing is left to multiply for an image
    (layer,) = dynamic_convolutions(graph.module)
    assert layer.args[2].op == "get_attr"  # type: ignore[union-attr]


def test_biases_that_are_mixed_are_scaled_in_their_bank_and_shifted() -> None:
    graph, _ = run_layer("mixture with biases and a temperature")
    (layer,) = dynamic_convolutions(graph.module)
    assert layer.args[2].target is torch.ops.aten.add.Tensor  # type: ignore[union-attr]
    assert operators(graph.module).count("mul") == 0


def test_cells_that_layers_share_stay_one_constant_with_batchnorm_behind_the_assembly() -> None:
    graph, results = run(trained(Warehouse()), *PIPELINE)
    stored = [name for name in constants(graph.module) if name.startswith("cells")]
    assert len(stored) == 1
    # 4·9 numbers a filter against 7·8 pixels of a map: the kernels are what to scale.
    assert "_native_batch_norm_legit_no_training" not in operators(graph.module)
    assert operators(graph.module).count("mul") == 2  # one a layer
    assert not any(result.refused for result in results)


def test_where_the_output_is_smaller_than_the_kernels_batchnorm_stays_and_that_is_said() -> None:
    _, results = run(trained(Warehouse()), *PIPELINE, image=(4, 3, 5))
    reasons = [refusal.reason for result in results for refusal in result.refused]
    assert len(reasons) == 2
    assert all("are larger than its output" in reason for reason in reasons)


def test_a_padding_in_words_is_refused_with_the_reason() -> None:
    module = Lambda(
        lambda m, x: F.conv2d(
            x.reshape(1, -1, *x.shape[2:]),
            (m.weight * x.mean((1, 2, 3)).view(-1, 1, 1, 1, 1)).view(-1, 4, 3, 3),
            padding="same",
            groups=x.shape[0],
        ).view(x.shape[0], 6, *x.shape[2:]),
        weight=torch.randn(1, 6, 4, 3, 3),
    )
    _, (result,) = run(trained(module), find_dynamic_convolutions)
    assert result.changed == 0
    assert "padding 'same'; give that in numbers" in result.refused[0].reason


def test_a_temperature_goes_into_the_layer_in_front_of_it() -> None:
    graph, _ = run(network(Mixture(temperature=30.0)), *PIPELINE)
    assert "div" not in operators(graph.module)


def test_batchnorm_behind_a_gate_goes_into_the_bank_and_leaves_its_shift() -> None:
    graph, _ = run_layer("four attentions")
    found = operators(graph.module)
    assert "_native_batch_norm_legit_no_training" not in found
    assert found[-2:] == ["add", "relu"]
