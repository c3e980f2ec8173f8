"""Weights stored as codes of 8 or 4 bits, computed with in float32.

    w (float32)  →  q · s        codes q and scales s: `coding`

A quarter of the bytes, or a seventh. The runtime folds the product when the session starts, so that latency and memory
are those of float32; QDQ nodes it would keep. Of a weight that nodes make of several constants the largest is stored
so: children read their parent's codes, and their modulations stay in float32. So is a bank, or warehouse, that kernels
for each image are put together of, once for all layers that read it.

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
from kdna_deploy.targets.onnx.codes.coding import Array, Coded, bank_block, block_of, int4, int8, int8_bank
from kdna_deploy.targets.onnx.computed_kernels import banks, constants_of
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
    return [use.layer.name or "" for use in _kernels(graph).values()]


def store_codes(model: ir.Model, codes: Codes, keep_float: Collection[str] = ()) -> StoredCodes:
    """Store the kernels of `model` as `codes`, but for those of the layers that `keep_float` names."""
    graph, first = model.graph, model.graph[0]
    values, change, wide = {}, 0.0, 0
    for kernel, use in _kernels(graph).items():
        if use.layer.name in keep_float:
            continue
        array, name = _array(kernel), kernel.name or ""
        coded, bits = _coded(graph, name, array, use, codes)
        values[name] = coded.values
        change = max(change, float(np.abs(coded.values - array).max() / (np.abs(array).max() or 1)))
        wide += bits == 8
        *before, last = coded.nodes
        compute_constant(graph, kernel, last, before=first)
        graph.insert_before(last, before)
    return StoredCodes(values, change, wide)


@dataclass(frozen=True)
class _Use:
    """The first layer that a kernel serves, and its axis of filters; None for a bank, which has kernels in rows."""

    layer: ir.Node
    axis: int | None


def _coded(graph: ir.Graph, name: str, array: Array, use: _Use, codes: Codes) -> tuple[Coded, int]:
    """A kernel as codes, and how many bits they have."""
    axis = use.axis or 0
    block = block_of(array, axis) if codes == "int4" else None
    if block:
        return int4(graph, name, array, axis, block), 4
    return (int8_bank(graph, name, array) if use.axis is None else int8(graph, name, array, axis)), 8


def _kernels(graph: ir.Graph) -> dict[ir.Value, _Use]:
    """The constants worth storing as codes, each with the first layer whose weight is made of it."""
    mixed = {bank: node for bank, node in banks(graph).items() if node.op_type not in ("Gemm", "Conv")}
    found: dict[ir.Value, _Use] = {}
    for layer in graph:
        found.update({bank: _Use(node, None) for bank, node in mixed.items() if node is layer and _is_worth_it(bank)})
        weight = layer.inputs[1] if layer.op_type in _LAYERS else None
        read = constants_of(weight) if weight is not None else []
        constants = [constant for constant in read if _is_float(constant) and constant not in mixed]
        largest = max((_array(constant).size for constant in constants), default=0)
        for constant in constants:
            if _array(constant).size == largest and _is_worth_it(constant, _filter_axis(layer)):
                found.setdefault(constant, _Use(layer, _filter_axis(layer)))
    return found


def _is_float(constant: ir.Value) -> bool:
    return constant.const_value is not None and constant.const_value.dtype == ir.DataType.FLOAT


def _is_worth_it(constant: ir.Value, axis: int | None = None) -> bool:
    """Whether codes, with a scale for each index of `axis`, or block of a bank, take less room."""
    if not _is_float(constant) or _array(constant).ndim <= max(axis or 0, 1):
        return False
    weights = _array(constant)
    scales = weights.size // bank_block(weights) if axis is None else weights.shape[axis]
    return bool(3 * weights.size > 4 * scales + _NODE_BYTES)


def _filter_axis(layer: ir.Node) -> int:
    """The axis of a layer's weight that counts its outputs; of a constant in another form, some axis will do."""
    if layer.op_type == "Gemm":
        return 0 if layer.attributes.get_int("transB", 0) else 1
    return 0 if layer.op_type == "Conv" else 1


def _array(constant: ir.Value) -> Array:
    assert constant.const_value is not None
    return constant.const_value.numpy()
