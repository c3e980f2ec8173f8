"""Int8 graphs for TensorRT: where their QDQ pairs stand. That they build is in tests/tensorrt/test_networks.py."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from kdna_deploy.runtimes.ort import OrtSession
from kdna_deploy.targets.onnx.gates import prescales
from kdna_deploy.targets.onnx.int8.calibration import calibrate
from kdna_deploy.targets.onnx.int8.qdq_placement import place_for_tensorrt
from kdna_deploy.targets.onnx.int8.quantize import quantise
from tests.samples import MOBILENET, RESNET, exported_sample
from tests.targets.onnx.int8.quantised import constants, operators, producers
from tests.targets.onnx.passes import applied, opened

QDQ = {"QuantizeLinear", "DequantizeLinear"}


@cache
def exported(name: str, folder: Path) -> Path:
    path = folder / f"{name}.onnx"
    exported_sample(path, name, target="any")
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("placement")


def int8(path: Path, size: int) -> onnx.ModelProto:
    """The float file at `path`, quantised for TensorRT as `export` does it."""
    batch = np.random.default_rng(0).standard_normal((8, 3, size, size)).astype(np.float32)
    return quantise(path, calibrate(path, [batch], "minmax"), (), "tensorrt")


@pytest.fixture(scope="module", params=[RESNET, pytest.param(MOBILENET, marks=pytest.mark.slow)])
def sample(request: pytest.FixtureRequest, folder: Path) -> onnx.ModelProto:
    return int8(exported(request.param, folder), 64)


def has_pair(graph: onnx.GraphProto, value: str) -> bool:
    """Whether `value` is what a QDQ pair makes of another."""
    made = producers(graph)
    last = made.get(value)
    return last is not None and last.op_type == "DequantizeLinear" and made[last.input[0]].op_type == "QuantizeLinear"


@pytest.mark.slow
def test_codes_are_symmetric_signed_8_bit_and_biases_stay_in_float(sample: onnx.ModelProto) -> None:
    stored = constants(sample.graph)
    for node in (n for n in sample.graph.node if n.op_type in QDQ):
        zero_points = [stored[name] for name in node.input[2:]]
        # Without a zero point, the codes of a `QuantizeLinear` would be unsigned.
        assert all(z.dtype == np.int8 and not z.any() for z in zero_points)
        assert zero_points or stored[node.input[0]].dtype == np.int8
        assert (stored[node.input[1]] > 0).all()
    assert not any(tensor.data_type in (TensorProto.INT32, TensorProto.UINT8) for tensor in sample.graph.initializer)
    convolutions = [n for n in sample.graph.node if n.op_type == "Conv"]
    assert all(stored[node.input[2]].dtype == np.float32 for node in convolutions)


@pytest.mark.slow
def test_kernels_have_a_scale_for_each_filter_and_activations_one(sample: onnx.ModelProto) -> None:
    made, stored = producers(sample.graph), constants(sample.graph)
    kernels = 0
    for node in (n for n in sample.graph.node if n.op_type in QDQ):
        kernel = stored.get(node.input[0])
        if kernel is None:
            assert stored[node.input[1]].shape == ()
        elif kernel.ndim == 4:
            (axis,) = [a.i for a in node.attribute if a.name == "axis"]
            assert (axis, stored[node.input[1]].shape) == (0, (len(kernel),))
            kernels += 1
    gates = {node.name for gate in prescales(opened(sample.graph)).values() for node in gate}
    layers = [n for n in sample.graph.node if n.op_type == "Conv" and n.name not in gates]
    assert kernels == len(layers)
    assert all(has_pair(sample.graph, n.input[0]) and n.input[1] in made for n in layers)


def test_the_shortcut_alone_of_a_sum_has_a_pair(sample: onnx.ModelProto) -> None:
    made = producers(sample.graph)
    order = {node.name: position for position, node in enumerate(sample.graph.node) if node.name}
    sums = [node for node in sample.graph.node if node.op_type == "Add"]
    assert sums
    for node in sums:
        pairs = [has_pair(sample.graph, name) for name in node.input]
        assert sorted(pairs) == [False, True]
        branch = made[node.input[pairs.index(False)]]
        assert branch.op_type == "Conv"
        shortcut = made[made[made[node.input[pairs.index(True)]].input[0]].input[0]]
        # Of two convolutions, the one that is computed last has the sum in its epilogue.
        assert shortcut.op_type != "Conv" or order[shortcut.name] < order[branch.name]


def test_a_prescales_map_has_a_pair_and_its_gate_none(sample: onnx.ModelProto) -> None:
    found = prescales(opened(sample.graph))
    products = {node.name: node for node in sample.graph.node if node.op_type == "Mul"}
    assert found.keys() == products.keys()
    for name, gate in found.items():
        assert not QDQ & {node.op_type for node in gate}
        (own,) = [value for value in products[name].input if value == gate[0].outputs[0].name]
        (image,) = [value for value in products[name].input if value != own]
        assert has_pair(sample.graph, image)


def test_nothing_that_is_not_read_is_left(sample: onnx.ModelProto) -> None:
    read = {name for node in sample.graph.node for name in node.input} | {v.name for v in sample.graph.output}
    assert {output for node in sample.graph.node for output in node.output} <= read
    assert {tensor.name for tensor in sample.graph.initializer} <= read
    assert applied(place_for_tensorrt, sample).changed == 0  # a second time there is nothing to take out


@pytest.mark.slow
@pytest.mark.parametrize("name", [RESNET, MOBILENET])
def test_the_logits_are_those_of_8_bits_on_any_runtime(folder: Path, tmp_path: Path, name: str) -> None:
    path = exported(name, folder)
    onnx.save_model(int8(path, 64), tmp_path / "int8.onnx")
    onnx.checker.check_model(tmp_path / "int8.onnx", full_check=True)
    batch = np.random.default_rng(0).standard_normal((8, 3, 64, 64)).astype(np.float32)
    expected = OrtSession(path, threads=1).run(batch).astype(np.float64)
    found = OrtSession(tmp_path / "int8.onnx", threads=1).run(batch)
    assert 10 * np.log10((expected**2).sum() / ((found - expected) ** 2).sum()) > 15


def placed(body: str, constants_: str = "") -> tuple[int, onnx.ModelProto]:
    """A graph in which q(x) is written as Q and DQ with one scale."""
    model = onnx.parser.parse_model(
        f'<ir_version: 8, opset_import: ["" : 18]> g (float[1,2,4,4] x, float[1,2,4,4] b) => (float[1,2,4,4] y) '
        f"<float s = {{0.1}}, int8 z = {{0}}, float[2,2,1,1] w = {{1, 2, 3, 4}}{constants_}> {{ {body} }}"
    )
    for node in model.graph.node:
        node.name = node.output[0]
    count = applied(place_for_tensorrt, model).changed
    onnx.checker.check_model(model, full_check=True)
    return count, model


PAIR = "{0}q = QuantizeLinear({0}, s, z) {0}d = DequantizeLinear({0}q, s, z) "


def test_a_convolution_that_others_read_too_keeps_its_pair() -> None:
    """TensorRT could not fuse the sum with it: its result is wanted by itself."""
    count, model = placed(
        "c = Conv(x, w) " + PAIR.format("c") + PAIR.format("b") + "a = Add(cd, bd) r = Relu(c) y = Mul(a, r)"
    )
    assert count == 0
    assert operators(model)["QuantizeLinear"] == 2


def test_a_sum_of_two_convolutions_is_fused_with_the_last() -> None:
    count, model = placed("f = Conv(b, w) c = Conv(x, w) " + PAIR.format("c") + PAIR.format("f") + "y = Add(cd, fd)")
    assert count == 1
    assert list(model.graph.node[-1].input) == ["c", "fd"]


def test_a_sum_without_a_convolution_stays_as_it_is() -> None:
    count, model = placed("r = Relu(x) " + PAIR.format("r") + PAIR.format("b") + "y = Add(rd, bd)")
    assert count == 0
    assert operators(model)["DequantizeLinear"] == 2
