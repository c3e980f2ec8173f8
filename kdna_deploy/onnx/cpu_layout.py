"""Channel attention spelled so that ONNX Runtime's CPU provider stays in its blocked layout.

    x ⊙ β                    →  x ⊙ resize(β)           β [n, c, 1, 1] repeated to [n, c, h, w], nearest neighbour
    FC2 · ReLU(FC1 · + b₁)   →  the same function with hidden channels filled up with zeros to a multiple of 16

The provider keeps feature maps in blocks of 8 or 16 channels. It leaves that layout for a product that broadcasts, with
a reorder of the whole map before and after it, and for a convolution whose input channels do not fill the blocks. A
product of equal shapes stays in blocks, and nearest-neighbour resizing has a blocked kernel. The function is the same,
the product bit for bit. Costs and gains of each form are in docs/performance.md.

Does not apply where height or width are not known, to a gate whose hidden layer is not followed by ReLU (zeros would
not stay zeros), or to weights that something else reads too.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

# The widest block of channels in use (AVX-512); a multiple of it fills narrower blocks too.
BLOCK = 16


def widen_gates(model: ir.Model) -> int:
    """Repeat every gate to the size of the map that it scales; return how many were."""
    changed = 0
    for node in list(model.graph):
        position = _gate_position(node)
        if position is None:
            continue
        gate, feature_map = node.inputs[position], node.inputs[1 - position]
        assert gate is not None and feature_map is not None and feature_map.shape is not None
        wide = _repeat(model.graph, node, gate, feature_map.shape)
        node.replace_input_with(position, wide)
        changed += 1
    return changed


def _gate_position(node: ir.Node) -> int | None:
    """Which operand of a pre-scale is the gate; None for anything else."""
    if node.op_type != "Mul":
        return None
    sizes = [_spatial(value) for value in node.inputs]
    if None in sizes or sizes.count((1, 1)) != 1:
        return None
    one, other = (value.shape[:2] for value in node.inputs if value is not None and value.shape is not None)
    return sizes.index((1, 1)) if one == other else None


def _spatial(value: ir.Value | None) -> tuple[int, int] | None:
    """Height and width of an image batch, where both are numbers."""
    if value is None or value.shape is None or len(value.shape) != 4:
        return None
    h, w = value.shape[2], value.shape[3]
    return (h, w) if isinstance(h, int) and isinstance(w, int) else None


def _repeat(graph: ir.Graph, before: ir.Node, gate: ir.Value, shape: ir.Shape) -> ir.Value:
    h, w = shape[2], shape[3]
    name = f"repeat_{h}x{w}"
    if name not in graph.initializers:
        _add_constant(graph, name, np.array([1, 1, h, w], np.float32))
    resize = ir.node(
        "Resize",
        [gate, None, graph.initializers[name]],
        {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"},
        name=f"{before.name}_repeat",
    )
    wide = resize.outputs[0]
    wide.name = f"{gate.name}_wide"
    wide.type = gate.type
    # Written down, for the runtime cannot infer that a dynamic batch stays the same, and would not trust the product.
    wide.shape = ir.Shape(shape)
    graph.insert_before(before, resize)
    return wide


def fill_hidden_channels(model: ir.Model) -> int:
    """Fill the hidden channels of every gate up with zeros to a multiple of `BLOCK`; return how many gates changed."""
    return sum(_fill(model.graph, node) for node in list(model.graph))


def _fill(graph: ir.Graph, second: ir.Node) -> bool:
    if second.op_type != "Conv" or _spatial(second.inputs[0]) != (1, 1):
        return False
    relu = second.inputs[0].producer() if second.inputs[0] else None
    first = relu.inputs[0].producer() if relu is not None and relu.op_type == "Relu" and relu.inputs[0] else None
    if relu is None or first is None or first.op_type != "Conv" or not _only_here(relu) or not _only_here(first):
        return False
    weights = [_own_array(value) for value in (first.inputs[1], second.inputs[1], *first.inputs[2:])]
    if any(array is None for array in weights):
        return False
    hidden = weights[0].shape[0]  # type: ignore[union-attr]
    missing = -hidden % BLOCK
    if not missing or weights[1].shape[1] != hidden:  # type: ignore[union-attr]
        return False
    _extend(graph, first, 1, 0, missing)
    _extend(graph, second, 1, 1, missing)
    if len(first.inputs) > 2:
        _extend(graph, first, 2, 0, missing)
    for value in (first.outputs[0], relu.outputs[0]):
        if value.shape is not None:
            value.shape = ir.Shape([value.shape[0], hidden + missing, *value.shape[2:]])
    return True


def _only_here(node: ir.Node) -> bool:
    return len(node.outputs[0].uses()) == 1 and not node.outputs[0].is_graph_output()


def _own_array(value: ir.Value | None) -> np.ndarray | None:
    """A constant that nothing else reads."""
    tensor = ir.convenience.get_const_tensor(value) if value is not None else None
    return tensor.numpy() if tensor is not None and value is not None and len(value.uses()) == 1 else None


def _extend(graph: ir.Graph, node: ir.Node, position: int, axis: int, missing: int) -> None:
    """Append zeros to a constant input of `node` along `axis`."""
    value = node.inputs[position]
    array = _own_array(value)
    assert value is not None and array is not None
    widths = [(0, missing if i == axis else 0) for i in range(array.ndim)]
    name = f"{value.name}_filled"
    node.replace_input_with(position, _add_constant(graph, name, np.pad(array, widths)))


def _add_constant(graph: ir.Graph, name: str, array: np.ndarray) -> ir.Value:
    tensor = ir.tensor(array, name=name)
    value = ir.Value(name=name, const_value=tensor, shape=ir.Shape(array.shape), type=ir.TensorType(tensor.dtype))
    graph.register_initializer(value)
    return value
