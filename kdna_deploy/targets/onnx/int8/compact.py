"""What a file with weights in int8 can do without: half of the bytes around the weights of a small network.

    zero point 0                   left out of kernels and biases: it is what a missing one means
    shapes of intermediate values  left out: runtimes infer them, but for those of repeated gates (`cpu_layout`)
    default attributes of layers   left out: strides and dilations of 1, one group, padding as it is given
    names of QDQ nodes and scales  made short; layers and kernels keep theirs

A network of two megabytes in float32 has half a megabyte of codes, and the quantiser's names, zeros and shapes would
add a fifth to that.

Does not apply to graphs for TensorRT: beside their float biases ONNX Runtime needs the zero points of kernels.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from kdna_deploy.graph.passes.result import PassResult

_QDQ = {"QuantizeLinear", "DequantizeLinear"}
_DEFAULTS: dict[str, Callable[[ir.Attr], bool]] = {
    "auto_pad": lambda value: value.as_string() == "NOTSET",
    "dilations": lambda value: set(value.as_ints()) == {1},
    "group": lambda value: value.as_int() == 1,
    "strides": lambda value: set(value.as_ints()) == {1},
}


def compact(model: ir.Model) -> PassResult:
    """Make a quantised model smaller. Changes are zero points, attributes, shapes and names, none what it computes."""
    changed = _drop_zero_points(model.graph) + _drop_defaults(model.graph)
    RemoveUnusedNodesPass()(model)
    changed += _shorten_names(model.graph)
    return PassResult(changed + _drop_shapes(model.graph))


def _drop_zero_points(graph: ir.Graph) -> int:
    """Of the kernels and biases of convolutions: other operators lose their 8-bit kernels without (ORT 1.31)."""
    changed = 0
    for constant in (value for node in graph if node.op_type == "Conv" for value in node.inputs[1:]):
        made_by = constant.producer() if constant is not None else None
        if made_by is None or made_by.op_type != "DequantizeLinear" or len(made_by.inputs) < 3:
            continue
        zero = ir.convenience.get_const_tensor(made_by.inputs[2]) if made_by.inputs[2] else None
        if zero is not None and not zero.numpy().any():
            made_by.resize_inputs(2)
            changed += 1
    return changed


def _drop_defaults(graph: ir.Graph) -> int:
    changed = 0
    for node in (node for node in graph if node.op_type == "Conv"):
        for name in [name for name, value in node.attributes.items() if name in _DEFAULTS and _DEFAULTS[name](value)]:
            del node.attributes[name]
            changed += 1
    return changed


def _drop_shapes(graph: ir.Graph) -> int:
    nodes = (node for node in graph if node.op_type != "Resize")
    inner = [value for node in nodes for value in node.outputs if not value.is_graph_output()]
    changed = sum(value.type is not None or value.shape is not None for value in inner)
    for value in (*inner, *graph.initializers.values()):  # a constant's are those of its tensor
        value.type = value.shape = None
        value.metadata_props.clear()
    return changed


def _shorten_names(graph: ir.Graph) -> int:
    """Values between nodes, scales and QDQ nodes are numbered. What a layer is called, and its kernel, is kept."""
    read = [value for node in graph for value in (*node.inputs, *node.outputs) if value is not None and value.name]
    kept = {*graph.inputs, *graph.outputs, *filter(_is_kernel, graph.initializers.values())}
    taken = {value.name for value in kept}
    short = [value for value in dict.fromkeys(read) if value not in kept]
    names = [_short(number, taken) for number in range(len(short))]
    changed = sum(value.name != name for value, name in zip(short, names, strict=True))
    ir.convenience.rename_values(short, names)
    for node in graph:
        if node.op_type in _QDQ:
            changed += bool(node.name)
            node.name = ""
    return changed


def _is_kernel(constant: ir.Value) -> bool:
    """Whether it has more than a number for each filter, which scales and modulations have."""
    sizes = [size for size in constant.shape or () if size != 1]
    return len(sizes) > 1


def _short(number: int, taken: Collection[str | None]) -> str:
    name = format(number, "x")
    return name if name not in taken else f"{name}_"
