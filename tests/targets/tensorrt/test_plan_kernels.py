"""Kernels looked for in bytes: found in whatever layout, never where they are not, copies told from strangers."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from kdna_deploy.targets.tensorrt.plan_kernels import plan_kernels

RANDOM = np.random.default_rng(1)


def model(*kernels: np.ndarray, cast: bool = False) -> onnx.ModelProto:
    """A chain of convolutions with these kernels."""
    nodes, tensors = [], []
    for index, kernel in enumerate(kernels):
        tensors.append(numpy_helper.from_array(kernel, f"w{index}"))
        weight = f"w{index}"
        if cast:
            nodes.append(helper.make_node("Cast", [weight], [f"c{index}"], to=TensorProto.FLOAT))
            weight = f"c{index}"
        nodes.append(helper.make_node("Conv", [f"x{index}", weight], [f"x{index + 1}"], f"conv{index}"))
    return helper.make_model(helper.make_graph(nodes, "chain", [], [], tensors))


def kernel(*shape: int) -> np.ndarray:
    return RANDOM.standard_normal(shape, dtype=np.float32)


def modulated(parent: np.ndarray) -> np.ndarray:
    return (parent * (1 + 0.2 * kernel(len(parent), 1, *parent.shape[2:]))).astype(parent.dtype)


def plan(*parts: np.ndarray) -> bytes:
    """Weights between other bytes, aligned as plans align them."""
    chunks = [b"header, of no length in particular"]
    for part in parts:
        chunks.append(b"\0" * (-sum(map(len, chunks)) % 256))
        chunks.append(np.ascontiguousarray(part).tobytes())
    return b"".join(chunks) + b"end"


@pytest.mark.parametrize("layout", ["stored", "channels last", "padded", "float32"])
def test_a_kernel_is_found_in_any_layout(layout: str) -> None:
    weight = kernel(16, 10, 3, 3).astype(np.float16)
    last = np.moveaxis(weight, 1, -1)
    stored = {
        "stored": weight,
        "channels last": last,
        "padded": np.pad(last, [(0, 0)] * 3 + [(0, 2)]),
        "float32": last.astype(np.float32),
    }[layout]
    found = plan_kernels(model(weight), plan(kernel(100), stored, kernel(100)))
    assert (found.convolutions, found.distinct, found.found, found.not_found) == (1, 1, 1, ())
    assert found.bytes == stored.nbytes


def test_a_kernel_that_differs_in_one_number_is_not_found() -> None:
    weight = kernel(8, 8, 3, 3)
    other = weight.copy()
    other.flat[-1] += 1
    found = plan_kernels(model(weight), plan(other))
    assert (found.found, found.not_found, found.bytes) == (0, ("w0",), 0)


def test_a_kernel_stored_twice_takes_twice_the_bytes() -> None:
    weight = kernel(8, 8, 3, 3)
    assert plan_kernels(model(weight), plan(weight, weight)).bytes == 2 * weight.nbytes


def test_convolutions_with_the_same_kernel_have_one() -> None:
    weight = kernel(8, 8, 3, 3)
    found = plan_kernels(model(weight, weight), plan(weight))
    assert (found.convolutions, found.distinct, found.found, found.duplicated) == (2, 1, 1, ())


@pytest.mark.parametrize("precision", ["float32", "float16", "int8"])
def test_modulated_copies_of_a_parent_are_told_from_other_kernels(precision: str) -> None:
    parent, stranger = kernel(32, 32, 3, 3), kernel(32, 32, 3, 3)
    weights = [parent, modulated(parent), stranger, modulated(parent)]
    if precision == "int8":
        weights = [np.round(w / np.abs(w).max((1, 2, 3), keepdims=True) * 127).astype(np.int8) for w in weights]
    else:
        weights = [w.astype(precision) for w in weights]
    found = plan_kernels(model(*weights), plan(*weights))
    assert found.duplicated == (("w0", "w1", "w3"),)
    assert found.duplicated_bytes == 2 * weights[0].nbytes


def test_a_change_along_the_input_channels_is_no_modulation() -> None:
    parent = kernel(16, 16, 3, 3)
    other = parent * np.sign(kernel(1, 16, 1, 1))
    assert plan_kernels(model(parent, other), plan(parent, other)).duplicated == ()


def test_depthwise_kernels_are_left_undecided() -> None:
    parent = kernel(32, 1, 3, 3)
    found = plan_kernels(model(parent, modulated(parent)), plan(parent))
    assert (found.found, found.undecided, found.duplicated) == (1, 1, ())


def test_kernels_stored_in_half_precision_are_looked_for_as_cast() -> None:
    weight = kernel(8, 8, 1, 1).astype(np.float16)
    assert plan_kernels(model(weight, cast=True), plan(weight.astype(np.float32))).found == 1
    assert plan_kernels(model(weight, cast=True), plan(weight)).found == 0


def test_kernels_that_chance_could_match_are_not_looked_for() -> None:
    weight = kernel(2, 2, 1, 1)
    assert plan_kernels(model(weight), plan(weight)).not_found == ("w0",)
