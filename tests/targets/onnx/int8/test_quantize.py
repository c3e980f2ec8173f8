"""What is quantised, and under which names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from tests.targets.onnx.int8.quantised import chain, images, quantised, run

CHANNELS = 8


@pytest.mark.parametrize("name", ["a.y_scale", "a.y_zero_point", "a.weight_quantized"])
def test_constants_whose_names_the_quantiser_gives_too_stay_what_they_are(name: str, tmp_path: Path) -> None:
    """As the scale of an assembled kernel has, which is named after the layer that takes it."""
    random = np.random.default_rng(0)
    made = chain({layer: random.standard_normal((CHANNELS, CHANNELS, 1, 1)).astype(np.float32) for layer in "ab"})
    shift = onnx.numpy_helper.from_array(random.standard_normal((CHANNELS, 1, 1)).astype(np.float32), name)
    made.graph.initializer.append(shift)
    made.graph.node.insert(1, onnx.helper.make_node("Add", ["a.y", shift.name], ["shifted"], name="add"))
    made.graph.node[2].input[0] = "shifted"
    expected, given = run(made, tmp_path, images(CHANNELS)), run(quantised(made, tmp_path), tmp_path, images(CHANNELS))
    assert np.abs(given - expected).max() < 0.05 * np.abs(expected).max()


@pytest.mark.parametrize(("target", "largest"), [("cpu", 127), ("openvino", 64), ("tensorrt", 127)])
def test_weights_for_openvino_leave_room_for_sums_of_two_products(target: Any, largest: int, tmp_path: Path) -> None:
    """255 · 64 · 2 fits sixteen bits, in which OpenVINO adds where a processor has no VNNI; 255 · 127 · 2 does not."""
    random = np.random.default_rng(0)
    made = chain({layer: random.standard_normal((CHANNELS, CHANNELS, 3, 3)).astype(np.float32) for layer in "ab"})
    constants = [onnx.numpy_helper.to_array(one) for one in quantised(made, tmp_path, target).graph.initializer]
    kernels = [np.abs(one.astype(int)).max() for one in constants if one.ndim == 4]
    assert len(kernels) == 2 and max(kernels) == largest
