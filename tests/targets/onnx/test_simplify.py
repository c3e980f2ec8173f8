"""onnxsim is kept where it helps and dropped, with a sentence, where it does not."""

from __future__ import annotations

import sys

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper

from kdna_deploy.targets.onnx.simplify import simplify
from tests.targets.onnx.passes import applied

CHANNELS = 256


def parse(graph: str) -> onnx.ModelProto:
    model = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 18]> g {graph}')
    onnx.checker.check_model(model)
    return model


def with_batch_norm() -> onnx.ModelProto:
    """A convolution with a BatchNorm behind it, which onnxsim folds."""
    model = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 18]> g (float[N,1,4,4] x) => (float[N,256,4,4] y) '
        "{ c = Conv(x, w) y = BatchNormalization(c, scale, bias, mean, var) }"
    )
    random = np.random.default_rng(0)
    shapes = {"w": (CHANNELS, 1, 1, 1), **dict.fromkeys(("scale", "bias", "mean", "var"), (CHANNELS,))}
    for name, shape in shapes.items():
        model.graph.initializer.append(
            numpy_helper.from_array(random.uniform(0.5, 1.5, shape).astype(np.float32), name)
        )
    onnx.checker.check_model(model)
    return model


def written(model: onnx.ModelProto) -> bytes:
    """The bytes of `model` as it is spelled after any pass."""
    applied(lambda _: None, model)
    return model.SerializeToString()


def run(model: onnx.ModelProto, images: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": images})[0]


def test_a_smaller_model_is_kept_and_computes_the_same() -> None:
    model = with_batch_norm()
    images = np.random.default_rng(1).normal(size=(2, 1, 4, 4)).astype(np.float32)
    before = run(model, images)
    result = applied(simplify, model)
    assert result.changed == 1
    assert [node.op_type for node in model.graph.node] == ["Conv"]
    assert result.note == "onnxsim removed 1 of 2 nodes"
    assert np.abs(run(model, images) - before).max() < 1e-5


def test_a_model_that_folding_would_blow_up_is_left_as_it_was() -> None:
    model = parse(
        "(float[1] x) => (float[1000,1000] y) <float[1] c = {2.0}, int64[2] s = {1000, 1000}> "
        "{ e = Expand(c, s) y = Add(e, x) }"
    )
    before = written(model)
    result = applied(simplify, model)
    assert model.SerializeToString() == before
    assert result.note.startswith(f"not simplified: onnxsim would grow it from {len(before)} to 4,0")


def test_a_model_with_nothing_to_remove_is_left_as_it_was() -> None:
    model = with_batch_norm()
    applied(simplify, model)
    before = model.SerializeToString()
    result = applied(simplify, model)
    assert (result.changed, model.SerializeToString()) == (0, before)
    assert result.note == "nothing to simplify"


def test_a_model_that_onnxsim_cannot_read_is_left_as_it_was() -> None:
    model = parse("(float[1] x) => (float[1] y) { y = Relu(x) }")
    model.graph.node[0].op_type = "Nonsense"
    before = written(model)
    result = applied(simplify, model)
    assert result.changed == 0
    assert model.SerializeToString() == before
    assert result.note.startswith("not simplified: onnxsim failed (")
    assert "\n" not in result.note


def test_without_onnxsim_the_model_is_left_as_it_was_and_the_note_says_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "onnxsim", None)
    model = with_batch_norm()
    before = written(model)
    result = applied(simplify, model)
    assert result.changed == 0
    assert model.SerializeToString() == before
    assert result.note == "not simplified: onnxsim is not installed (pip install onnxsim)"
