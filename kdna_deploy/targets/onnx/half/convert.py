"""Float32 graph → a graph that computes in half precision, types written into it.

    y = f(x; w)   →   y₁₆ = f(x₁₆; half(w))        casts at the inputs and outputs of the network, and where half
                                                   and float32 nodes meet

Each node is of one precision: TensorRT has no switch for that any more, the types in the graph decide. Nodes that are
to stay in float32 do so without casts between them; a value is cast once for each precision that reads it.

Does not apply to integer values, which keep their type, to operators whose types are written into them, and to weights
that a half cannot hold: their nodes belong to those that stay in float32 (`half_audit` finds them).
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass, ShapeInferencePass

from kdna_deploy.graph.passes.result import PassResult
from kdna_deploy.targets.onnx.constants import add_constant, unused_name, value_names

# What they make, or some of what they read, is float32 by attribute or by definition.
_FLOAT_ONLY = {"Cast", "Constant", "ConstantOfShape", "Resize"}
_FLOAT, _HALF = ir.DataType.FLOAT, ir.DataType.FLOAT16
_SUFFIX = {_HALF: "half", _FLOAT: "float"}


def to_half(model: ir.Model, keep_float: Collection[str] = (), half_io: bool = False) -> PassResult:
    """Compute in half precision, but in the nodes named in `keep_float`; `half_io` makes the model's ends half as well.

    A change is a node that computes in half precision now.
    """
    ShapeInferencePass(check_type=False, strict_mode=False, data_prop=False)(model)
    graph, io = model.graph, _HALF if half_io else _FLOAT
    inner = {within: node for node in graph for within in _within(node)}
    nodes = [*graph, *inner]
    taken = [value for node in graph for body in _bodies(node) for value in body.inputs]
    computed = [*taken, *(value for node in nodes for value in node.outputs)]
    # Their type becomes that of the node that computes them.
    floats = {v for v in (*graph.inputs, *graph.initializers.values(), *computed) if v.dtype == _FLOAT}
    wanted = {
        node: _FLOAT if inner.get(node, node).name in keep_float or node.op_type in _FLOAT_ONLY else _HALF
        for node in nodes
        if floats & {*node.inputs, *node.outputs}
    }
    for value in floats.intersection(graph.inputs):
        value.type = ir.TensorType(io)
    for node, precision in wanted.items():
        made = (*node.outputs, *(value for body in _bodies(node) for value in body.inputs))
        for value in floats.intersection(made):
            value.type = ir.TensorType(precision)  # of its own: one type may be that of several values
    casts: dict[tuple[ir.Value, ir.DataType], ir.Value] = {}
    for position, value in enumerate(graph.outputs):
        if value in floats and value.dtype != io:
            graph.outputs[position] = casts[value, io] = _end(graph, value, io)
    for node, precision in wanted.items():
        for position, read in enumerate(node.inputs):
            if read is not None and read in floats and read.dtype != precision:
                if (read, precision) not in casts:
                    casts[read, precision] = _cast(graph, read, precision)
                node.replace_input_with(position, casts[read, precision])
    RemoveUnusedNodesPass()(model)
    return PassResult(sum(precision == _HALF for precision in wanted.values()))


def _bodies(node: ir.Node) -> list[ir.Graph]:
    return [value.as_graph() for value in node.attributes.values() if value.type == ir.AttributeType.GRAPH]


def _within(node: ir.Node) -> list[ir.Node]:
    """The nodes in the bodies of a loop, which are of its precision."""
    return [inner for body in _bodies(node) for inner in body]


def _end(graph: ir.Graph, value: ir.Value, precision: ir.DataType) -> ir.Value:
    """An output of the network, cast from what is computed, which gets another name."""
    name = value.name or ""
    value.name = unused_name(f"{name}_{_SUFFIX[value.dtype]}", value_names(graph))  # type: ignore[index]
    return _cast(graph, value, precision, name)


def _cast(graph: ir.Graph, value: ir.Value, precision: ir.DataType, name: str = "") -> ir.Value:
    """`value` in another precision, called `name` or after it; a weight is stored once more."""
    name = name or f"{value.name}_{_SUFFIX[precision]}"
    if value.is_initializer():
        assert value.const_value is not None
        with np.errstate(over="ignore"):
            return add_constant(graph, name, value.const_value.numpy().astype(precision.numpy()))
    cast = ir.node("Cast", [value], {"to": precision}, name=f"{name}/Cast")
    made = cast.outputs[0]
    made.name, made.type, made.shape = name, ir.TensorType(precision), value.shape
    made_by = value.producer()
    if made_by is None:
        graph.insert_before(graph[0], cast)
    else:
        graph.insert_after(made_by, cast)
    return made
