"""nn.Module → Graph: what is captured, what is refused, and that the module is none the wiser."""

from __future__ import annotations

import copy
import logging
import re
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from kdna_deploy.errors import CaptureError
from kdna_deploy.graph.capture import capture, captured, export_program, program_graph
from kdna_deploy.graph.graph import cast_floats
from kdna_deploy.network.load import network_of
from tests.graph.passes.equivalence import Lambda, operators, trained

IMAGE = (4, 7, 8)


def small() -> nn.Module:
    layers = (nn.Conv2d(4, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Dropout(0.5), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return trained(nn.Sequential(*layers, nn.Linear(6, 5)))


@pytest.mark.parametrize("batch", [1, 2, 3, 17])
def test_a_graph_runs_for_any_batch_and_computes_what_the_module_computes(batch: int) -> None:
    module = small()
    images = torch.randn(batch, *IMAGE, generator=torch.Generator().manual_seed(batch))
    with torch.no_grad():
        expected = module(images)
    # The same operators in the same order: not even rounding differs.
    assert capture(module, IMAGE)(images).equal(expected)


def test_a_convolutional_graph_runs_for_other_image_sizes() -> None:
    module = small()
    images = torch.randn(2, 4, 11, 5)
    with torch.no_grad():
        assert capture(module, IMAGE)(images).equal(module(images))


@pytest.mark.slow
def test_the_module_is_not_changed() -> None:
    module = small().train()
    before = copy.deepcopy(module.state_dict())
    parameters = dict(module.named_parameters())
    capture(module, IMAGE)
    assert module.training
    assert all(layer.training for layer in module.modules())
    assert all(parameter is parameters[name] for name, parameter in module.named_parameters())
    assert all(parameter.requires_grad for parameter in module.parameters())
    after = module.state_dict()
    assert list(after) == list(before)
    assert all(after[name].equal(before[name]) for name in before)


def test_a_network_in_training_mode_is_captured_in_evaluation_mode() -> None:
    images = torch.randn(3, *IMAGE)
    module = small()
    graph = capture(copy.deepcopy(module).train(), IMAGE)
    with torch.no_grad():
        assert graph(images).equal(module(images))


def test_a_graph_and_its_clone_share_nothing() -> None:
    graph = capture(small(), IMAGE)
    images = torch.randn(1, *IMAGE)
    expected = graph(images)
    clone = graph.clone()
    with torch.no_grad():
        for value in clone.module.state_dict().values():
            value.zero_()
    assert clone(images).abs().max() == 0
    assert graph(images).equal(expected)


def test_the_constants_of_a_graph_take_no_gradient() -> None:
    graph = capture(small(), IMAGE)
    assert not any(value.requires_grad for value in graph.module.parameters())
    assert not graph(torch.randn(1, *IMAGE)).requires_grad


def test_in_place_operators_are_gone() -> None:
    module = Lambda(lambda m, x: m.relu(m.conv(x)).add_(1), conv=nn.Conv2d(4, 6, 3), relu=nn.ReLU(inplace=True))
    assert operators(capture(trained(module), IMAGE).module) == ["conv2d", "relu", "add"]


def test_a_network_in_double_precision_is_captured_as_it_is() -> None:
    graph = capture(small().double(), IMAGE)
    assert graph(torch.randn(2, *IMAGE, dtype=torch.float64)).dtype == torch.float64


@pytest.mark.parametrize(
    "wrapped", [lambda y: (y,), lambda y: [y], lambda y: {"logits": y}], ids=["tuple", "list", "dictionary"]
)
def test_a_single_output_in_a_container_is_taken_out_of_it(wrapped: Callable[[Tensor], object]) -> None:
    module = Lambda(lambda m, x: wrapped(m.conv(x)), conv=nn.Conv2d(4, 6, 3))
    assert capture(trained(module), IMAGE)(torch.randn(3, *IMAGE)).shape == (3, 6, 5, 6)


def one_sentence(error: pytest.ExceptionInfo[CaptureError]) -> str:
    """The message, which must be one or two sentences on one line."""
    text = str(error.value)
    assert "\n" not in text
    assert text.endswith(".")
    assert len(re.findall(r"[.!?]\s+[A-Z]", text)) <= 1, text
    return text


def test_several_outputs_are_refused() -> None:
    module = trained(Lambda(lambda m, x: (m.conv(x), x.mean((2, 3))), conv=nn.Conv2d(4, 6, 3)))
    with pytest.raises(CaptureError) as error:
        capture(module, IMAGE)
    assert (
        one_sentence(error) == "The network returns a tuple of 2 tensors; wrap it so that it returns the logits alone."
    )


class TwoInputs(nn.Module):
    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return x * mask


def test_several_inputs_are_refused() -> None:
    with pytest.raises(CaptureError) as error:
        capture(TwoInputs(), IMAGE)
    assert "mask" in one_sentence(error)


def test_an_exported_program_of_several_inputs_is_refused() -> None:
    images = torch.randn(2, *IMAGE)
    with pytest.raises(CaptureError) as error:
        program_graph(torch.export.export(TwoInputs(), (images, images)), IMAGE)
    assert one_sentence(error) == "The network takes 2 inputs; wrap it so that it takes one image batch."


def _branch(m: Lambda, x: Tensor) -> Tensor:
    return m.conv(x) if x.sum() > 0 else m.conv(-x)


def _early_exit(m: Lambda, x: Tensor) -> Tensor:
    y = m.conv(x)
    return y * 2 if float(y.max()) > 1 else y


@pytest.mark.parametrize("function", [_branch, _early_exit], ids=["if", "early exit"])
def test_control_flow_that_depends_on_the_data_is_refused(function: Callable[[Lambda, Tensor], Tensor]) -> None:
    with pytest.raises(CaptureError) as error:
        capture(trained(Lambda(function, conv=nn.Conv2d(4, 6, 3))), IMAGE)
    assert "data-dependent control flow" in one_sentence(error)


@pytest.mark.slow
def test_the_length_of_a_batch_is_followed() -> None:
    module = trained(Lambda(lambda m, x: m.conv(x).view(len(x), -1), conv=nn.Conv2d(4, 6, 3)))
    images = torch.randn(3, *IMAGE)
    with torch.no_grad():
        assert capture(module, IMAGE)(images).equal(module(images))


@pytest.mark.slow
def test_a_batch_size_that_is_built_in_is_refused() -> None:
    with pytest.raises(CaptureError) as error:
        capture(trained(Lambda(lambda m, x: m.conv(x).view(2, -1), conv=nn.Conv2d(4, 6, 3))), IMAGE)
    assert "fixed batch size" in one_sentence(error)


def test_an_image_of_another_shape_than_the_network_takes_is_refused_with_the_shape() -> None:
    with pytest.raises(CaptureError) as error:
        capture(small(), (3, 7, 8))
    text = str(error.value)
    assert "(2, 3, 7, 8)" in text
    assert "check `input_size`" in text


@pytest.mark.slow
def test_nothing_is_printed_or_logged(capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> None:
    capture(small(), IMAGE)
    for refused in (Lambda(_branch, conv=nn.Conv2d(4, 6, 3)), nn.Linear(3, 3)):
        with pytest.raises(CaptureError):
            capture(trained(refused), IMAGE)
    assert capfd.readouterr() == ("", "")
    assert [record for record in caplog.records if record.levelno > logging.DEBUG] == []


def test_a_loaded_network_is_traced_once_for_each_size(monkeypatch: pytest.MonkeyPatch) -> None:
    traced = []

    def note(module: nn.Module, shape: tuple[int, int, int]) -> torch.export.ExportedProgram:
        traced.append(shape)
        return export_program(module, shape)

    monkeypatch.setattr("kdna_deploy.graph.capture.export_program", note)
    network = network_of(small())
    images = torch.randn(3, *IMAGE)
    expected = network.module(images)
    cast_floats(captured(network, IMAGE).module, torch.float64)  # whoever asked may rewrite it
    assert captured(network, IMAGE)(images).equal(expected)
    captured(network, (4, 9, 9))
    assert traced == [IMAGE, (4, 9, 9)]
    with torch.no_grad():
        next(network.module.parameters()).data = torch.zeros(6, 4, 3, 3)
    assert not captured(network, IMAGE)(images).equal(expected), "other weights than it was traced with"


def test_a_network_whose_settings_were_changed_is_traced_again() -> None:
    network = network_of(trained(Lambda(lambda m, x: m.conv(x) * m.factor, conv=nn.Conv2d(4, 6, 3))))
    images = torch.randn(2, *IMAGE)
    for factor in (2.0, 3.0):
        network.module.factor = factor
        assert captured(network, IMAGE)(images).equal(network.module(images))


def test_a_graph_has_its_weights_where_the_network_has_them() -> None:
    module = small()
    held = {tensor.data_ptr() for tensor in module.state_dict().values()}
    assert {tensor.data_ptr() for tensor in capture(module, IMAGE).module.state_dict().values()} <= held
