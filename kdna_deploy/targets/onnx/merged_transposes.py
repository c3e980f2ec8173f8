"""Transposes of many axes by as few as they need, where kernels are put together for each image.

    Transpose(x [n, s, 1, 1, c', c, 1, 1], …)  →  Reshape → Transpose(x [n, s, c'·c], (0, 2, 1)) → Reshape

Axes of length 1 move nothing, and neighbours that stay neighbours move as one. ONNX Runtime takes three to four times
as long for the same movement with five axes as with two, and published code arranges cells with seven.

Does not apply to transposes of four axes and fewer, to networks whose kernels are fixed, and to unknown sizes, but for
that of the batch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from kdna_deploy.graph.passes.result import PassResult
from kdna_deploy.targets.onnx.constants import add_constant, unused_name, value_names

_FEW = 4


def merge_transposes(model: ir.Model) -> PassResult:
    """Rewrite every transpose of more than four axes that needs fewer."""
    changed = 0
    for node in [node for node in model.graph if node.op_type == "Transpose"]:
        source = node.inputs[0]
        if source is None or source.shape is None or len(source.shape) <= _FEW:
            continue
        sizes = [size if isinstance(size, int) else -1 for size in source.shape]
        order = list(node.attributes.get_ints("perm", list(reversed(range(len(sizes))))))
        groups = merged(sizes, order)
        if sizes.count(-1) < 2 and len(groups) < len(sizes):
            _rewrite(model.graph, node, source, groups, [sizes[axis] for axis in order])
            changed += 1
    return PassResult(changed)


def merged(sizes: Sequence[int], order: Sequence[int]) -> list[list[int]]:
    """The axes longer than 1, in groups that `order` keeps together; groups and axes as they come out."""
    groups: list[list[int]] = []
    kept = [axis for axis, size in enumerate(sizes) if size != 1]
    for axis in (axis for axis in order if axis in kept):
        follows = groups and kept.index(axis) == kept.index(groups[-1][-1]) + 1
        if follows:
            groups[-1].append(axis)
        else:
            groups.append([axis])
    return groups


def _rewrite(graph: ir.Graph, node: ir.Node, source: ir.Value, groups: list[list[int]], made: list[int]) -> None:
    assert source.shape is not None
    sizes = [size if isinstance(size, int) else -1 for size in source.shape]
    before = sorted(groups)
    lengths = [
        -1 if any(sizes[axis] == -1 for axis in group) else math.prod(sizes[a] for a in group) for group in before
    ]
    order = [before.index(group) for group in groups]
    value = source
    if order != sorted(order):
        value = _node(graph, node, "Reshape", [value, _shape(graph, lengths)], {}, node.outputs[0])
        value = _node(graph, node, "Transpose", [value], {"perm": order}, node.outputs[0])
    result = _node(graph, node, "Reshape", [value, _shape(graph, made)], {}, node.outputs[0])
    old = node.outputs[0]
    result.shape = old.shape
    old.replace_all_uses_with(result, replace_graph_outputs=True)
    graph.remove(node, safe=True)


def _node(
    graph: ir.Graph,
    before: ir.Node,
    operator: str,
    inputs: list[ir.Value],
    attributes: dict[str, list[int]],
    like: ir.Value,
) -> ir.Value:
    name = unused_name(f"{before.name}/{operator}", {node.name for node in graph})
    node = ir.node(operator, inputs, attributes, name=name)
    graph.insert_before(before, node)
    made = node.outputs[0]
    made.name, made.type = unused_name(f"{like.name}_{operator.lower()}", value_names(graph)), like.type
    return made


def _shape(graph: ir.Graph, sizes: list[int]) -> ir.Value:
    name = "shape_" + "_".join(map(str, sizes)).replace("-1", "rest")
    return graph.initializers.get(name) or add_constant(graph, name, np.array(sizes, np.int64))
