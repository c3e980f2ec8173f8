"""Nodes are named by the modules that every report speaks of, each by a name of its own."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Literal

import onnx
import onnx_ir as ir
import pytest

from kdna_deploy.targets.onnx.convert import to_onnx
from kdna_deploy.targets.onnx.names import name_nodes, site_of
from tests.samples import MOBILENET, RESNET, exported_sample, fused_sample


@pytest.mark.slow
@pytest.mark.parametrize("name", [RESNET, MOBILENET])
def test_every_layer_of_every_parent_and_child_is_found_by_its_name(name: str) -> None:
    sample = fused_sample(name)
    nodes = list(ir.to_proto(to_onnx(sample.graph)).graph.node)
    assert max(Counter(node.name for node in nodes).values()) == 1
    assert all(node.name.split("/")[-1].split("_")[0] == node.op_type for node in nodes)
    convolutions = Counter(site_of(node.name) for node in nodes if node.op_type == "Conv")
    layers = [p.layer for p in sample.provenance.shared_kernels if p.layer]
    children = [child for p in sample.provenance.shared_kernels for child in p.children]
    assert children
    assert {convolutions[site] for site in (*layers, *children)} == {1}


@pytest.mark.slow
@pytest.mark.parametrize("target", ["cpu", "any", "tensorrt"])
def test_names_survive_in_the_file(tmp_path: Path, target: Literal["cpu", "any", "tensorrt"]) -> None:
    exported_sample(tmp_path / "net.onnx", RESNET, target=target)
    nodes = onnx.load(tmp_path / "net.onnx").graph.node
    assert max(Counter(node.name for node in nodes).values()) == 1
    assert "conv1/Conv" in {node.name for node in nodes}


def with_scopes(*scopes: str | None) -> ir.Model:
    """A chain of `Relu` nodes, each with the scopes that torch.onnx would have left in its metadata."""
    body = " ".join(f"v{i} = Relu(v{i - 1})" if i else "v0 = Relu(x)" for i in range(len(scopes)))
    text = f'<ir_version: 8, opset_import: ["" : 18]> g (float[1] x) => (float[1] v{len(scopes) - 1}) {{ {body} }}'
    model = ir.from_proto(onnx.parser.parse_model(text))
    for number, (node, one) in enumerate(zip(model.graph, scopes, strict=True)):
        node.name = f"n{number}"
        if one is not None:
            node.metadata_props["pkg.torch.onnx.name_scopes"] = one
    return model


def test_the_innermost_module_and_the_operator_make_the_name() -> None:
    model = with_scopes(
        "['', 'a', 'a.b', 'relu']", "['', 'a', 'a.b', 'relu_1']", "['', 'a', 'x']", "['', 'y']", "['y']", None
    )
    assert (name_nodes(model).changed, name_nodes(model).changed) == (5, 0)
    assert [node.name for node in model.graph] == ["a.b/Relu", "a.b/Relu_2", "a/Relu", "Relu", "Relu_2", "n5"]


@pytest.mark.parametrize(("name", "site"), [("a.b/Conv_2", "a.b"), ("Conv", ""), ("", ""), ("a/b/Conv", "a/b")])
def test_the_module_of_a_node_is_what_stands_before_its_operator(name: str, site: str) -> None:
    assert site_of(name) == site
