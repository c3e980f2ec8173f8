"""Weights stored in half precision: size, values, and what is left in float32."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper

from kdna_deploy.runtimes.ort import OrtSession
from kdna_deploy.targets.onnx.half_storage import store_half
from kdna_deploy.targets.onnx.ledger import optimised_model
from tests.samples import RESNET, exported_sample
from tests.targets.onnx.passes import applied

IMAGES = np.random.default_rng(0).standard_normal((2, 3, 64, 64), dtype=np.float32)


def with_weight(weight: np.ndarray) -> onnx.ModelProto:
    model = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 18]> g (float[n,16,h,w] x) => (float[n,32,h,w] y) { y = Conv(x, w) }'
    )
    model.graph.initializer.append(numpy_helper.from_array(weight, "w"))
    return model


def weights(scale: float = 1.0) -> np.ndarray:
    return (scale * np.random.default_rng(1).standard_normal((32, 16, 1, 1))).astype(np.float32)


@pytest.mark.slow
def test_a_network_in_half_storage_is_half_as_large_and_computes_with_rounded_weights(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    exported_sample(path, RESNET)
    expected = OrtSession(path, threads=1).run(IMAGES)
    model = onnx.load(path)
    before = model.ByteSize()
    stored = applied(store_half, model)
    onnx.checker.check_model(model, full_check=True)
    onnx.save_model(model, path)
    found = OrtSession(path, threads=1).run(IMAGES)
    assert model.ByteSize() < 0.53 * before
    assert stored.overflowing == ()
    assert stored.largest_change <= 2.0**-11
    # Every weight moves by at most 2⁻¹¹ of itself; over 18 layers in a row the errors add up like random ones.
    assert np.abs(found - expected).max() <= 18 * 2.0**-11 * np.abs(expected).max()
    assert not np.array_equal(found, expected)


@pytest.mark.slow
def test_the_runtime_folds_the_casts(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    exported_sample(path, RESNET)
    model = onnx.load(path)
    applied(store_half, model)
    onnx.save_model(model, path)
    assert "Cast" not in {node.op_type for node in optimised_model(path).graph.node}


def test_what_a_half_cannot_hold_stays_in_float32() -> None:
    large = weights()
    large[3, 2] = 70000.0
    model = with_weight(large)
    assert applied(store_half, model).overflowing == ("w",)
    assert model.graph.initializer[0].data_type == TensorProto.FLOAT


def test_numbers_that_lose_bits_are_counted() -> None:
    tiny = weights()
    tiny[:8] = 1e-6
    tiny[8] = 0.0
    stored = applied(store_half, with_weight(tiny))
    assert stored.subnormal == pytest.approx(8 / 32, abs=0.01)
    assert stored.converted == 1


def test_small_tensors_stay_as_they_are() -> None:
    model = with_weight(weights()[:4, :4])
    assert applied(store_half, model).converted == 0
    assert [node.op_type for node in model.graph.node] == ["Conv"]
