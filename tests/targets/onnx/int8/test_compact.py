"""A compacted file computes what it did, with the same operators, under the names of its layers."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from kdna_deploy.runtimes.ort import OrtSession
from kdna_deploy.targets.onnx.int8.calibration import calibrate
from kdna_deploy.targets.onnx.int8.compact import compact
from kdna_deploy.targets.onnx.int8.quantize import quantise
from kdna_deploy.targets.onnx.ledger import optimised_model
from tests.samples import RESNET, exported_sample
from tests.targets.onnx.int8.quantised import operators, producers
from tests.targets.onnx.passes import applied

QDQ = {"QuantizeLinear", "DequantizeLinear"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("compact")
    exported_sample(folder / "float.onnx", RESNET, target="any")
    return folder


@pytest.fixture(scope="module")
def before(folder: Path) -> onnx.ModelProto:
    """The quantised ResNet sample."""
    batch = np.random.default_rng(0).standard_normal((8, 3, 64, 64)).astype(np.float32)
    return quantise(folder / "float.onnx", calibrate(folder / "float.onnx", [batch], "minmax"))


@pytest.fixture(scope="module")
def after(before: onnx.ModelProto) -> onnx.ModelProto:
    model = onnx.ModelProto()
    model.CopyFrom(before)
    applied(compact, model)
    assert applied(compact, model).changed == 0
    return model


@pytest.mark.slow
def test_logits_are_bit_identical_and_the_runtime_executes_the_same_operators(
    before: onnx.ModelProto, after: onnx.ModelProto, tmp_path: Path
) -> None:
    batch = np.random.default_rng(1).standard_normal((3, 3, 64, 64)).astype(np.float32)
    logits, executed = [], []
    for name, model in (("before", before), ("after", after)):
        path = tmp_path / f"{name}.onnx"
        onnx.save_model(model, path)
        onnx.checker.check_model(path, full_check=True)
        logits.append(OrtSession(path, threads=1).run(batch))
        executed.append(operators(optimised_model(path)))
    assert np.array_equal(*logits)
    assert executed[0] == executed[1]
    # Without zero points the classifier and the pool would be computed in float32.
    in_8_bits = {name: executed[1][name] for name in ("QLinearConv", "QGemm", "NhwcMaxPool")}
    assert in_8_bits == {"QLinearConv": 24, "QGemm": 1, "NhwcMaxPool": 1}


@pytest.mark.slow
def test_names_shapes_and_zeros_go(before: onnx.ModelProto, after: onnx.ModelProto) -> None:
    assert after.ByteSize() < 0.97 * before.ByteSize()
    assert not after.graph.value_info


def test_layers_and_kernels_keep_their_names_and_no_name_is_taken_twice(
    before: onnx.ModelProto, after: onnx.ModelProto
) -> None:
    layers = [[n.name for n in model.graph.node if n.op_type not in QDQ] for model in (before, after)]
    assert layers[0] == layers[1]
    kernels = [{t.name for t in model.graph.initializer if len(t.dims) > 1} for model in (before, after)]
    assert kernels[0] == kernels[1]
    assert [v.name for v in (*after.graph.input, *after.graph.output)] == ["input", "logits"]
    made = Counter(
        [t.name for t in after.graph.initializer]
        + [name for node in after.graph.node for name in node.output]
        + [value.name for value in after.graph.input]
    )
    assert set(made.values()) == {1}
    read = {name for node in after.graph.node for name in node.input}
    assert read <= set(made)
    assert {t.name for t in after.graph.initializer} <= read


def test_zero_points_go_from_kernels_and_quantised_biases_alone(after: onnx.ModelProto) -> None:
    made = producers(after.graph)
    for node in after.graph.node:
        for position, name in enumerate(node.input):
            source = made.get(name)
            if source is None or source.op_type != "DequantizeLinear":
                continue
            constant = node.op_type == "Conv" and position > 0
            assert (len(source.input) == 2) is constant


def test_short_names_avoid_those_that_are_kept() -> None:
    """An input, a kernel and an output that are called as the first values would be."""
    model = helper.make_model(
        helper.make_graph(
            [
                helper.make_node("Conv", ["0", "1"], ["inner"], name="layer"),
                helper.make_node("Relu", ["inner"], ["another"], name="relu"),
                helper.make_node("Neg", ["another"], ["2"], name="neg"),
            ],
            "names",
            [helper.make_tensor_value_info("0", TensorProto.FLOAT, [1, 2, 4, 4])],
            [helper.make_tensor_value_info("2", TensorProto.FLOAT, [1, 3, 4, 4])],
            [numpy_helper.from_array(np.ones((3, 2, 1, 1), np.float32), "1")],
        )
    )
    applied(compact, model)
    onnx.checker.check_model(model, full_check=True)
    names = ["0", "1", *(name for node in model.graph.node for name in node.output)]
    assert len(set(names)) == len(names) == 5
    assert [node.name for node in model.graph.node] == ["layer", "relu", "neg"]


def test_a_zero_point_other_than_zero_stays() -> None:
    model = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 18]> g (float[1,2,4,4] x) => (float[1,2,4,4] y) '
        "<int8[2,2,1,1] codes = {1, 2, 3, 4}, float s = {0.5}, int8 z = {1}, int8 unused = {3}> "
        "{ w = DequantizeLinear(codes, s, z) y = Conv(x, w) }"
    )
    applied(compact, model)
    assert len(model.graph.node[0].input) == 3
    assert len(model.graph.initializer) == 3
