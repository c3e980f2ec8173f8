"""Costs are counted on the operators that run; every expected number here is worked out by hand."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from kdna_deploy.network.cost import Cost, count


class Called(nn.Module):
    """A module that applies `layers` in turn, the same one as often as it occurs."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x)
        return x


class Tied(nn.Module):
    """Two convolutions of one kernel, of which the second scales it by a parameter of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(4, 4, 3, padding=1, bias=False)
        self.second = nn.Conv2d(4, 4, 3, padding=1, bias=False)
        self.second.weight = self.first.weight
        self.scale = nn.Parameter(torch.ones(4, 1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return functional.conv2d(self.first(x), self.second.weight * self.scale, padding=1)


SHAPE = (4, 6, 8)  # channels, height, width
OUTPUTS = 6 * 8  # positions of a "same" convolution


@pytest.mark.parametrize(
    ("module", "parameters", "macs", "wider"),
    [
        pytest.param(nn.Conv2d(4, 10, 3, padding=1), 10 * 4 * 9 + 10, OUTPUTS * 10 * 4 * 9, 0, id="convolution"),
        pytest.param(nn.Conv2d(4, 10, 3, bias=False), 360, (4 * 6) * 360, 0, id="no padding, no bias"),
        pytest.param(nn.Conv2d(4, 10, (1, 3), stride=2, bias=False), 120, (3 * 3) * 120, 0, id="stride"),
        pytest.param(nn.Conv2d(4, 8, 3, padding=1, groups=2), 8 * 2 * 9 + 8, OUTPUTS * 8 * 2 * 9, 0, id="groups"),
        pytest.param(nn.Conv2d(4, 4, 3, padding=1, groups=4), 4 * 9 + 4, OUTPUTS * 4 * 9, 0, id="depthwise"),
        # Every input element meets the whole kernel of its group once.
        pytest.param(nn.ConvTranspose2d(4, 6, 2, stride=2), 4 * 6 * 4 + 6, OUTPUTS * 4 * 6 * 4, 0, id="transposed"),
        pytest.param(
            nn.ConvTranspose2d(4, 6, 2, stride=2, groups=2, bias=False),
            4 * 3 * 4,
            OUTPUTS * 4 * 3 * 4,
            0,
            id="transposed, groups",
        ),
        pytest.param(nn.Sequential(nn.Flatten(), nn.Linear(192, 5)), 192 * 5 + 5, 192 * 5, 0, id="linear"),
        pytest.param(nn.Sequential(nn.Flatten(), nn.Linear(192, 5, bias=False)), 960, 960, 0, id="linear, no bias"),
        pytest.param(nn.Linear(8, 5), 45, (4 * 6) * 8 * 5, 0, id="linear on every row"),
        pytest.param(nn.BatchNorm2d(4), 8, 0, 2 * 192, id="batch norm"),
        pytest.param(nn.AdaptiveAvgPool2d(1), 0, 0, 192, id="global average pool"),
        pytest.param(nn.AdaptiveAvgPool2d(2), 0, 0, 192, id="average pool to 2 x 2"),
        pytest.param(nn.AvgPool2d(2), 0, 0, 192, id="average pool"),
        pytest.param(nn.Sequential(nn.MaxPool2d(2), nn.ReLU(), nn.Dropout()), 0, 0, 0, id="what costs nothing"),
        pytest.param(
            nn.Sequential(nn.Conv2d(4, 2, 1, bias=False), nn.BatchNorm2d(2), nn.AdaptiveAvgPool2d(1)),
            8 + 4,
            OUTPUTS * 8,
            2 * (OUTPUTS * 2) + OUTPUTS * 2,
            id="a sum of all",
        ),
    ],
)
def test_one_layer_costs_what_it_computes(module: nn.Module, parameters: int, macs: int, wider: int) -> None:
    assert count(module, SHAPE) == Cost(parameters, macs, macs + wider)


def test_a_layer_that_runs_twice_costs_twice_but_is_stored_once() -> None:
    layer = nn.Conv2d(4, 4, 1, bias=False)
    once, twice = count(Called(layer), SHAPE), count(Called(layer, layer), SHAPE)
    assert (once.parameters, twice.parameters) == (16, 16)
    assert (once.macs, twice.macs) == (OUTPUTS * 16, 2 * OUTPUTS * 16)


def test_a_tied_parameter_is_stored_once() -> None:
    kernel = 4 * 4 * 9
    assert count(Tied(), SHAPE) == Cost(kernel + 4, 2 * OUTPUTS * kernel, 2 * OUTPUTS * kernel)


def test_buffers_are_no_parameters() -> None:
    assert count(nn.BatchNorm2d(4, affine=False), SHAPE).parameters == 0


def test_counting_leaves_the_module_as_it_was() -> None:
    module = nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)).train()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    count(module, SHAPE)
    assert module.training
    for name, value in module.state_dict().items():
        assert value.device.type == "cpu"
        torch.testing.assert_close(value, before[name], rtol=0, atol=0)


def test_a_module_without_memory_can_be_counted() -> None:
    with torch.device("meta"):
        module = nn.Conv2d(4, 10, 3, padding=1)
    assert count(module, SHAPE) == count(nn.Conv2d(4, 10, 3, padding=1), SHAPE)
