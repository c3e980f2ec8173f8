"""onnxsim, kept only where it helps.

Its output replaces the model when it is no larger, `onnx.checker` accepts it and no kernel is stored twice that was
stored once; otherwise it is dropped, with a sentence. Shared children are simplified without constant folding, which
would multiply them out. Whether the result still computes the same is decided by the verification of every export.
"""

from __future__ import annotations

from dataclasses import dataclass

import onnx

from kdna_deploy.export.onnx.ledger import onnx_storage


@dataclass(frozen=True)
class Simplified:
    """The model to go on with, and what became of the simplification."""

    model: onnx.ModelProto
    note: str


def simplify(model: onnx.ModelProto, shared: bool = False) -> Simplified:
    """Run onnxsim over `model`; with `shared`, only what keeps children shared."""
    try:
        import onnxsim
    except ImportError:
        return Simplified(model, "not simplified: onnxsim is not installed (pip install onnxsim)")
    before = (len(model.graph.node), model.ByteSize())
    try:
        smaller, _ = onnxsim.simplify(model, skip_constant_folding=shared)
        onnx.checker.check_model(smaller)
    except Exception as error:  # onnxsim raises plain RuntimeErrors from C++
        return Simplified(model, f"not simplified: onnxsim failed ({str(error).splitlines()[0]})")
    after = (len(smaller.graph.node), smaller.ByteSize())
    if onnx_storage(smaller, "simplified").unique_bytes > onnx_storage(model, "exported").unique_bytes:
        return Simplified(model, "not simplified: onnxsim would undo the sharing of kernels")
    if after[0] > before[0] or after[1] > before[1]:
        return Simplified(model, f"not simplified: onnxsim would grow it from {before[1]:,} to {after[1]:,} bytes")
    if after[0] == before[0]:
        return Simplified(model, "onnxsim found nothing to remove")
    return Simplified(smaller, f"onnxsim removed {before[0] - after[0]} of {before[0]} nodes")
