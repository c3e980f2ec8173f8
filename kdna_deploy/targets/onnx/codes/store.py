"""Weights stored as codes of 8 or 4 bits, computed with in float32.

    w (float32)  →  q · s        codes q and scales s: `coding`

A quarter of the bytes, or a seventh. The runtime folds the product when the session starts, so that latency and memory
are those of float32; QDQ nodes it would keep. Of a weight that nodes make of several constants the largest is stored
so: children read their parent's codes, and their modulations stay in float32.

With int4, kernels that 4 bits do not suit have codes of 8 (`coding`).

Does not apply to runtimes that would not fold the product, to kernels that codes, scales and nodes would make no
smaller, and to vectors: biases take few bytes, and an error in one is an error of a whole channel.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from kdna_deploy.precision import Codes
from kdna_deploy.targets.onnx.codes.coding import Array, block_of, int4, int8
from kdna_deploy.targets.onnx.constants import compute_constant

_NODE_BYTES = 200  # of a cast, a product and a scale, names included
_LAYERS = {"Conv", "ConvTranspose", "Gemm", "MatMul"}


@dataclass(frozen=True)
class StoredCodes:
    """What became of the weights.

    Attributes:
        values: name of each kernel that is stored as codes → what they stand for.
        largest_change: largest change of a number, as a share of the largest of its kernel.
        wide: how many of the kernels have codes of 8 bits.
    """

    values: Mapping[str, Array]
    largest_change: float
    wide: int

    @property
    def changed(self) -> int:
        return len(self.values)


def stored_layers(graph: ir.Graph) -> list[str]:
    """Name of the first layer of each kernel that `store_codes` stores as codes, in the order of the graph."""
    return [layer.name or "" for layer in _kernels(graph).values()]


def store_codes(model: ir.Model, codes: Codes, keep_float: Collection[str] = ()) -> StoredCodes:
    """Store the kernels of `model` as `codes`, but for those of the layers that `keep_float` names."""
    graph, first = model.graph, model.graph[0]
    values, change, wide = {}, 0.0, 0
    for kernel, layer in _kernels(graph).items():
        if layer.name in keep_float:
            continue
        array, name, axis = _array(kernel), kernel.name or "", _filter_axis(layer)
        block = block_of(array, axis) if codes == "int4" else None
        coded = int4(graph, name, array, axis, block) if block else int8(graph, name, array, axis)
        values[name] = coded.values
        change = max(change, float(np.abs(coded.values - array).max() / (np.abs(array).max() or 1)))
        wide += block is None
        *before, last = coded.nodes
        compute_constant(graph, kernel, last, before=first)
        graph.insert_before(last, before)
    return StoredCodes(values, change, wide)


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
