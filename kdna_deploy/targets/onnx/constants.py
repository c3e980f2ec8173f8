"""Constants of an ONNX graph: a new one under a name that is free, and one that a node computes from now on."""

from __future__ import annotations

import itertools
from collections.abc import Collection

import numpy as np
import onnx_ir as ir


def add_constant(graph: ir.Graph, name: str, array: np.ndarray) -> ir.Value:
    """Store `array` in `graph` as `name`, numbered where that is taken."""
    name = unused_name(name, value_names(graph))
    tensor = ir.tensor(array, name=name)
    value = ir.Value(name=name, const_value=tensor, shape=ir.Shape(array.shape), type=ir.TensorType(tensor.dtype))
    graph.register_initializer(value)
    return value


def compute_constant(graph: ir.Graph, constant: ir.Value, node: ir.Node, before: ir.Node) -> ir.Value:
    """Let `node`, placed `before` another, compute what `constant` stored, under its name."""
    made = node.outputs[0]
    constant.replace_all_uses_with(made, replace_graph_outputs=True)
    made.shape, made.type = constant.shape, constant.type
    made.name = graph.initializers.pop(constant.name or "").name
    graph.insert_before(before, node)
    return made


def value_names(graph: ir.Graph) -> set[str | None]:
    """Names of the values of a graph."""
    computed = {value.name for node in graph for value in node.outputs}
    return {*computed, *graph.initializers, *(value.name for value in graph.inputs)}


def unused_name(stem: str, taken: Collection[str | None]) -> str:
    """`stem`, numbered where it is taken."""
    names = itertools.chain([stem], (f"{stem}_{number}" for number in itertools.count(2)))
    return next(name for name in names if name not in taken)
