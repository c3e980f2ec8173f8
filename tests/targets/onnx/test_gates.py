"""Channel attention is found in a graph from its product backwards."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

from kdna_deploy.targets.onnx.gates import gate_layers, prescales
from kdna_deploy.targets.onnx.ledger import optimised_model
from tests.samples import PRESCALES, RESNET, exported_sample
from tests.targets.onnx.passes import opened


@pytest.mark.slow
@pytest.mark.parametrize("target", ["cpu", "any"])
def test_every_prescale_is_found_in_the_file_and_in_what_the_runtime_makes_of_it(tmp_path: Path, target: str) -> None:
    path = tmp_path / "net.onnx"
    exported_sample(path, RESNET, target=target)
    graph = opened(onnx.load(path).graph)
    for one in (graph, opened(optimised_model(path).graph)):
        assert len(prescales(one)) == PRESCALES["resnet18"]
    operators = [[node.op_type for node in gate] for gate in prescales(graph).values()]
    assert {gate[-1] for gate in operators} == {"GlobalAveragePool"}
    assert {gate.count("Conv") for gate in operators} == {2}
    assert {"Resize" in gate for gate in operators} == {target == "cpu"}
    assert len(gate_layers(graph)) == sum(len(gate) - 1 for gate in operators)


@pytest.mark.parametrize(
    "body",
    [
        "y = Mul(x, x)",
        "r = Relu(x) y = Mul(r, x)",
        "p = GlobalAveragePool(x) e = Exp(p) y = Mul(e, x)",  # no operator of a gate
        "p = GlobalAveragePool(x) y = Add(p, x)",
    ],
)
def test_other_products_are_no_prescales(body: str) -> None:
    model = onnx.parser.parse_model(
        f'<ir_version: 8, opset_import: ["" : 18]> g (float[1,4,8,8] x) => (float[1,4,8,8] y) {{ {body} }}'
    )
    assert prescales(opened(model.graph)) == {}
