"""onnxsim, kept only where it helps.

Its output replaces the model when it is no larger and `onnx.checker` accepts it; whether it still computes the same
is decided by the verification that every export goes through. Otherwise it is dropped, with a sentence.
"""

from __future__ import annotations

from dataclasses import dataclass

import onnx


@dataclass(frozen=True)
class Simplified:
    """The model to go on with, and what became of the simplification."""

    model: onnx.ModelProto
    note: str


def simplify(model: onnx.ModelProto) -> Simplified:
    """Run onnxsim over `model`."""
    try:
        import onnxsim
    except ImportError:
        return Simplified(model, "not simplified: onnxsim is not installed (pip install onnxsim)")
    before = (len(model.graph.node), model.ByteSize())
    try:
        smaller, _ = onnxsim.simplify(model)
        onnx.checker.check_model(smaller)
    except Exception as error:  # onnxsim raises plain RuntimeErrors from C++
        return Simplified(model, f"not simplified: onnxsim failed ({str(error).splitlines()[0]})")
    after = (len(smaller.graph.node), smaller.ByteSize())
    if after[0] > before[0] or after[1] > before[1]:
        return Simplified(model, f"not simplified: onnxsim would grow it from {before[1]:,} to {after[1]:,} bytes")
    if after[0] == before[0]:
        return Simplified(model, "onnxsim found nothing to remove")
    return Simplified(smaller, f"onnxsim removed {before[0] - after[0]} of {before[0]} nodes")
