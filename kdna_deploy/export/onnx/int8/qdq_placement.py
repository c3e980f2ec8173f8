"""Where TensorRT wants QDQ pairs: at the inputs of what it computes in int8, and nowhere else.

    x → Q → DQ → Conv            input and kernel of a layer; the bias stays in float
    conv → Add ← DQ ← Q ← x      only the shortcut of a residual sum: TensorRT computes the sum in the epilogue of the
                                 convolution on the other branch, which a pair between the two would prevent
    x → Q → DQ → Mul ← gate      the map that a pre-scale scales, not its gate

A quantiser puts a pair in front of every input of a chosen operator; the pairs that are not wanted are taken out again.

Does not apply to ONNX Runtime, which computes sums and pre-scales in 8 bits and wants pairs around every operator.
"""

from __future__ import annotations

import onnx

from kdna_deploy.export.onnx.gates import prescales

_LAYERS = {"Conv", "Gemm"}


def place_for_tensorrt(graph: onnx.GraphProto) -> int:
    """Take out the QDQ pairs that stand in TensorRT's way; return how many inputs were freed of them."""
    made_by = {output: node for node in graph.node for output in node.output}
    readers: dict[str, int] = {}
    for node in graph.node:
        for name in node.input:
            readers[name] = readers.get(name, 0) + 1
    order = {node.name: position for position, node in enumerate(graph.node)}
    unwanted = [(node, p) for node in graph.node if (p := _branch(node, made_by, readers, order)) is not None]
    gated = prescales(graph)
    unwanted += [(node, _gate_position(node, gated[node.name], made_by)) for node in graph.node if node.name in gated]
    freed = 0
    for node, position in unwanted:
        source = _source(node.input[position], made_by)
        freed += source != node.input[position]
        node.input[position] = source
    _remove_unread(graph)
    return freed


def _source(value: str, made_by: dict[str, onnx.NodeProto]) -> str:
    """What a QDQ pair was made of; `value` itself where there is no pair."""
    for operator in ("DequantizeLinear", "QuantizeLinear"):
        node = made_by.get(value)
        if node is None or node.op_type != operator:
            return value
        value = node.input[0]
    return value


def _branch(
    node: onnx.NodeProto, made_by: dict[str, onnx.NodeProto], readers: dict[str, int], order: dict[str, int]
) -> int | None:
    """Which input of a sum comes from the convolution that it can be fused with: the last one in the graph."""
    if node.op_type != "Add":
        return None
    found = []
    for position, name in enumerate(node.input):
        source = _source(name, made_by)
        layer = made_by.get(source)
        if layer is not None and layer.op_type in _LAYERS and readers[source] == 1:
            found.append((order[layer.name], position))
    return max(found)[1] if found else None


def _gate_position(product: onnx.NodeProto, gate: list[onnx.NodeProto], made_by: dict[str, onnx.NodeProto]) -> int:
    last = next(node for node in gate if node.op_type not in ("QuantizeLinear", "DequantizeLinear"))
    return next(p for p, name in enumerate(product.input) if made_by.get(_source(name, made_by)) is last)


def _remove_unread(graph: onnx.GraphProto) -> None:
    """Remove QDQ nodes that nothing reads any more, and their constants."""
    while True:
        read = {name for node in graph.node for name in node.input} | {value.name for value in graph.output}
        dead = [n for n in graph.node if n.op_type.endswith("uantizeLinear") and n.output[0] not in read]
        if not dead:
            break
        for node in dead:
            graph.node.remove(node)
    for tensor in [t for t in graph.initializer if t.name not in read]:
        graph.initializer.remove(tensor)
