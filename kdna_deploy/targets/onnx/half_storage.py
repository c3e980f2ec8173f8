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

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from kdna_deploy.graph.passes.result import Refusal
from kdna_deploy.targets.onnx.constants import add_constant, compute_constant

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

    @property
    def changed(self) -> int:
        return self.converted

    @property
    def refused(self) -> tuple[Refusal, ...]:
        return tuple(Refusal(name, "a half cannot hold a weight of it") for name in self.overflowing)


def store_half(model: ir.Model) -> HalfStorage:
    """Store the float32 weights of `model` in half precision."""
    graph, first = model.graph, model.graph[0]
    converted, overflowing, numbers, subnormal, change = 0, [], 0, 0, 0.0
    for weight in list(graph.initializers.values()):
        tensor = weight.const_value
        if tensor is None or tensor.dtype != ir.DataType.FLOAT or len(tensor.shape) < 2 or tensor.size < _SMALLEST:
            continue
        array = tensor.numpy()
        largest = float(np.abs(array).max())
        if largest > LARGEST_HALF:
            overflowing.append(weight.name or "")
            continue
        half = array.astype(np.float16)
        converted += 1
        numbers += array.size
        subnormal += int(((np.abs(array) < SMALLEST_NORMAL) & (array != 0)).sum())
        change = max(change, float(np.abs(half.astype(np.float32) - array).max()) / largest if largest else 0.0)
        stored = add_constant(graph, f"{weight.name}_half", half)
        cast = ir.node("Cast", [stored], {"to": ir.DataType.FLOAT}, name=f"{weight.name}_cast")
        compute_constant(graph, weight, cast, before=first)
    return HalfStorage(converted, tuple(overflowing), subnormal / numbers if numbers else 0.0, change)
