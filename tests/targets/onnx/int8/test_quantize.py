"""What is quantised, and under which names."""

from __future__ import annotations

from pathlib import Path

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
