"""Costs counted on ONNX files. (Those of the published networks are counted in test_cli_three_lines.)"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from kdna_deploy.errors import ArtifactError
from kdna_deploy.network.cost import count
from kdna_deploy.runtimes.onnx_file import file_bytes
from kdna_deploy.targets.onnx.cost import OnnxCost, count_onnx
from tests.samples import exported_sample, fused_sample


def save(path: Path, graph: str, opset: int = 18, **weights: tuple[int, ...]) -> Path:
    """Write the model of `graph` (ONNX text) with zero weights of the given shapes."""
    model = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : {opset}]> g {graph}')
    for name, shape in weights.items():
        model.graph.initializer.append(numpy_helper.from_array(np.zeros(shape, np.float32), name))
    onnx.checker.check_model(model)
    onnx.save_model(model, path)
    return path


@pytest.mark.slow
def test_an_exported_sample_costs_what_its_network_does(tmp_path: Path) -> None:
    exported_sample(tmp_path / "net.onnx", simplify=False)
    sample = fused_sample()
    cost = count_onnx(tmp_path / "net.onnx")
    assert cost.macs == count(sample.network.module, sample.graph.image_shape).macs
    # The file also holds the few numbers of a reshape and of the pooling.
    stored = sum(tensor.numel() for tensor in sample.graph.module.state_dict().values())
    assert stored <= cost.stored <= stored + 16


@pytest.mark.parametrize(
    ("graph", "weights", "expected"),
    [
        ("(float[N,4,8,8] x) => (float[N,6,8,8] y) { y = Conv<pads=[1,1,1,1]>(x, w) }", {"w": (6, 4, 3, 3)}, 13824),
        # A fixed batch counts one image all the same.
        ("(float[5,4,8,8] x) => (float[5,6,8,8] y) { y = Conv<pads=[1,1,1,1]>(x, w) }", {"w": (6, 4, 3, 3)}, 13824),
        (
            "(float[N,4,8,8] x) => (float[N,4,4,4] y) { y = Conv<group=4, strides=[2,2]>(x, w) }",
            {"w": (4, 1, 2, 2)},
            256,
        ),
        ("(float[N,7] x) => (float[N,3] y) { y = Gemm(x, w) }", {"w": (7, 3)}, 21),
        ("(float[N,7] x) => (float[N,3] y) { y = Gemm<transB=1>(x, w, b) }", {"w": (3, 7), "b": (3,)}, 21),
        ("(float[1,7] x) => (float[7,3] y) { y = Gemm<transA=1>(x, w) }", {"w": (1, 3)}, 21),
        ("(float[N,7] x) => (float[N,3] y) { y = MatMul(x, w) }", {"w": (7, 3)}, 21),
        ("(float[N,4,8,8] x) => (float[N,4,8,8] y) { y = Mul(x, w) }", {"w": (1, 4, 1, 1)}, 0),
        ("(float[N,4] x) => (float[N,4] y) { y = Relu(x) }", {}, 0),
    ],
)
def test_macs_of_one_operator(tmp_path: Path, graph: str, weights: dict[str, tuple[int, ...]], expected: int) -> None:
    stored = sum(int(np.prod(shape)) for shape in weights.values())
    assert count_onnx(save(tmp_path / "one.onnx", graph, **weights)) == OnnxCost(stored=stored, macs=expected)


def test_a_weight_that_is_a_constant_node_counts_like_an_initialiser(tmp_path: Path) -> None:
    weight = numpy_helper.from_array(np.zeros((6, 4, 3, 3), np.float32))
    images, maps = ([None, 4, 8, 8], [None, 6, 6, 6])
    graph = helper.make_graph(
        [helper.make_node("Constant", [], ["w"], value=weight), helper.make_node("Conv", ["x", "w"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, images)],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, maps)],
    )
    onnx.save_model(helper.make_model(graph), tmp_path / "constant.onnx")
    assert count_onnx(tmp_path / "constant.onnx").macs == 6 * 6 * 6 * 4 * 9


def test_an_operator_that_shape_inference_cannot_follow_counts_nothing(tmp_path: Path) -> None:
    graph = helper.make_graph(
        [
            helper.make_node("Strange", ["x"], ["s"], domain="elsewhere"),
            helper.make_node("MatMul", ["s", "w"], ["y"]),
        ],
        "g",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [None, 7])],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [None, 3])],
        [numpy_helper.from_array(np.zeros((7, 3), np.float32), "w")],
    )
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("elsewhere", 1)]
    onnx.save_model(helper.make_model(graph, opset_imports=opsets), tmp_path / "strange.onnx")
    assert count_onnx(tmp_path / "strange.onnx").macs == 0


@pytest.mark.parametrize(
    ("content", "refusal"),
    [
        (b"text", r"broken\.onnx' is no ONNX file, or a damaged one"),
        (b"\x08\x08\xff", r"broken\.onnx' is no ONNX file, or a damaged one"),
        (None, r"There is no file '.*broken\.onnx'"),
    ],
)
def test_what_is_no_onnx_model_is_refused(tmp_path: Path, content: bytes | None, refusal: str) -> None:
    path = tmp_path / "broken.onnx"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ArtifactError, match=refusal):
        count_onnx(path)


def test_the_size_of_a_file_includes_the_weights_beside_it_and_no_strangers(tmp_path: Path) -> None:
    graph, weights = "(float[N,64] x) => (float[N,64] y) { y = MatMul(x, w) }", {"w": (64, 64)}
    path = save(tmp_path / "net.onnx", graph, **weights)
    (tmp_path / "net.onnx.data").write_bytes(b"left by an earlier export")
    assert file_bytes(path) == path.stat().st_size > 64 * 64 * 4
    outside = tmp_path / "outside"
    outside.mkdir()
    onnx.save_model(onnx.load(path), outside / "net.onnx", save_as_external_data=True, location="w.bin")
    assert file_bytes(outside / "net.onnx") == sum(file.stat().st_size for file in outside.iterdir())
    assert (outside / "w.bin").stat().st_size == 64 * 64 * 4
