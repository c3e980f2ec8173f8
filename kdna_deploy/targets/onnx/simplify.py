"""onnxsim, kept only where it helps.

Its output replaces the model when it is no larger, `onnx.checker` accepts it and no kernel is stored twice that was
stored once; otherwise it is dropped, with a sentence. Shared children are simplified without constant folding, which
would multiply them out. Kernels that nothing is computed from are kept out of its sight: they would be copied again
and again. Where nothing is to be had (`settled`), it is not loaded. Whether the result still computes the same is
decided by the verification of every export.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import onnx
import onnx_ir as ir

from kdna_deploy.graph.passes.result import PassResult, Refusal
from kdna_deploy.targets.onnx.ledger import onnx_storage
from kdna_deploy.targets.onnx.settled import is_settled

# Operators whose second operand is a kernel.
_LAYERS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})


@dataclass(frozen=True)
class Simplified(PassResult):
    """What became of the simplification: a change is a node that was removed, `note` says so or why not."""

    note: str = ""


def simplify(model: ir.Model, shared: bool = False) -> Simplified:
    """Run onnxsim over `model`; with `shared`, only what keeps children shared."""
    if is_settled(model.graph, shared):
        return Simplified(0, note="nothing to simplify")
    try:
        import onnxsim
    except ImportError:
        return _refused("onnxsim is not installed (pip install onnxsim)")
    order = tuple(model.graph.initializers)
    held = _withhold(model)
    try:
        return _simplified(model, shared, onnxsim)
    finally:
        _give_back(model, held, order)


def _simplified(model: ir.Model, shared: bool, onnxsim: Any) -> Simplified:
    whole = ir.to_proto(model)
    before = (len(whole.graph.node), whole.ByteSize())
    try:
        smaller, _ = onnxsim.simplify(whole, skip_constant_folding=shared)
        onnx.checker.check_model(smaller)
        simplified = ir.from_proto(smaller)
    except Exception as error:  # onnxsim raises plain RuntimeErrors from C++
        return _refused(f"onnxsim failed ({str(error).splitlines()[0]})")
    after = (len(smaller.graph.node), ir.to_proto(simplified).ByteSize())
    if after[0] == before[0]:
        return Simplified(0, note="onnxsim found nothing to remove")
    if onnx_storage(smaller, "simplified").unique_bytes > onnx_storage(whole, "exported").unique_bytes:
        return _refused("onnxsim would undo the sharing of kernels")
    if after[0] > before[0] or after[1] > before[1]:
        return _refused(f"onnxsim would grow it from {before[1]:,} to {after[1]:,} bytes")
    model.graph = simplified.graph
    return Simplified(before[0] - after[0], note=f"onnxsim removed {before[0] - after[0]} of {before[0]} nodes")


def _withhold(model: ir.Model) -> dict[str, ir.TensorProtocol]:
    """Make inputs of the kernels that layers take as they are: nothing is to be computed from them, only copied."""
    graph = model.graph
    # What is folded into a kernel needs its numbers.
    if any(node.op_type == "BatchNormalization" for node in graph):
        return {}
    held = {}
    for name, value in list(graph.initializers.items()):
        uses = value.uses()
        if value.const_value is not None and uses and all(u.node.op_type in _LAYERS and u.idx == 1 for u in uses):
            held[name] = value.const_value
            value.const_value = None
            del graph.initializers[name]
            graph.inputs.append(value)
    return held


def _give_back(model: ir.Model, held: Mapping[str, ir.TensorProtocol], order: tuple[str, ...]) -> None:
    """Make constants of them again, in the `order` that all constants had."""
    graph = model.graph
    for value in [value for value in graph.inputs if value.name in held]:
        graph.inputs.remove(value)
        if value.uses():
            value.const_value = held[str(value.name)]
            graph.register_initializer(value)
    for name in [name for name in order if name in graph.initializers]:
        graph.initializers.add(graph.initializers.pop(name))


def _refused(reason: str) -> Simplified:
    return Simplified(0, (Refusal("", reason),), f"not simplified: {reason}")
