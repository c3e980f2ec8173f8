"""What a kernel's codes are, and the nodes that a runtime multiplies them out with when a session opens.

    int8    w → q · s    q in −127 … 127, a byte each        s = max |w| / 127 of each filter, or block, float32
    int4    w → q · s    q in −8 … 7, two in a byte          s = w* / −8 of each block of a filter, half precision

w* is the number of the largest magnitude in its block, of either sign, which is −8 exactly; max |w| / 7 would leave
one code unused (the same blocks are GGUF's Q4_0). A block is the largest even number of weights, 16 to 32, that divides
a filter.

Both are written in operators that every runtime folds when it opens the file:

    int8    Cast(Cast(q, int32), float32) · s
    int4    Reshape(Gather(T, Cast(p, int32)) · Cast(s, float32))        T[p] = the two codes in byte p, [256, 2]

What else there is for 4 bits was measured (docs/precision.md): ONNX's own type needs a later operator set and runtime,
its DequantizeLinear is computed at every inference, and so are bit operators on OpenVINO.

A bank, whose rows kernels for each image are mixed of, has blocks in 8 bits as well, of up to 64 numbers: the filters
that a row is made of are not told apart here.

Does not apply to 4 bits: filters without such a block (depthwise kernels, 3×3×3), small kernels, and those whose scales
a half cannot hold. They have 8.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from kdna_deploy.targets.onnx.constants import add_constant

Array = NDArray[np.float32]

BLOCK = 32  # numbers that share a scale, at most
_SMALLEST_BLOCK = 16
_BANK_BLOCK = 64  # in 8 bits
_SMALLEST = 2048  # numbers in a kernel: the table is shared, the nodes are not
_HALVES = (2.0**-11, 65504)  # between which the largest scale lies: those of small blocks are halves with fewer bits
_TABLE = "two_codes"
_TINY = np.finfo(np.float32).tiny


@dataclass(frozen=True)
class Coded:
    """A kernel as codes: the `values` that they stand for, and the `nodes` that compute these, the last one last."""

    values: Array
    nodes: tuple[ir.Node, ...]


def int8(graph: ir.Graph, name: str, weights: Array, axis: int) -> Coded:
    """Codes of 8 bits, a scale for each index of `axis`; constants are added to `graph`."""
    others = tuple(other for other in range(weights.ndim) if other != axis)
    largest = np.abs(weights).max(axis=others, keepdims=True)
    scales = np.maximum(largest / np.float32(127), _TINY)
    codes = np.rint(weights / scales).astype(np.int8)
    # By way of int32: OpenVINO takes a cast from int8 in front of a product for dequantisation, and computes it at
    # every inference where the kernel is 1×1.
    whole = ir.node("Cast", [add_constant(graph, f"{name}_codes", codes)], {"to": ir.DataType.INT32})
    cast = ir.node("Cast", whole.outputs, {"to": ir.DataType.FLOAT})
    product = ir.node("Mul", [*cast.outputs, add_constant(graph, f"{name}_scale", scales)])
    return Coded(codes.astype(np.float32) * scales, (whole, cast, product))


def int8_bank(graph: ir.Graph, name: str, bank: Array) -> Coded:
    """Codes of 8 bits, a scale for each block of the rows of a `bank` [rows, …]; constants are added to `graph`."""
    coded = int8(graph, name, bank.reshape(-1, bank_block(bank)), 0)
    shape = add_constant(graph, f"{name}_shape", np.array(bank.shape, np.int64))
    last = ir.node("Reshape", [*coded.nodes[-1].outputs, shape])
    return Coded(coded.values.reshape(bank.shape), (*coded.nodes, last))


def bank_block(bank: Array) -> int:
    """How many numbers of a row of a `bank` share a scale of 8-bit codes: as many as divide it, up to 64."""
    numbers = bank.size // bank.shape[0]
    return max(size for size in range(1, _BANK_BLOCK + 1) if numbers % size == 0)


def block_of(weights: Array, axis: int) -> int | None:
    """How many numbers of a filter share a scale of `int4`; None where it does not apply."""
    numbers = weights.size // weights.shape[axis]
    blocks = (size for size in range(BLOCK, _SMALLEST_BLOCK - 1, -2) if numbers % size == 0)
    applies = weights.size >= _SMALLEST and _HALVES[0] <= np.abs(weights).max() / 8 <= _HALVES[1]
    return next(blocks, None) if applies else None


def int4(graph: ir.Graph, name: str, weights: Array, axis: int, block: int) -> Coded:
    """Codes of 4 bits, a scale for each `block` of a filter; constants are added to `graph`."""
    filters = np.moveaxis(weights, axis, 0)
    scales, codes = _block_codes(filters.reshape(len(filters), -1, block))
    nibbles = (codes + 8).astype(np.uint8)
    packed = nibbles[..., ::2] | nibbles[..., 1::2] << 4
    index = ir.node("Cast", [add_constant(graph, f"{name}_codes", packed)], {"to": ir.DataType.INT32})
    pairs = ir.node("Gather", [_table(graph), *index.outputs])  # [filters, blocks, block / 2, 2]
    scale = ir.node("Cast", [add_constant(graph, f"{name}_scale", scales[..., None])], {"to": ir.DataType.FLOAT})
    product = ir.node("Mul", [*pairs.outputs, *scale.outputs])
    shape = add_constant(graph, f"{name}_shape", np.array(filters.shape, np.int64))
    nodes = [index, pairs, scale, product, ir.node("Reshape", [*product.outputs, shape])]
    if axis != 0:
        others = range(1, weights.ndim)
        nodes.append(ir.node("Transpose", nodes[-1].outputs, {"perm": [*others[:axis], 0, *others[axis:]]}))
    values = (codes * scales.astype(np.float32)).reshape(filters.shape)
    return Coded(np.ascontiguousarray(np.moveaxis(values, 0, axis)), tuple(nodes))


def _block_codes(blocks: Array) -> tuple[NDArray[np.float16], Array]:
    """Scales [filters, blocks, 1] and codes [filters, blocks, block]."""
    largest = np.take_along_axis(blocks, np.abs(blocks).argmax(-1)[..., None], -1)
    scales = (largest / -8).astype(np.float16)
    divisors = np.where(scales == 0, np.inf, scales).astype(np.float32)
    return scales, np.clip(np.rint(blocks / divisors), -8, 7)


def _table(graph: ir.Graph) -> ir.Value:
    """The two codes in each byte [256, 2], once in a graph."""
    known = graph.initializers.get(_TABLE)
    bytes_ = np.arange(256)
    return known or add_constant(graph, _TABLE, np.stack([bytes_ & 15, bytes_ >> 4], 1).astype(np.float32) - 8)
