"""Weights as codes of 8 and of 4 bits: their values, which constants become codes, what OpenVINO makes of them.

What ONNX Runtime makes of them in every architecture, and the sizes of files: tests/targets/onnx/test_sharing.py.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import numpy_helper

from kdna_deploy.precision import CODES, Codes
from kdna_deploy.targets.onnx.codes.store import store_codes, stored_layers
from kdna_deploy.targets.onnx.weight_value import weight_value
from tests.targets.onnx.passes import applied

RANDOM = np.random.default_rng(0)


def model(body: str, **constants: np.ndarray) -> onnx.ModelProto:
    made = onnx.parser.parse_model(
        f'<ir_version: 8, opset_import: ["" : 18]> g (float[n,16,8,8] x) => (float[n,c,h,w] y) {{ {body} }}'
    )
    made.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in constants.items())
    return made


def weights(*shape: int) -> np.ndarray:
    return RANDOM.standard_normal(shape, dtype=np.float32)


def stored(made: onnx.ModelProto) -> dict[str, np.ndarray]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in made.graph.initializer}


def test_each_filter_is_rounded_to_half_a_code_of_its_own_scale() -> None:
    kernel = weights(32, 16, 3, 3) * np.logspace(-6, 3, 32, dtype=np.float32).reshape(-1, 1, 1, 1)
    kernel[5] = 0
    made = model("y = Conv(x, w)", w=kernel)
    values = applied(store_codes, made, "int8").values["w"]
    scale = np.abs(kernel).max((1, 2, 3), keepdims=True) / 127
    assert (np.abs(values - kernel) <= (0.5 + 1e-5) * scale).all()  # float32 rounds the quotient, too
    assert stored(made)["w_codes"].dtype == np.int8
    assert np.array_equal(np.abs(stored(made)["w_codes"]).max((1, 2, 3)), np.where(np.arange(32) == 5, 0, 127))


def test_each_block_is_rounded_to_half_a_code_of_its_own_scale() -> None:
    """On the side of its largest number; on the other one there is one code less. Halves round the scale by 2⁻¹¹."""
    kernel = weights(32, 16, 3, 3) * np.logspace(-3, 0, 32, dtype=np.float32).reshape(-1, 1, 1, 1)
    kernel[5] = 0
    made = model("y = Conv(x, w)", w=kernel)
    done = applied(store_codes, made, "int4")
    assert (done.changed, done.wide) == (1, 0)
    blocks, found = kernel.reshape(32, -1, 24), done.values["w"].reshape(32, -1, 24)  # of 144 numbers
    largest = np.take_along_axis(blocks, np.abs(blocks).argmax(-1)[..., None], -1)
    scale = np.abs(largest) / 8
    clipped = np.abs(blocks + largest) < 0.5 * scale
    assert (np.abs(found - blocks) <= np.where(clipped, 1.01, 0.51) * scale).all()
    assert np.allclose(np.where(blocks == largest, found, 0), np.where(blocks == largest, blocks, 0), rtol=2.0**-10)
    codes, scales = stored(made)["w_codes"], stored(made)["w_scale"]
    assert (codes.dtype, scales.dtype) == (np.uint8, np.float16)
    assert (codes.nbytes, scales.nbytes) == (kernel.size // 2, 2 * kernel.size // 24)


@pytest.mark.parametrize(
    ("kernel", "why"),
    [
        (weights(16, 3, 7, 7), "no even part of a filter of 147 numbers"),
        (weights(512, 1, 3, 3), "filters of 9 numbers"),
        (weights(24, 16, 1, 1), "384 numbers in all"),
        (weights(32, 16, 3, 3) * np.float32(1e-7), "scales that halves hardly hold"),
        (weights(32, 16, 3, 3) * np.float32(1e6), "scales that no half holds"),
    ],
)
def test_what_4_bits_do_not_suit_has_codes_of_8(kernel: np.ndarray, why: str) -> None:
    made = model("y = Conv(x, w)", w=kernel)
    done = applied(store_codes, made, "int4")
    assert (done.changed, done.wide) == (1, 1), why
    assert stored(made)["w_codes"].dtype == np.int8


@pytest.mark.parametrize("codes", CODES)
def test_children_read_their_parents_codes_and_keep_their_modulations(codes: Codes) -> None:
    parent, modulation = weights(32, 16, 3, 3), weights(32, 1, 3, 3)
    made = model("a = Conv(x, w) v = Mul(w, m) b = Conv(x, v) y = Add(a, b)", w=parent, m=modulation)
    values = applied(store_codes, made, codes).values
    assert list(values) == ["w"]
    assert np.array_equal(stored(made)["m"], modulation)
    own = {"w_codes", "w_scale", "m"}
    assert set(stored(made)) == own | ({"w_shape", "two_codes"} if codes == "int4" else set())
    assert np.array_equal(weight_value("v", made), values["w"] * modulation)


LAYERS = [
    ("y = Conv(x, w)", (40, 16, 2, 2), (40, 1, 1, 1)),
    ("y = ConvTranspose(x, w)", (16, 40, 2, 2), (1, 40, 1, 1)),
    ("y = MatMul(x, w)", (64, 40), (1, 40)),
    ("f = GlobalAveragePool(x) v = Flatten(f) y = Gemm(v, w)", (64, 40), (1, 40)),
    ("f = GlobalAveragePool(x) v = Flatten(f) y = Gemm<transB = 1>(v, w)", (40, 64), (40, 1)),
]


@pytest.mark.parametrize(("body", "shape", "filters"), LAYERS)
def test_a_scale_belongs_to_an_output(body: str, shape: tuple[int, ...], filters: tuple[int, ...]) -> None:
    made = model(body, w=weights(*shape))
    applied(store_codes, made, "int8")
    assert stored(made)["w_scale"].shape == filters


@pytest.mark.parametrize(("body", "shape", "filters"), LAYERS)
def test_blocks_lie_in_filters_and_nodes_compute_what_the_codes_stand_for(
    body: str, shape: tuple[int, ...], filters: tuple[int, ...]
) -> None:
    """Filters of very different sizes have scales of their own, and the numbers are where they were, bit for bit."""
    kernel = weights(*shape) * np.logspace(-4, 0, 40, dtype=np.float32).reshape(filters)
    made = model(body, w=kernel)
    values = applied(store_codes, made, "int4").values["w"]
    largest = np.abs(kernel).max(tuple(i for i, size in enumerate(filters) if size == 1), keepdims=True)
    assert (np.abs(values - kernel) <= 1.01 / 8 * largest).all()
    assert np.array_equal(weight_value("w", made), values)


@pytest.mark.parametrize("codes", CODES)
@pytest.mark.parametrize(
    ("body", "constants"),
    [
        ("y = Conv(x, w)", {"w": weights(4, 16, 1, 1)}),  # its nodes would take more
        ("y = Mul(x, w)", {"w": weights(16, 8, 8)}),  # no layer's weight
        ("v = Mul(x, w) y = MatMul(x, v)", {"w": weights(16, 8, 8)}),  # one that depends on the input
    ],
)
def test_what_is_small_or_no_weight_stays_as_it_is(body: str, constants: dict[str, np.ndarray], codes: Codes) -> None:
    made = model(body, **constants)
    assert applied(store_codes, made, codes).changed == 0
    assert list(stored(made)) == ["w"]


def test_layers_can_be_left_in_float32() -> None:
    made = model("a = Conv(x, w) y = Conv(a, v)", w=weights(16, 16, 3, 3), v=weights(16, 16, 3, 3))
    for node, name in zip(made.graph.node, ("first", "second"), strict=True):
        node.name = name
    assert stored_layers(ir.from_proto(made).graph) == ["first", "second"]
    assert list(applied(store_codes, made, "int8", ["first"]).values) == ["v"]


@pytest.mark.slow
@pytest.mark.parametrize("codes", CODES)
def test_openvino_folds_the_codes_of_a_1x1_kernel_too(tmp_path: Path, codes: Codes) -> None:
    openvino = pytest.importorskip("openvino")
    made = model("y = Conv(x, w)", w=weights(128, 16, 1, 1))
    applied(store_codes, made, codes)
    onnx.save(made, tmp_path / "net.onnx")
    running = openvino.Core().compile_model(str(tmp_path / "net.onnx"), "CPU").get_runtime_model()
    kinds = {node.get_rt_info()["layerType"].value for node in running.get_ops()}
    assert "Convolution" in kinds
    assert not kinds & {"Convert", "Eltwise", "Gather", "Reshape", "Subgraph"}
