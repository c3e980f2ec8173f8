"""What a file quantised for a CPU can do without: half of the bytes around the weights of a small network.

    zero point 0                   left out of kernels and biases: it is what a missing one means
    shapes of intermediate values  left out: runtimes infer them
    names of QDQ nodes and scales  made short; layers and kernels keep theirs

A network of two megabytes in float32 has half a megabyte of codes, and the quantiser's names, zeros and shapes would
add a fifth to that.

Does not apply to graphs whose shapes a runtime could not infer again (`cpu_layout` writes such ones down), and to those
for TensorRT: beside their float biases ONNX Runtime needs the zero points of kernels.
"""

from __future__ import annotations

import onnx
from onnx import numpy_helper

_QDQ = {"QuantizeLinear", "DequantizeLinear"}


def compact(model: onnx.ModelProto) -> None:
    """Make a quantised model smaller, in place; what it computes stays the same."""
    del model.graph.value_info[:]
    _drop_zero_points(model.graph)
    _drop_unused(model.graph)
    _shorten_names(model.graph)


def _drop_zero_points(graph: onnx.GraphProto) -> None:
    """Of the kernels and biases of convolutions: other operators lose their 8-bit kernels without (ORT 1.31)."""
    zero = {t.name for t in graph.initializer if not numpy_helper.to_array(t).any()}
    constants = {name for node in graph.node if node.op_type == "Conv" for name in node.input[1:]}
    for node in graph.node:
        if (
            node.op_type == "DequantizeLinear"
            and node.output[0] in constants
            and node.input[2:]
            and node.input[2] in zero
        ):
            del node.input[2]


def _drop_unused(graph: onnx.GraphProto) -> None:
    used = {name for node in graph.node for name in node.input}
    for tensor in [t for t in graph.initializer if t.name not in used]:
        graph.initializer.remove(tensor)


def _shorten_names(graph: onnx.GraphProto) -> None:
    """Values between nodes, scales and QDQ nodes are numbered. What a layer is called, and its kernel, is kept."""
    fixed = {value.name for value in (*graph.input, *graph.output)}
    kept = fixed | {tensor.name for tensor in graph.initializer if len(tensor.dims) > 1}
    new: dict[str, str] = {}
    for node in graph.node:
        if node.op_type in _QDQ:
            node.name = ""
        for names in (node.input, node.output):
            for position, name in enumerate(names):
                if name and name not in kept:
                    names[position] = new.setdefault(name, _short(len(new), kept))
    for tensor in graph.initializer:
        tensor.name = new.get(tensor.name, tensor.name)


def _short(number: int, kept: set[str]) -> str:
    name = format(number, "x")
    return name if name not in kept else f"{name}_"
