"""Channel attention spelled so that ONNX Runtime's CPU provider stays in its blocked layout.

    x ⊙ β                    →  x ⊙ resize(β)           β [n, c, 1, 1] repeated to [n, c, h, w], nearest neighbour
    FC2 · ReLU(FC1 · + b₁)   →  the same function with hidden channels filled up with zeros to a multiple of 16

The provider keeps feature maps in blocks of 8 or 16 channels. It leaves that layout for a product that broadcasts, with
a reorder of the whole map before and after it, and for a convolution whose input channels do not fill the blocks. A
product of equal shapes stays in blocks, and nearest-neighbour resizing has a blocked kernel. The function is the same,
the product bit for bit. Costs and gains of each form are in docs/performance.md.

Does not apply where the size of the map or of the batch is not known, to constant gates, to a gate whose hidden layer
is not followed by ReLU (zeros would not stay zeros) or reads its channels in groups (they would be dealt out anew), or
to weights that something else reads or a session may override.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from kdna_deploy.graph.passes.result import PassResult
from kdna_deploy.targets.onnx.constants import add_constant, unused_name, value_names
from kdna_deploy.targets.onnx.dynamic_convolution import touches_dynamic

# The widest block of channels in use (AVX-512); a multiple of it fills narrower blocks too.
BLOCK = 16


def widen_gates(model: ir.Model) -> PassResult:
    """Repeat every gate to the size of the map that it scales; a change is a product."""
    changed = 0
    repeats: dict[tuple[ir.Value, tuple[int, int]], ir.Value] = {}
    for node in list(model.graph):
        position = _gate_position(node)
        if position is None or touches_dynamic(node):
            continue
        gate, feature_map = node.inputs[position], node.inputs[1 - position]
        size = _spatial(feature_map)
        assert gate is not None and feature_map is not None and feature_map.shape is not None and size is not None
        # Maps of one size share the repeat of a gate that they share. It stands before the first of them.
        if (gate, size) not in repeats:
            repeats[gate, size] = _repeat(model.graph, node, gate, feature_map.shape)
        node.replace_input_with(position, repeats[gate, size])
        changed += 1
    return PassResult(changed)


def _gate_position(node: ir.Node) -> int | None:
    """Which operand of a pre-scale is the gate; None for anything else."""
    if not _is(node, "Mul"):
        return None
    sizes = [_spatial(value) for value in node.inputs]
    if None in sizes or sizes.count((1, 1)) != 1:
        return None
    one, other = (value.shape[:2] for value in node.inputs if value is not None and value.shape is not None)
    position = sizes.index((1, 1))
    gate = node.inputs[position]
    if gate is None or ir.convenience.get_const_tensor(gate) is not None:
        return None
    return position if one == other and all(_is_known(size) for size in one) else None


def _is_known(size: int | ir.SymbolicDim) -> bool:
    """Whether a size is a number or has a name: two without one need not be equal."""
    return isinstance(size, int) or size.value is not None


def _is(node: ir.Node, operator: str) -> bool:
    return node.op_type == operator and node.domain in ("", "ai.onnx")


def _spatial(value: ir.Value | None) -> tuple[int, int] | None:
    """Height and width of an image batch, where both are numbers."""
    if value is None or value.shape is None or len(value.shape) != 4:
        return None
    h, w = value.shape[2], value.shape[3]
    return (h, w) if isinstance(h, int) and isinstance(w, int) else None


def _repeat(graph: ir.Graph, before: ir.Node, gate: ir.Value, shape: ir.Shape) -> ir.Value:
    h, w = shape[2], shape[3]
    assert isinstance(h, int) and isinstance(w, int)
    resize = ir.node(
        "Resize",
        [gate, None, _scales(graph, h, w)],
        {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"},
        name=unused_name(f"{before.name}_repeat", {node.name for node in graph}),
    )
    wide = resize.outputs[0]
    wide.name = unused_name(f"{gate.name}_{h}x{w}", value_names(graph))
    wide.type = gate.type
    # Written down, for the runtime cannot infer that a dynamic batch stays the same, and would not trust the product.
    wide.shape = ir.Shape(shape)
    graph.insert_before(before, resize)
    return wide


def _scales(graph: ir.Graph, h: int, w: int) -> ir.Value:
    """The constant by which `Resize` multiplies each axis, one for all gates that are repeated alike."""
    name, scales = f"repeat_{h}x{w}", np.array([1, 1, h, w], np.float32)
    present = graph.initializers.get(name)
    held = _own_array(present, uses=None)
    if present is not None and held is not None and np.array_equal(held, scales):
        return present
    return add_constant(graph, name, scales)


def fill_hidden_channels(model: ir.Model) -> PassResult:
    """Fill the hidden channels of every gate up with zeros to a multiple of `BLOCK`; a change is a gate."""
    return PassResult(sum(_fill(model.graph, node) for node in list(model.graph)))


def _fill(graph: ir.Graph, second: ir.Node) -> bool:
    if not _is_plain_conv(second) or _spatial(second.inputs[0]) != (1, 1):
        return False
    relu = second.inputs[0].producer() if second.inputs[0] else None
    first = relu.inputs[0].producer() if relu is not None and _is(relu, "Relu") and relu.inputs[0] else None
    if relu is None or first is None or not _is_plain_conv(first) or not _only_here(relu) or not _only_here(first):
        return False
    weights = [_own_array(value) for value in (first.inputs[1], second.inputs[1], *_bias(first))]
    if any(array is None for array in weights):
        return False
    hidden = weights[0].shape[0]  # type: ignore[union-attr]
    missing = -hidden % BLOCK
    if not missing or weights[1].shape[1] != hidden:  # type: ignore[union-attr]
        return False
    _extend(graph, first, 1, 0, missing)
    _extend(graph, second, 1, 1, missing)
    if _bias(first):
        _extend(graph, first, 2, 0, missing)
    for value in (first.outputs[0], relu.outputs[0]):
        if value.shape is not None:
            value.shape = ir.Shape([value.shape[0], hidden + missing, *value.shape[2:]])
    return True


def _is_plain_conv(node: ir.Node) -> bool:
    """Whether every filter reads every channel: groups would deal out a longer list of channels anew."""
    return _is(node, "Conv") and node.attributes.get_int("group", 1) == 1


def _bias(conv: ir.Node) -> list[ir.Value]:
    return [value for value in conv.inputs[2:] if value is not None]


def _only_here(node: ir.Node) -> bool:
    return len(node.outputs[0].uses()) == 1 and not node.outputs[0].is_graph_output()


def _own_array(value: ir.Value | None, uses: int | None = 1) -> np.ndarray | None:
    """A constant that `uses` inputs read and that no session can override: an initializer that is an input can be."""
    if value is None or value.is_graph_input() or value.is_graph_output():
        return None
    tensor = ir.convenience.get_const_tensor(value)
    return tensor.numpy() if tensor is not None and uses in (None, len(value.uses())) else None


def _extend(graph: ir.Graph, node: ir.Node, position: int, axis: int, missing: int) -> None:
    """Append zeros to a constant input of `node` along `axis`."""
    value = node.inputs[position]
    array = _own_array(value)
    assert value is not None and array is not None
    widths = [(0, missing if i == axis else 0) for i in range(array.ndim)]
    node.replace_input_with(position, add_constant(graph, f"{value.name}_filled", np.pad(array, widths)))
