"""One tensor of int8 codes for a parent and those of its children that only scale its filters.

    W_l = m ⊙ W, one number m_o for a filter o   ⇒   codes(W_l)[o] = sign(m_o) · codes(W)[o],   scale_l = |m_o| · scale

Both kernels then read the codes of the first of them, and the sign goes into the scale: `DequantizeLinear` multiplies,
whatever the sign. Nothing is lost: the values are those that a quantisation of W_l by itself gives, but for codes whose
rounding was a tie. Which kernels are multiples of each other is seen from their float32 values.

Each child reads the codes through a `Reshape` to the shape that they have, which ONNX Runtime folds at session start:
for CPUs without VNNI it is told to rewrite the codes of a kernel (`runtimes/int8_kernels.py`), and fails where two
kernels read one tensor. The next child of the same parent continues from there, for equal nodes would be merged again.

Does not apply to children with spatial attention or frozen channel attention (no single m_o), to a filter that is zero
in one kernel alone, to a kernel whose scales the quantiser enlarged for the sake of a large bias (they are not |m_o| ·
scale then), and to runtimes that need positive scales, as TensorRT does (docs/int8-sharing.md).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

Array = NDArray[np.floating]

# Of a filter's largest weight: float32 rounding of m ⊙ W, once in each kernel.
_EXACT = 4 * float(np.finfo(np.float32).eps)

_SAME_SHAPE = "same_shape"  # zeros, which `Reshape` takes for the sizes that there are; one for each axis of a kernel


@dataclass(frozen=True)
class _Kernel:
    """A quantised convolution weight: its nodes' tensors by name, and its float32 values."""

    dequantize: onnx.NodeProto
    values: Array
    bias: onnx.NodeProto | None


def share_codes(model: onnx.ModelProto, kernels: Mapping[str, Array]) -> int:
    """Let kernels that are multiples of each other share their codes, in place; return how many use another's.

    `kernels` are the float32 values of the weights before quantisation, by the name of the convolution.
    """
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    parents: list[_Kernel] = []
    copies: list[onnx.NodeProto] = []
    last: dict[str, str] = {}  # codes of a parent → those that its last child reads
    for kernel in _quantised(model, kernels, stored):
        found = next(((p, f) for p in parents if (f := _shared(kernel, p, stored)) is not None), None)
        if found is None:
            parents.append(kernel)
            continue
        parent, factors = found
        codes = kernel.dequantize.input[0]
        model.graph.initializer.remove(stored[codes])
        own = parent.dequantize.input[0]
        zeros = _same_shape(kernel.values.ndim)
        copies.append(helper.make_node("Reshape", [last.get(own, own), zeros.name], [codes]))
        if zeros.name not in stored:
            stored[zeros.name] = zeros
            model.graph.initializer.append(zeros)
        last[own] = codes
        _move_signs(kernel, np.sign(factors), stored)
    for copy in reversed(copies):
        model.graph.node.insert(0, copy)
    return len(copies)


def _same_shape(axes: int) -> onnx.TensorProto:
    return numpy_helper.from_array(np.zeros(axes, np.int64), f"{_SAME_SHAPE}_{axes}d")


def _quantised(
    model: onnx.ModelProto, kernels: Mapping[str, Array], stored: Mapping[str, onnx.TensorProto]
) -> list[_Kernel]:
    """The kernels with codes of their own."""
    made_by = {output: node for node in model.graph.node for output in node.output}
    found = []
    for node in model.graph.node:
        weight = made_by.get(node.input[1]) if node.op_type == "Conv" else None
        if weight is None or weight.op_type != "DequantizeLinear" or node.name not in kernels:
            continue
        if weight.input[0] not in stored:
            continue
        bias = made_by.get(node.input[2]) if len(node.input) > 2 else None
        found.append(_Kernel(weight, kernels[node.name], bias))
    return found


def _shared(child: _Kernel, parent: _Kernel, stored: Mapping[str, onnx.TensorProto]) -> Array | None:
    """The m [c'] with which `child` can read the codes of `parent`; None where it cannot."""
    factors = _factors(child.values, parent.values)
    if factors is None:
        return None
    own, others = (numpy_helper.to_array(stored[kernel.dequantize.input[1]]) for kernel in (child, parent))
    return factors if np.allclose(own, np.abs(factors * others), rtol=_EXACT, atol=0) else None


def _factors(child: Array, parent: Array) -> Array | None:
    """The m [c'] with child = m ⊙ parent; None where there is none."""
    if child.shape != parent.shape:
        return None
    rows, others = (values.reshape(len(values), -1).astype(np.float64) for values in (child, parent))
    energy = (others**2).sum(1)
    if not (energy.all() and rows.any(axis=1).all()):
        return None
    factors = (rows * others).sum(1) / energy
    departs = np.abs(rows - factors[:, None] * others).max(1)
    return factors if (departs <= _EXACT * np.abs(rows).max(1)).all() else None


def _move_signs(kernel: _Kernel, signs: Array, stored: Mapping[str, onnx.TensorProto]) -> None:
    """Let the kernel's scales follow the signs, and with them the bias's, which is a product of two scales."""
    if (signs > 0).all():
        return
    _multiply(stored[kernel.dequantize.input[1]], signs)
    if kernel.bias is not None:
        _multiply(stored[kernel.bias.input[0]], signs)
        _multiply(stored[kernel.bias.input[1]], signs)


def _multiply(tensor: onnx.TensorProto, signs: Array) -> None:
    array = numpy_helper.to_array(tensor)
    tensor.CopyFrom(numpy_helper.from_array((array * signs).astype(array.dtype), tensor.name))
