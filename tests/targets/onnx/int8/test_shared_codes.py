"""Children that scale the filters of their parent read its int8 codes, and nothing they compute changes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kdna_deploy.targets.onnx.int8.shared_codes import share_codes
from tests.targets.onnx.int8.quantised import (
    Array,
    chain,
    constants,
    dequantised,
    images,
    operators,
    producers,
    quantised,
    run,
)
from tests.targets.onnx.passes import applied

WIDTH = 8  # nine times that is a first kernel large enough for int8
# A factor of filter attention and BatchNorm scale, of either sign.
FACTORS = st.lists(
    st.floats(2.0**-6, 2.0**6, width=32).flatmap(lambda m: st.sampled_from([m, -m])), min_size=WIDTH, max_size=WIDTH
)


def kernel(seed: int, size: int = 1, width: int = WIDTH) -> Array:
    return np.random.default_rng(seed).standard_normal((width, WIDTH, size, size)).astype(np.float32)


def scaled(parent: Array, factors: list[float] | Array) -> Array:
    return (np.asarray(factors, np.float32).reshape(-1, 1, 1, 1) * parent).astype(np.float32)


def biases(*names: str) -> dict[str, Array]:
    random = np.random.default_rng(5)
    return {name: random.standard_normal(WIDTH).astype(np.float32) for name in names}


def copy(model: onnx.ModelProto) -> onnx.ModelProto:
    other = onnx.ModelProto()
    other.CopyFrom(model)
    return other


@pytest.mark.slow
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(factors=FACTORS, others=FACTORS, seed=st.integers(0, 1000), size=st.sampled_from([1, 3]))
def test_kernels_have_the_values_that_codes_of_their_own_would_give(
    tmp_path: Path, factors: list[float], others: list[float], seed: int, size: int
) -> None:
    parent = kernel(seed, size)
    kernels = {"a": parent, "b": scaled(parent, factors), "c": scaled(parent, others)}
    own = quantised(chain(kernels, biases(*kernels)), tmp_path)
    shared = copy(own)
    assert applied(share_codes, shared, kernels).changed == 2
    onnx.checker.check_model(shared, full_check=True)
    before, after = dequantised(own), dequantised(shared)
    for name, values in kernels.items():
        step = np.abs(values).max(axis=(1, 2, 3), keepdims=True) / 127
        difference = np.abs(after[name] - before[name])
        assert (difference <= 1.0001 * step).all()  # one code, where float32 rounds a tie the other way
        assert (difference > 1e-5 * step).mean() < 0.01
        assert np.abs(after[name] - values).max() <= 0.5001 * step.max()
    batch = images(WIDTH, seed=1)
    if all((np.abs(after[name] - before[name]) <= 1e-5 * np.abs(before[name]).max()).all() for name in kernels):
        assert np.array_equal(run(shared, tmp_path, batch), run(own, tmp_path, batch))


@pytest.mark.slow
@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(factors=FACTORS)
def test_biases_keep_their_values_and_their_scale_is_that_of_the_products(tmp_path: Path, factors: list[float]) -> None:
    """ONNX Runtime adds the codes of a bias to products of codes: scale = scale of the input × scale of the kernel."""
    kernels = {"a": kernel(0), "b": scaled(kernel(0), factors)}
    own = quantised(chain(kernels, biases(*kernels)), tmp_path)
    shared = copy(own)
    assert applied(share_codes, shared, kernels).changed == 1
    made, stored, before = producers(shared.graph), constants(shared.graph), constants(own.graph)
    for node in (n for n in shared.graph.node if n.op_type == "Conv"):
        image, weight, bias = (made[name] for name in node.input)
        assert np.allclose(stored[bias.input[1]], stored[image.input[1]] * stored[weight.input[1]], rtol=1e-6, atol=0.0)
        values = stored[bias.input[0]] * stored[bias.input[1]].astype(np.float64)
        assert np.array_equal(values, before[bias.input[0]] * before[bias.input[1]].astype(np.float64))
    assert (np.sign(stored[made["b.weight_DequantizeLinear_Output"].input[1]]) == np.sign(factors)).all()


def test_three_children_of_one_parent_store_one_tensor_of_codes(tmp_path: Path) -> None:
    parent, random = kernel(3), np.random.default_rng(0)
    factors = {name: random.uniform(0.2, 3, WIDTH) * random.choice([-1, 1], WIDTH) for name in "bcd"}
    kernels = {"a": parent, **{name: scaled(parent, m) for name, m in factors.items()}, "e": kernel(4)}
    model = quantised(chain(kernels), tmp_path)
    expected = run(model, tmp_path, images(WIDTH))
    assert applied(share_codes, model, kernels).changed == 3
    codes = [t.name for t in model.graph.initializer if t.data_type == onnx.TensorProto.INT8 and len(t.dims) == 4]
    assert codes == ["a.weight_quantized", "e.weight_quantized"]
    assert operators(model)["Reshape"] == 3
    assert np.array_equal(run(model, tmp_path, images(WIDTH)), expected)
    assert applied(share_codes, model, kernels).changed == 0  # a second time there is nothing left to share


@pytest.mark.parametrize("exact", ["0", "1"])
def test_the_runtime_opens_shared_codes_whichever_kernel_its_cpu_prefers(tmp_path: Path, exact: str) -> None:
    """With "1", ONNX Runtime on x86 rewrites the codes of each kernel in place."""
    kernels = {"a": kernel(3), "b": scaled(kernel(3), np.linspace(-1, 2, WIDTH)), "c": scaled(kernel(3), [2.0] * WIDTH)}
    own = quantised(chain(kernels), tmp_path)
    shared = copy(own)
    assert applied(share_codes, shared, kernels).changed == 2
    results = []
    for model in (own, shared):
        options = onnxruntime.SessionOptions()
        options.add_session_config_entry("session.x64quantprecision", exact)
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        results.append(session.run(None, {"x": images(WIDTH)})[0])
    assert np.array_equal(*results)


def spatial(parent: Array) -> Array:
    modulation = 1 + 0.05 * np.random.default_rng(2).standard_normal((1, 1, *parent.shape[2:]))
    return (parent * modulation).astype(np.float32)


def one_filter_zero(parent: Array) -> Array:
    return scaled(parent, [1.0, 0.0, 2.0, *[1.0] * (WIDTH - 3)])


def one_weight_elsewhere(parent: Array) -> Array:
    changed = scaled(parent, [1.5] * WIDTH)
    changed[2, 3] *= 1 + 2e-6  # four times what rounding of a product to float32 explains
    return changed


def per_input_channel(parent: Array) -> Array:
    return (parent * np.linspace(0.9, 1.1, WIDTH).reshape(1, -1, 1, 1)).astype(np.float32)


@pytest.mark.parametrize("made", [spatial, one_filter_zero, one_weight_elsewhere, per_input_channel])
def test_kernels_that_are_no_multiples_keep_codes_of_their_own(tmp_path: Path, made: object) -> None:
    parent = kernel(3, size=3)
    child = made(parent)  # type: ignore[operator]
    for kernels in ({"a": parent, "b": child}, {"a": child, "b": parent}):
        model = quantised(chain(kernels), tmp_path)
        applied(lambda _: None, model)  # spelled as it is written after a pass
        before = model.SerializeToString()
        assert applied(share_codes, model, kernels).changed == 0
        assert model.SerializeToString() == before


def test_kernels_of_different_shapes_are_not_compared(tmp_path: Path) -> None:
    kernels = {"a": kernel(3, width=2 * WIDTH), "b": np.ones((WIDTH, 2 * WIDTH, 1, 1), np.float32)}
    model = quantised(chain(kernels, {"b": np.ones(WIDTH, np.float32)}), tmp_path)
    assert applied(share_codes, model, kernels).changed == 0


def test_only_quantised_kernels_are_shared(tmp_path: Path) -> None:
    kernels = {"a": kernel(3), "b": scaled(kernel(3), [2.0] * WIDTH)}
    model = chain(kernels)
    assert applied(share_codes, model, kernels).changed == 0
    assert applied(share_codes, quantised(model, tmp_path), {}).changed == 0


def test_a_scale_enlarged_for_a_large_bias_is_not_the_childs_multiple(tmp_path: Path) -> None:
    """The quantiser widens the scale of a nearly dead filter, so that the bias's codes fit 32 bits."""
    factors = np.asarray([1e-9, *[1.0] * (WIDTH - 1)])
    kernels = {"a": kernel(3), "b": scaled(kernel(3), factors)}
    model = quantised(chain(kernels, {"b": np.ones(WIDTH, np.float32)}), tmp_path)
    before = dequantised(model)
    applied(share_codes, model, kernels)
    after = dequantised(model)
    for name in kernels:
        assert np.abs(after[name] - before[name]).max() <= 1e-12
