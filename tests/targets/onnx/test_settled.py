"""Graphs that onnxsim removes nothing from are told without it; of others nothing is claimed."""

from __future__ import annotations

import itertools

import numpy as np
import onnx
import onnx_ir as ir
import onnxsim
import pytest
import torch
from torch import Tensor, nn

from kdna_deploy.graph.capture import capture
from kdna_deploy.targets.onnx.convert import to_onnx
from kdna_deploy.targets.onnx.settled import is_settled
from tests.samples import fused_small, narrow

WIDTH = 4
ENDS = "(float[N,4,8,8] x) => (float[N,4,8,8] y) <float[4,4,1,1] w, float[1,4,1,1] k>"


def graph(body: str) -> ir.Graph:
    model = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 18]> g {ENDS} {{ {body} }}')
    return ir.from_proto(model).graph


@pytest.mark.parametrize(
    "body",
    [
        "c = Conv(x, w) y = Relu(c)",
        "g = GlobalAveragePool(x) c = Conv(g, w) s = Sigmoid(c) y = Mul(x, s)",
        "a = Conv(x, w) b = Conv(a, w) y = Add(a, b)",
    ],
)
def test_layers_of_maps_are_settled(body: str) -> None:
    assert is_settled(graph(body), shared=False)


@pytest.mark.parametrize(
    "body",
    [
        "i = Identity(x) y = Relu(i)",
        "r = Relu(x) y = Relu(r)",
        "c = Conv(x, w) y = Add(c, k)",
        "v = Mul(w, k) y = Conv(x, v)",
        "a = Relu(x) b = Relu(x) y = Add(a, b)",
        "a = Sigmoid(x) y = Relu(x)",
        "a = Sigmoid(x) b, c = Split<num_outputs = 2, axis = 1>(a) y = Concat<axis = 1>(b, c)",
    ],
)
def test_of_others_nothing_is_claimed(body: str) -> None:
    assert not is_settled(graph(body), shared=False)


def test_products_of_constants_stay_where_children_are_shared() -> None:
    assert is_settled(graph("v = Mul(w, k) y = Conv(x, v)"), shared=True)
    assert not is_settled(graph("v = Add(w, k) y = Conv(x, v)"), shared=True)


class Block(nn.Module):
    """A residual block with a gate, or without either."""

    def __init__(self, gated: bool, residual: bool, act: type[nn.Module]) -> None:
        super().__init__()
        self.layer, self.act = nn.Conv2d(WIDTH, WIDTH, 3, padding=1), act()
        self.gate = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(WIDTH, WIDTH, 1), nn.Sigmoid()) if gated else None
        self.residual = residual

    def forward(self, x: Tensor) -> Tensor:
        made = self.act(self.layer(x))
        made = made * self.gate(made) if self.gate else made
        return made + x if self.residual else made


def removed(model: ir.Model, shared: bool) -> int:
    whole = ir.to_proto(model)
    smaller, _ = onnxsim.simplify(whole, skip_constant_folding=shared)
    return len(whole.graph.node) - len(smaller.graph.node)


def test_onnxsim_removes_nothing_from_what_is_settled() -> None:
    torch.manual_seed(0)
    told = []
    for act in (nn.ReLU, nn.ReLU6, nn.Sigmoid, nn.Hardsigmoid, nn.Identity):
        blocks = [Block(gated, residual, act) for gated, residual in itertools.product((False, True), repeat=2)]
        network = nn.Sequential(*blocks, nn.MaxPool2d(2), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(WIDTH, 3))
        model = to_onnx(capture(network.eval(), (WIDTH, 8, 8)))
        told.append(is_settled(model.graph, shared=False))
        assert not told[-1] or removed(model, shared=False) == 0
    assert np.mean(told) >= 0.8


@pytest.mark.slow
@pytest.mark.parametrize("children", ["materialize", "share"])
@pytest.mark.parametrize("arch", ["resnet18", "resnet50", "mobilenet_v2", "mobilenet_v2_1d2"])
def test_published_networks_are_settled(arch: str, children: str) -> None:
    shared = children == "share"
    model = to_onnx(fused_small(narrow(arch), children).graph, target="cpu")
    assert is_settled(model.graph, shared) and removed(model, shared) == 0
