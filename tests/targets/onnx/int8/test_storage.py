"""Weights as int8 codes: their values, which constants become codes, and what runtimes make of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import numpy_helper

from kdna_deploy.targets.onnx.convert import DEFAULT_OPSET, to_onnx
from kdna_deploy.targets.onnx.int8.compact import compact
from kdna_deploy.targets.onnx.int8.storage import store_int8, stored_layers
from kdna_deploy.targets.onnx.ledger import optimised_model
from kdna_deploy.targets.source import Request, open_fused_source
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


@pytest.mark.slow
def test_each_filter_is_rounded_to_half_a_code_of_its_own_scale() -> None:
    kernel = weights(32, 16, 3, 3) * np.logspace(-6, 3, 32, dtype=np.float32).reshape(-1, 1, 1, 1)
    kernel[5] = 0
    made = model("y = Conv(x, w)", w=kernel)
    values = applied(store_int8, made).values["w"]
    scale = np.abs(kernel).max((1, 2, 3), keepdims=True) / 127
    assert (np.abs(values - kernel) <= (0.5 + 1e-5) * scale).all()  # float32 rounds the quotient, too
    assert stored(made)["w_codes"].dtype == np.int8
    assert np.array_equal(np.abs(stored(made)["w_codes"]).max((1, 2, 3)), np.where(np.arange(32) == 5, 0, 127))


@pytest.mark.slow
def test_children_read_their_parents_codes_and_keep_their_modulations() -> None:
    parent, modulation = weights(32, 16, 3, 3), weights(32, 1, 3, 3)
    made = model("a = Conv(x, w) v = Mul(w, m) b = Conv(x, v) y = Add(a, b)", w=parent, m=modulation)
    assert list(applied(store_int8, made).values) == ["w"]
    assert np.array_equal(stored(made)["m"], modulation)
    assert set(stored(made)) == {"w_codes", "w_scale", "m"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("body", "shape", "filters"),
    [
        ("y = Conv(x, w)", (40, 16, 1, 1), (40, 1, 1, 1)),
        ("y = ConvTranspose(x, w)", (16, 40, 2, 2), (1, 40, 1, 1)),
        ("y = MatMul(x, w)", (8, 40), (1, 40)),
        ("f = GlobalAveragePool(x) v = Flatten(f) y = Gemm(v, w)", (16, 40), (1, 40)),
        ("f = GlobalAveragePool(x) v = Flatten(f) y = Gemm<transB = 1>(v, w)", (40, 16), (40, 1)),
    ],
)
def test_a_scale_belongs_to_an_output(body: str, shape: tuple[int, ...], filters: tuple[int, ...]) -> None:
    made = model(body, w=weights(*shape))
    applied(store_int8, made)
    assert stored(made)["w_scale"].shape == filters


@pytest.mark.slow
@pytest.mark.parametrize(
    ("body", "constants"),
    [
        ("y = Conv(x, w)", {"w": weights(4, 16, 1, 1)}),  # its nodes would take more
        ("y = Mul(x, w)", {"w": weights(16, 8, 8)}),  # no layer's weight
        ("v = Mul(x, w) y = MatMul(x, v)", {"w": weights(16, 8, 8)}),  # one that depends on the input
    ],
)
def test_what_is_small_or_no_weight_stays_as_it_is(body: str, constants: dict[str, np.ndarray]) -> None:
    made = model(body, **constants)
    assert applied(store_int8, made).changed == 0
    assert list(stored(made)) == ["w"]


@pytest.mark.slow
def test_layers_can_be_left_in_float32() -> None:
    made = model("a = Conv(x, w) y = Conv(a, v)", w=weights(16, 16, 3, 3), v=weights(16, 16, 3, 3))
    for node, name in zip(made.graph.node, ("first", "second"), strict=True):
        node.name = name
    assert stored_layers(ir.from_proto(made).graph) == ["first", "second"]
    assert list(applied(store_int8, made, ["first"]).values) == ["v"]


@pytest.mark.slow
def test_openvino_folds_the_codes_of_a_1x1_kernel_too(tmp_path: Path) -> None:
    openvino = pytest.importorskip("openvino")
    made = model("y = Conv(x, w)", w=weights(64, 16, 1, 1))
    applied(store_int8, made)
    onnx.save(made, tmp_path / "net.onnx")
    running = openvino.Core().compile_model(str(tmp_path / "net.onnx"), "CPU").get_runtime_model()
    kinds = {node.get_rt_info()["layerType"].value for node in running.get_ops()}
    assert "Convolution" in kinds
    assert not kinds & {"Convert", "Subgraph", "Eltwise"}


@pytest.mark.slow
# The limit of the smallest network's file leaves 8 kB beside codes, scales, modulations and biases.
def test_with_shared_children_a_file_takes_a_quarter_of_the_trained_parameters_and_onnx_runtime_folds_it(
    arch: str, published: Callable[[str], Path], tmp_path: Path
) -> None:
    shared = open_fused_source(published(arch), Request(size=(64, 64), children="share"))
    made = to_onnx(shared.graph, DEFAULT_OPSET, None, "cpu")
    before = _operators(ir.to_proto(made), tmp_path / "float.onnx")
    store_int8(made)
    compact(made)
    assert _operators(ir.to_proto(made), tmp_path / "int8.onnx") == before
    provenance = len(shared.provenance.to_json())
    assert (tmp_path / "int8.onnx").stat().st_size + provenance <= 0.27 * 4 * shared.provenance.parameters


def _operators(made: onnx.ModelProto, path: Path) -> list[str]:
    onnx.save(made, path)
    return sorted(node.op_type for node in optimised_model(path).graph.node)
