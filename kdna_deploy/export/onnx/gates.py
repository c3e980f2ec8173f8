"""Channel attention in an ONNX graph: which nodes compute the gate β(x), and which product applies it.

    average pool → layer → ReLU → layer → sigmoid (→ repeat) → product with the pooled map

Found from the product backwards: of its two operands, the gate is the one that comes from a pool by a chain of nodes
with one input each. Works on exported files, and on the graph that ONNX Runtime makes of them, quantised or not.
"""

from __future__ import annotations

import onnx

_PRODUCTS = {"Mul", "QLinearMul"}
_POOLS = {"GlobalAveragePool", "QLinearGlobalAveragePool", "ReduceMean", "AveragePool"}
_CHAIN = {
    *("Conv", "FusedConv", "QLinearConv", "Gemm", "FusedGemm", "QGemm"),
    *("Relu", "Sigmoid", "HardSigmoid", "Clip", "Add", "Div", "Mul"),
    *("Resize", "Upsample", "ReorderInput", "ReorderOutput", "Transpose", "Flatten", "Reshape", "Unsqueeze", "Squeeze"),
    *("QuantizeLinear", "DequantizeLinear", "Cast"),
}
_LONGEST = 16


def prescales(graph: onnx.GraphProto) -> dict[str, list[onnx.NodeProto]]:
    """Name of each pre-scale's product → the nodes of its gate, the last first, the pool included."""
    made_by = {output: node for node in graph.node for output in node.output}
    found = {}
    for node in graph.node:
        gates = [_gate(value, made_by) for value in node.input] if node.op_type in _PRODUCTS else []
        gate = next(filter(None, gates), None)
        if gate:
            found[node.name] = gate
    return found


def gate_nodes(graph: onnx.GraphProto) -> set[str]:
    """Names of the nodes of all gates."""
    return {node.name for gate in prescales(graph).values() for node in gate}


def _gate(value: str, made_by: dict[str, onnx.NodeProto]) -> list[onnx.NodeProto]:
    """The nodes between an average pool and `value`, the pool included; none where no pool is met."""
    chain: list[onnx.NodeProto] = []
    while (node := made_by.get(value)) is not None and len(chain) < _LONGEST:
        chain.append(node)
        if node.op_type in _POOLS:
            return chain
        if node.op_type not in _CHAIN or (node.op_type in _PRODUCTS and len(chain) > 1):
            return []
        value = node.input[0]
    return []
