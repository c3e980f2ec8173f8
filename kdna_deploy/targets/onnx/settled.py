"""Is there anything that onnxsim could remove from a graph?

    every operator one of convolutional layers' own, with a computed operand · none twice on the same values ·
    none behind another that it repeats · no constant added to or multiplied on a map   →  nothing

What fusing leaves of a convolutional network is of this kind, and loading onnxsim takes longer than translating it. Of
any other graph nothing is said: onnxsim is asked.
"""

from __future__ import annotations

from collections import Counter

import onnx_ir as ir

# Of two in a row the second does nothing, or both are one.
_REPEATING = frozenset({"Relu", "Clip", "Flatten", "Reshape"})
# Of a constant operand: a bias of the layer in front, or nothing at all.
_OF_TWO_MAPS = frozenset({"Add", "Mul"})
_KNOWN = (
    _REPEATING
    | _OF_TWO_MAPS
    | {"AveragePool", "Conv", "Gemm", "GlobalAveragePool", "HardSigmoid", "MaxPool", "Resize", "Sigmoid"}
)


def is_settled(graph: ir.Graph, shared: bool) -> bool:
    """Whether onnxsim would remove no node; with `shared`, products of a kernel's constants are to stay."""
    computed = {id(value) for value in graph.inputs}
    seen = Counter[tuple[object, ...]]()
    for node in graph:
        if node.domain or node.op_type not in _KNOWN or len(node.outputs) != 1:
            return False
        taken = [value for value in node.inputs if value is not None]
        of_images = [id(value) in computed for value in taken]
        if not any(of_images):
            if not shared or node.op_type != "Mul":
                return False
        elif node.op_type in _OF_TWO_MAPS and not all(of_images):
            return False
        else:
            computed.add(id(node.outputs[0]))
        if _repeats(node) or not (node.outputs[0].uses() or node.outputs[0].is_graph_output()):
            return False
        seen[_said(node)] += 1
    return all(times == 1 for times in seen.values())


def _repeats(node: ir.Node) -> bool:
    before = node.inputs[0].producer() if node.inputs and node.inputs[0] is not None else None
    return node.op_type in _REPEATING and before is not None and before.op_type in _REPEATING


def _said(node: ir.Node) -> tuple[object, ...]:
    attributes = sorted((name, str(attribute.value)) for name, attribute in node.attributes.items())
    return (node.op_type, *map(id, node.inputs), *attributes)
