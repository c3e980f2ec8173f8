"""Where TensorRT wants QDQ pairs: at the inputs of what it computes in int8, and nowhere else.

    x → Q → DQ → Conv            input and kernel of a layer; the bias stays in float
    conv → Add ← DQ ← Q ← x      only the shortcut of a residual sum: TensorRT computes the sum in the epilogue of the
                                 convolution on the other branch, which a pair between the two would prevent
    x → Q → DQ → Mul ← gate      the map that a pre-scale scales, not its gate

A quantiser puts a pair in front of every input of a chosen operator; the pairs that are not wanted are taken out again.

Does not apply to ONNX Runtime, which computes sums and pre-scales in 8 bits and wants pairs around every operator.
"""

from __future__ import annotations

from collections.abc import Mapping

import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from kdna_deploy.graph.passes.result import PassResult
from kdna_deploy.targets.onnx.gates import prescales

_LAYERS = {"Conv", "Gemm"}
_PAIR = ("DequantizeLinear", "QuantizeLinear")  # backwards


def place_for_tensorrt(model: ir.Model) -> PassResult:
    """Take out the QDQ pairs that stand in TensorRT's way; a change is an input that was freed of one."""
    order = {node: position for position, node in enumerate(model.graph)}
    gates = prescales(model.graph)
    unwanted = [(node, position) for node in order if (position := _branch(node, order)) is not None]
    unwanted += [(node, _gate_position(node, gates[node.name])) for node in order if node.name in gates]
    freed = 0
    for node, position in unwanted:
        source = _source(node.inputs[position])
        freed += source is not node.inputs[position]
        node.replace_input_with(position, source)
    RemoveUnusedNodesPass()(model)
    return PassResult(freed)


def _source(value: ir.Value | None) -> ir.Value | None:
    """What a QDQ pair was made of; `value` itself where there is no pair."""
    for operator in _PAIR:
        node = value.producer() if value is not None else None
        if node is None or node.op_type != operator:
            return value
        value = node.inputs[0]
    return value


def _branch(node: ir.Node, order: Mapping[ir.Node, int]) -> int | None:
    """Which input of a sum comes from the convolution that it can be fused with: the last one in the graph."""
    found = []
    for position, value in enumerate(node.inputs if node.op_type == "Add" else ()):
        source = _source(value)
        layer = source.producer() if source is not None else None
        if source is not None and layer is not None and layer.op_type in _LAYERS and len(source.uses()) == 1:
            found.append((order[layer], position))
    return max(found)[1] if found else None


def _gate_position(product: ir.Node, gate: list[ir.Node]) -> int:
    last = next(node for node in gate if node.op_type not in _PAIR)
    return next(p for p, value in enumerate(product.inputs) if _source(value) is last.outputs[0])
