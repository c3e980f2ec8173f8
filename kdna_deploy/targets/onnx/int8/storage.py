"""Weights stored as int8 codes, computed with in float32.

    w (float32)  →  float32(int32(q)) · s        q = round(w / s) in −127 … 127,  s = max |w| / 127 of each filter

A quarter of the bytes. The runtime folds casts and product when the session starts, so that latency and memory are
those of float32; QDQ nodes it would keep. By way of int32, for OpenVINO takes a cast from int8 in front of a product
for dequantisation, and computes it at every inference where the kernel is 1×1. Of a weight that nodes make of several
constants the largest is stored so: children read their parent's codes, and their modulations stay in float32.

Nothing is clipped: a scale that leaves out the outermost weights for the least squared error was measured on the
samples, and changes the SQNR of their logits by less than half a decibel, up or down (docs/precision.md).

Does not apply to runtimes that would not fold the product, to kernels that codes, scales and nodes would make no
smaller, and to vectors: biases take few bytes, and an error in one is an error of a whole channel.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from kdna_deploy.targets.onnx.constants import add_constant, compute_constant

Array = NDArray[np.float32]

_LARGEST_CODE = 127
_NODE_BYTES = 200  # of a cast, a product and a scale, names included
_LAYERS = {"Conv", "ConvTranspose", "Gemm", "MatMul"}


@dataclass(frozen=True)
class Int8Storage:
    """What became of the weights.

    Attributes:
        values: name of each kernel that is stored as codes → what they stand for.
        largest_change: largest change of a number, as a share of the largest of its kernel.
    """

    values: Mapping[str, Array]
    largest_change: float

    @property
    def changed(self) -> int:
        return len(self.values)


def stored_layers(graph: ir.Graph) -> list[str]:
    """Name of the first layer of each kernel that `store_int8` stores as codes, in the order of the graph."""
    return [layer.name or "" for layer in _kernels(graph).values()]


def store_int8(model: ir.Model, keep_float: Collection[str] = ()) -> Int8Storage:
    """Store the kernels of `model` as codes, but for those of the layers that `keep_float` names."""
    graph, first = model.graph, model.graph[0]
    values, change = {}, 0.0
    for kernel, layer in _kernels(graph).items():
        if layer.name in keep_float:
            continue
        array, name = _array(kernel), kernel.name or ""
        codes, scales = _codes(array, _filter_axis(layer))
        values[name] = codes.astype(np.float32) * scales
        change = max(change, float(np.abs(values[name] - array).max() / (np.abs(array).max() or 1)))
        whole = ir.node("Cast", [add_constant(graph, f"{name}_codes", codes)], {"to": ir.DataType.INT32})
        cast = ir.node("Cast", whole.outputs, {"to": ir.DataType.FLOAT})
        product = ir.node("Mul", [*cast.outputs, add_constant(graph, f"{name}_scale", scales)])
        compute_constant(graph, kernel, product, before=first)
        graph.insert_before(product, [whole, cast])
    return Int8Storage(values, change)


def _codes(weights: Array, axis: int) -> tuple[NDArray[np.int8], Array]:
    """Codes, and the scale of each filter: sizes of 1 but for `axis`."""
    others = tuple(other for other in range(weights.ndim) if other != axis)
    largest = np.abs(weights).max(axis=others, keepdims=True)
    scales = np.maximum(largest / np.float32(_LARGEST_CODE), np.finfo(np.float32).tiny)
    return np.rint(weights / scales).astype(np.int8), scales


def _kernels(graph: ir.Graph) -> dict[ir.Value, ir.Node]:
    """The constants worth storing as codes, each with the first layer whose weight is made of it."""
    found: dict[ir.Value, ir.Node] = {}
    for layer in graph:
        weight = layer.inputs[1] if layer.op_type in _LAYERS else None
        constants = _constants(weight) if weight is not None else []
        largest = max((constant.const_value.size for constant in constants), default=0)  # type: ignore[union-attr]
        for constant in constants:
            if _array(constant).size == largest and _is_worth_it(_array(constant), _filter_axis(layer)):
                found.setdefault(constant, layer)
    return found


def _constants(weight: ir.Value) -> list[ir.Value]:
    """The stored float32 numbers that a weight is made of; none where it depends on an input."""
    found: dict[ir.Value, None] = {}
    stack = [weight]
    while stack:
        value = stack.pop()
        made_by = value.producer()
        if made_by is not None:
            stack += [operand for operand in made_by.inputs if operand is not None]
        elif value.const_value is None or value.is_graph_input():
            return []
        elif value.const_value.dtype == ir.DataType.FLOAT:
            found[value] = None
    return list(found)


def _is_worth_it(weights: Array, axis: int) -> bool:
    return weights.ndim > axis and weights.ndim > 1 and 3 * weights.size > 4 * weights.shape[axis] + _NODE_BYTES


def _filter_axis(layer: ir.Node) -> int:
    """The axis of a layer's weight that counts its outputs; of a constant in another form, some axis will do."""
    if layer.op_type == "Gemm":
        return 0 if layer.attributes.get_int("transB", 0) else 1
    return 0 if layer.op_type == "Conv" else 1


def _array(constant: ir.Value) -> Array:
    assert constant.const_value is not None
    return constant.const_value.numpy()
