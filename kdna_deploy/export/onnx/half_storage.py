"""Weights stored in half precision, computed with in float32.

    w (float32)  →  cast(half(w))        the file halves; the runtime folds the cast when the session starts

Rounding to half moves a weight by at most 2⁻¹¹ of itself, where it is neither too large nor too small for that:

    |w| > 65504          overflow      the tensor stays in float32
    0 < |w| < 2⁻²⁵       would become 0
    |w| < 2⁻¹⁴           keeps fewer bits (subnormal)

Does not apply to runtimes that would not fold the cast, to tensors so small that the cast's node outweighs them, and to
vectors: biases and scales take few bytes, and an error in one is an error of a whole channel.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

_SMALLEST = 256  # numbers
LARGEST_HALF = 65504.0
SMALLEST_NORMAL = 2.0**-14


@dataclass(frozen=True)
class HalfStorage:
    """What became of the weights.

    Attributes:
        converted: tensors stored in half precision.
        overflowing: names of those that stay in float32, since a half cannot hold them.
        subnormal: share of the converted numbers that keep fewer bits, or become zero.
        largest_change: largest relative change of a converted tensor, |half(w) − w| / max |w|.
    """

    converted: int
    overflowing: tuple[str, ...]
    subnormal: float
    largest_change: float


def store_half(model: onnx.ModelProto) -> HalfStorage:
    """Store the float32 weights of `model` in half precision, in place."""
    converted, overflowing, numbers, subnormal, change = 0, [], 0, 0, 0.0
    casts = []
    for tensor in model.graph.initializer:
        if tensor.data_type != TensorProto.FLOAT or len(tensor.dims) < 2 or math.prod(tensor.dims) < _SMALLEST:
            continue
        array = numpy_helper.to_array(tensor)
        largest = float(np.abs(array).max())
        if largest > LARGEST_HALF:
            overflowing.append(tensor.name)
            continue
        half = array.astype(np.float16)
        converted += 1
        numbers += array.size
        subnormal += int(((np.abs(array) < SMALLEST_NORMAL) & (array != 0)).sum())
        change = max(change, float(np.abs(half.astype(np.float32) - array).max()) / largest if largest else 0.0)
        casts.append(_store(tensor, half))
    for cast in reversed(casts):
        model.graph.node.insert(0, cast)
    return HalfStorage(converted, tuple(overflowing), subnormal / numbers if numbers else 0.0, change)


def _store(tensor: TensorProto, half: np.ndarray) -> onnx.NodeProto:
    """Put `half` in place of `tensor`, under another name; returns the cast that gives the old name its value."""
    name = tensor.name
    tensor.CopyFrom(numpy_helper.from_array(half, f"{name}_half"))
    return helper.make_node("Cast", [tensor.name], [name], name=f"{name}_cast", to=TensorProto.FLOAT)
