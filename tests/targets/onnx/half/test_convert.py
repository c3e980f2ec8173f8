"""Graphs in half precision: valid, of the precision that is asked for, and without a cast too many."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from kdna_deploy.targets.onnx.half.convert import to_half
from tests.targets.onnx.passes import applied

Array = np.ndarray
FLOAT, HALF = TensorProto.FLOAT, TensorProto.FLOAT16
CHANNELS, EDGE = 4, 6


def build(choices: list[tuple[str, int, int]], outputs: int) -> onnx.ModelProto:
    """A graph of one node per choice (operator, and which earlier values it reads); the last values are its outputs."""
    random = np.random.default_rng(0)
    maps, nodes, stored = ["x"], [], []
    pooled: list[str] = []
    for number, (operator, first, second) in enumerate(choices):
        name, value = f"{operator}{number}", f"v{number}"
        source = maps[first % len(maps)]
        inputs = [source]
        if operator == "Conv":
            kernel = random.standard_normal((CHANNELS, CHANNELS, 1, 1)) / CHANNELS
            stored.append(numpy_helper.from_array(kernel.astype(np.float32), f"{name}.w"))
            inputs.append(f"{name}.w")
        elif operator == "Add":
            inputs.append(maps[second % len(maps)])
        elif operator == "Mul":  # by a gate, where there is one
            inputs.append(pooled[second % len(pooled)] if pooled else source)
        nodes.append(helper.make_node(operator, inputs, [value], name=name))
        (pooled if operator == "GlobalAveragePool" else maps).append(value)
    ends = [node.output[0] for node in nodes][-outputs:]
    shape = ["n", CHANNELS, EDGE, EDGE]
    graph = helper.make_graph(
        nodes,
        "random",
        [helper.make_tensor_value_info("x", FLOAT, shape)],
        [helper.make_tensor_value_info(e, FLOAT, shape[:2] + ([1, 1] if e in pooled else shape[2:])) for e in ends],
        stored,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


NODES = st.lists(
    st.tuples(
        st.sampled_from(["Conv", "Conv", "Relu", "Add", "Mul", "GlobalAveragePool"]),
        st.integers(0, 9),
        st.integers(0, 9),
    ),
    min_size=1,
    max_size=9,
)


def types(model: onnx.ModelProto) -> dict[str, int]:
    """The type of every value, by strict inference."""
    inferred = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True).graph
    found = {v.name: v.type.tensor_type.elem_type for v in (*inferred.value_info, *inferred.input, *inferred.output)}
    return found | {tensor.name: tensor.data_type for tensor in inferred.initializer}


def check(model: onnx.ModelProto, keep_float: set[str], half_io: bool) -> None:
    """Every node has its precision, and each value is cast at most once, and only where precisions meet."""
    onnx.checker.check_model(model, full_check=True)
    typed = types(model)
    made = {output: node for node in model.graph.node for output in node.output}
    assert len(made) == sum(len(node.output) for node in model.graph.node)
    casts = [node for node in model.graph.node if node.op_type == "Cast"]
    for node in model.graph.node:
        if node.op_type != "Cast":
            wanted = FLOAT if node.name in keep_float else HALF
            assert {typed[name] for name in (*node.input, *node.output)} <= {wanted, TensorProto.INT64}
    ends = Counter(typed[value.name] for value in (*model.graph.input, *model.graph.output))
    assert set(ends) == {HALF if half_io else FLOAT}
    assert max(Counter((cast.input[0], typed[cast.output[0]]) for cast in casts).values(), default=1) == 1
    for cast in casts:
        assert typed[cast.input[0]] != typed[cast.output[0]]
        assert cast.input[0] not in made or made[cast.input[0]].op_type != "Cast"  # no cast of a cast
    read = {name for node in model.graph.node for name in node.input} | {value.name for value in model.graph.output}
    assert {tensor.name for tensor in model.graph.initializer} <= read
    assert {cast.output[0] for cast in casts} <= read


def halved(model: onnx.ModelProto, keep_float: Collection[str] = (), half_io: bool = False) -> onnx.ModelProto:
    """A copy of `model` in half precision, in which there is nothing left to do."""
    half = onnx.ModelProto()
    half.CopyFrom(model)
    applied(to_half, half, keep_float, half_io)
    assert applied(to_half, half, keep_float, half_io).changed == 0
    return half


def run(model: onnx.ModelProto, images: Array) -> list[Array]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    taken = images.astype(np.float16 if session.get_inputs()[0].type == "tensor(float16)" else np.float32)
    return [np.asarray(found, np.float64) for found in session.run(None, {session.get_inputs()[0].name: taken})]


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(choices=NODES, keep=st.lists(st.booleans(), min_size=9, max_size=9), outputs=st.integers(1, 3), io=st.booleans())
def test_any_graph_stays_valid_with_any_of_its_nodes_in_float32(
    choices: list[tuple[str, int, int]], keep: list[bool], outputs: int, io: bool
) -> None:
    model = onnx.shape_inference.infer_shapes(build(choices, outputs))
    keep_float = {node.name for node, kept in zip(model.graph.node, keep, strict=False) if kept}
    half = halved(model, keep_float, half_io=io)
    check(half, keep_float, io)
    images = np.random.default_rng(1).standard_normal((2, CHANNELS, EDGE, EDGE)).astype(np.float32)
    for found, expected in zip(run(half, images), run(model, images), strict=True):
        assert found.shape == expected.shape
        assume(np.abs(expected).max() < np.finfo(np.float16).max)  # squares of squares
        # Nine nodes round at most once each, and add up to twice (Add) or square (Mul) what they were given.
        assert np.abs(found - expected).max() <= 2.0**-11 * 64 * max(1.0, np.abs(expected).max())


def parse(body: str, outputs: str = "float[1,4,6,6] y", more: str = "") -> onnx.ModelProto:
    model = onnx.parser.parse_model(
        f'<ir_version: 8, opset_import: ["" : 18]> g (float[1,4,6,6] x) => ({outputs}) {more} {{ {body} }}'
    )
    for node in model.graph.node:
        node.name = node.output[0]
    return model


@pytest.mark.parametrize(
    "keep_float",
    [set(), {"y"}, {"z"}, {"y", "z"}],
    ids=lambda kept: " and ".join(sorted(kept)) if isinstance(kept, set) else None,
)
@pytest.mark.parametrize("half_io", [False, True])
def test_an_output_that_another_node_reads_too(keep_float: set[str], half_io: bool) -> None:
    model = parse("y = Relu(x) z = Neg(y)", "float[1,4,6,6] y, float[1,4,6,6] z")
    check(halved(model, keep_float, half_io), keep_float, half_io)


def test_neighbours_in_float32_have_no_cast_between_them_and_a_value_is_cast_once_for_all_its_readers() -> None:
    model = parse("a = Relu(x) b = Neg(a) c = Abs(a) d = Neg(a) y = Sum(b, c, d)")
    half = halved(model, {"b", "c", "y"})
    check(half, {"b", "c", "y"}, False)
    casts = [(node.input[0], node.output[0]) for node in half.graph.node if node.op_type == "Cast"]
    assert casts == [("x", "x_half"), ("a", "a_float"), ("d", "d_float")]
    assert [node.name for node in half.graph.node if node.op_type == "Cast"] == [
        "x_half/Cast",
        "a_float/Cast",
        "d_float/Cast",
    ]


def test_shapes_stay_integers() -> None:
    model = parse("y = Reshape(x, shape)", "float[1,144] y", "<int64[2] shape = {1, -1}>")
    half = halved(model)
    check(half, set(), False)
    assert types(half)["shape"] == TensorProto.INT64


def test_a_weight_that_both_precisions_read_is_stored_in_both() -> None:
    model = parse("a = Mul(x, w) y = Mul(a, w)", more="<float w = {0.5}>")
    half = halved(model, {"y"})
    check(half, {"y"}, False)
    assert {tensor.name: tensor.data_type for tensor in half.graph.initializer} == {"w": FLOAT, "w_half": HALF}


def test_what_is_float32_by_definition_stays_so() -> None:
    """The scales of a `Resize`, and what a `Constant` or a `Cast` of integers makes."""
    model = parse(
        'r = Resize <mode = "nearest"> (x, , scales) c = Constant <value = float {2.0}> () s = Shape(x) '
        "f = Cast <to = 1> (s) m = ReduceMax <keepdims = 0> (f) a = Mul(r, c) y = Div(a, m)",
        "float[1,4,12,12] y",
        "<float[4] scales = {1.0, 1.0, 2.0, 2.0}>",
    )
    half = halved(model)
    onnx.checker.check_model(half, full_check=True)
    images = np.random.default_rng(1).standard_normal((1, 4, 6, 6)).astype(np.float32)
    (found,), (expected,) = run(half, images), run(model, images)
    assert np.abs(found - expected).max() <= 4 * 2.0**-11 * np.abs(expected).max()


@pytest.mark.parametrize("half_io", [False, True])
def test_kernels_are_rounded_to_half_and_casts_stand_at_the_ends_alone(half_io: bool) -> None:
    kernel = np.random.default_rng(0).standard_normal((64, 4, 3, 3)).astype(np.float32)
    model = parse("y = Conv <pads = [1, 1, 1, 1]> (x, w)", "float[1,64,6,6] y")
    model.graph.initializer.append(numpy_helper.from_array(kernel, "w"))
    half = halved(model, half_io=half_io)
    (tensor,) = half.graph.initializer
    assert (tensor.data_type, len(tensor.raw_data)) == (HALF, 2 * kernel.size)
    assert np.array_equal(numpy_helper.to_array(tensor), kernel.astype(np.float16))
    assert [n.op_type for n in half.graph.node] == (["Conv"] if half_io else ["Cast", "Conv", "Cast"])
