"""Convolutions with a kernel for each image in ONNX, whose `Conv` takes one kernel for the batch.

    y[i] = conv(x[i], W[i]) + b          x [n, c, h, w]    W [n, c', c/g, k, k]

    a batch of 1          Conv with a computed kernel
    a fixed batch         Conv with n·g groups over [1, n·c, h, w]
    any batch, 1×1        MatMul W [n, c', c] · x [n, c, h·w]
    … of blocks           Σ_b MatMul W_b [c', c/b] · x_b [c/b, h·w], of small maps on ONNX Runtime: cheaper than to put
                          blocks of input channels side by side
    any batch             Scan over the images (ONNX Runtime), or Loop, which TensorRT takes, and Scan not

The translation writes one node of a domain of our own, and `lower` these, by what the file is for. What was measured is
in docs/design.md, kernels for each image.

Does not apply: ordinary convolutions.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir

from kdna_deploy.graph.passes.result import PassResult
from kdna_deploy.targets.onnx.computed_kernels import DOMAIN, OPERATOR
from kdna_deploy.targets.onnx.constants import add_constant, unused_name, value_names

# Pixels of a map up to which blocks are multiplied one by one and summed: 15 % sooner at 7×7, no sooner at 14×14.
_SMALL_MAP = 64


def lower(model: ir.Model, scan: bool) -> PassResult:
    """Write every dynamic convolution of `model` with ONNX's own operators; of any batch by `Scan`, or `Loop`."""
    found = [node for node in model.graph if (node.domain, node.op_type) == (DOMAIN, OPERATOR)]
    for node in found:
        _Lowering(model.graph, node).write(scan)
    model.graph.opset_imports.pop(DOMAIN, None)
    return PassResult(len(found))


def touches_dynamic(node: ir.Node) -> bool:
    """Whether `node` reads what a dynamic convolution made, or makes what one reads, in a model that is lowered."""
    made = [value.producer() for value in node.inputs if value is not None]
    read = [use.node for value in node.outputs for use in value.uses()]
    return any(other is not None and f"/{OPERATOR}" in (other.name or "") for other in (*made, *read))


@dataclass(frozen=True)
class _Body:
    """A graph of one image, its values by name."""

    inputs: list[ir.Value]
    nodes: list[ir.Node]
    outputs: list[ir.Value]


class _Lowering:
    """One dynamic convolution on its way."""

    def __init__(self, graph: ir.Graph, node: ir.Node) -> None:
        self.graph, self.node = graph, node
        self.x, self.weight = _known(node.inputs[0]), _known(node.inputs[1])
        self.bias = _known(node.inputs[2]) if len(node.inputs) > 2 else None
        self.settings = {name: node.attributes.get_ints(name) for name in ("strides", "pads", "dilations")}
        self.group = node.attributes.get_int("group", 1)
        self.kernel = [size for size in _shape(self.weight)[1:] if isinstance(size, int)]
        self.result = node.outputs[0]
        # Those of the inner graphs too, which see the values around them.
        self.taken: set[str | None] = {*value_names(graph), *(other.name for other in graph)}

    def write(self, scan: bool) -> None:
        if scan:
            self._repeat_spatial_attention()
        batch = _shape(self.x)[0]
        blocks = self._blocks() if scan else None
        if blocks is not None:
            made = self._sum_of_blocks(*blocks)
        elif batch == 1:
            made = self._one()
        elif isinstance(batch, int):
            made = self._grouped(batch)
        elif self._is_pointwise():
            made = self._with_bias(self._product())
        else:
            made = self._scan() if scan else self._loop()
        made.shape, made.type = self.result.shape, self.result.type
        self.result.replace_all_uses_with(made, replace_graph_outputs=True)
        made.name = self.result.name
        self.graph.remove(self.node, safe=True)

    def _repeat_spatial_attention(self) -> None:
        """W [n, c', c, k, k] ⊙ s [n, 1, 1, k, k]: repeat s for all c. Products of k·k numbers at a time are slow."""
        product = self.weight.producer()
        if product is None or product.op_type != "Mul":
            return
        for position, value in enumerate(product.inputs):
            shape = list(_shape(_known(value)))
            if len(shape) == len(self.kernel) + 1 and shape[1:3] == [1, 1] != self.kernel[:2] and 1 not in shape[3:]:
                channels = np.array([1, 1, self.kernel[1], *[1] * len(shape[3:])], np.int64)
                wide = self._inner("Expand", value, self._constant("channels", channels))
                wide.outputs[0].shape = ir.Shape([shape[0], 1, self.kernel[1], *shape[3:]])
                self.graph.insert_before(product, wide)
                product.replace_input_with(position, wide.outputs[0])

    def _one(self) -> ir.Value:
        kernel = self._reshape(self.weight, self.kernel)
        return self._convolution(self.x, kernel, self._of_one_image(self.bias))

    def _grouped(self, batch: int) -> ir.Value:
        filters = self.kernel[0]
        image = self._reshape(self.x, [1, -1, *self._axes(self.x)])
        kernel = self._reshape(self.weight, [batch * filters, *self.kernel[1:]])
        y = self._convolution(image, kernel, self._of_all_images(batch), self.group * batch)
        return self._reshape(y, [batch, filters, *self._axes(self.result)])

    def _product(self) -> ir.Value:
        filters, channels = self.kernel[:2]
        kernel = self._reshape(self.weight, [-1, filters, channels])
        columns = self._reshape(self.x, [0, channels, -1])
        return self._reshape(self._node("MatMul", kernel, columns), [-1, filters, *self._axes(self.result)])

    def _blocks(self) -> tuple[ir.Value, int] | None:
        """What W of a small map is put together of, [rows, b, c'/rows, c/b] for each image, and b; None for other W."""
        sizes = self._axes(self.result)
        made = self.weight.producer()
        while made is not None and made.op_type == "Reshape" and made.inputs[0] is not None:
            made = made.inputs[0].producer()
        if not self._is_pointwise() or math.prod(sizes) > _SMALL_MAP or made is None or made.op_type != "Transpose":
            return None
        source = _known(made.inputs[0])
        shape = _shape(source)
        if list(made.attributes.get_ints("perm", [])) != [0, 2, 1, 3] or len(shape) != 4:
            return None
        blocks, rows, columns = (size if isinstance(size, int) else 0 for size in shape[1:])
        fits = blocks * columns == self.kernel[1] and rows and self.kernel[0] % rows == 0
        return (source, blocks) if fits else None

    def _sum_of_blocks(self, parts: ir.Value, blocks: int) -> ir.Value:
        filters, channels = self.kernel[0], self.kernel[1] // blocks
        height = _shape(parts)[2]
        assert isinstance(height, int)
        kernel = self._reshape(parts, [-1, filters // height, blocks, height, channels])
        columns = self._reshape(self.x, [-1, 1, blocks, channels, math.prod(self._axes(self.x))])
        products = self._node("MatMul", kernel, columns)
        total = self._node("ReduceSum", products, self._constant("axes", np.array([2], np.int64)), keepdims=0)
        return self._with_bias(self._reshape(total, [-1, filters, *self._axes(self.result)]))

    def _with_bias(self, y: ir.Value) -> ir.Value:
        if self.bias is None:
            return y
        shape = [-1, self.kernel[0], *[1] * (len(_shape(self.x)) - 2)]
        if self.bias.const_value is None:
            return self._node("Add", y, self._reshape(self.bias, shape))
        held = add_constant(self.graph, f"{self.bias.name}/map", self.bias.const_value.numpy().reshape(shape))
        return self._node("Add", y, held)

    def _scan(self) -> ir.Value:
        own = self._of_each_image()
        body = self._image_graph([_like(value, _shape(value)[1:]) for value in own])
        graph = ir.Graph(body.inputs, body.outputs, nodes=body.nodes, name=f"{self.node.name}/image")
        return self._node("Scan", *own, body=ir.AttrGraph("body", graph), num_scan_inputs=len(own))

    def _loop(self) -> ir.Value:
        own = self._of_each_image()
        count = self._node("Squeeze", self._node("Shape", self.x, start=0, end=1, dtype=ir.DataType.INT64))
        index = ir.Value(name=self._name("index"), shape=ir.Shape([]), type=ir.TensorType(ir.DataType.INT64))
        going = ir.Value(name=self._name("going"), shape=ir.Shape([]), type=ir.TensorType(ir.DataType.BOOL))
        taken = [self._inner("Gather", value, index, axis=0) for value in own]
        for node, value in zip(taken, own, strict=True):
            node.outputs[0].shape = ir.Shape(_shape(value)[1:])
        body = self._image_graph([node.outputs[0] for node in taken])
        goes_on = self._inner("Identity", going)
        goes_on.outputs[0].shape = ir.Shape([])
        graph = ir.Graph(
            [index, going],
            [goes_on.outputs[0], *body.outputs],
            nodes=[goes_on, *taken, *body.nodes],
            name=f"{self.node.name}/image",
        )
        true = self._constant("true", np.array(True))
        return self._node("Loop", count, true, body=ir.AttrGraph("body", graph))

    def _image_graph(self, image: list[ir.Value]) -> _Body:
        """One image of the batch: x [c, h, w], W [c', c/g, k, k] and where there is one its own b [c']."""
        first = self._constant("first_axis", np.array([0], np.int64))
        bias = image[2] if len(image) > 2 else self.bias
        unsqueezed = self._inner("Unsqueeze", image[0], first)
        inputs = [unsqueezed.outputs[0], image[1]] + ([bias] if bias is not None else [])
        convolution = self._inner("Conv", *inputs, **self._attributes(self.group))
        size = _shape(self.result)[1:]
        convolution.outputs[0].shape = ir.Shape([1, *size])
        squeezed = self._inner("Squeeze", convolution.outputs[0], first)
        squeezed.outputs[0].shape = ir.Shape(size)
        return _Body(image, [unsqueezed, convolution, squeezed], [squeezed.outputs[0]])

    def _is_pointwise(self) -> bool:
        plain = all(set(self.settings[name]) == {value} for name, value in (("strides", 1), ("pads", 0)))
        known = all(isinstance(size, int) for size in _shape(self.result)[2:])
        return plain and known and self.group == 1 and set(self.kernel[2:]) == {1}

    def _of_each_image(self) -> list[ir.Value]:
        """The operands of which each image has its own."""
        own = [self.bias] if self.bias is not None and self._has_own_bias() else []
        return [self.x, self.weight, *own]

    def _has_own_bias(self) -> bool:
        return self.bias is not None and len(_shape(self.bias)) == 2

    def _of_one_image(self, bias: ir.Value | None) -> ir.Value | None:
        return self._reshape(bias, [self.kernel[0]]) if bias is not None and self._has_own_bias() else bias

    def _of_all_images(self, batch: int) -> ir.Value | None:
        if self.bias is None or self._has_own_bias():
            return None if self.bias is None else self._reshape(self.bias, [-1])
        return self._node("Tile", self.bias, self._constant("images", np.array([batch], np.int64)))

    def _convolution(self, x: Any, kernel: ir.Value, bias: ir.Value | None, group: int | None = None) -> ir.Value:
        inputs = [x, kernel] + ([bias] if bias is not None else [])
        return self._node("Conv", *inputs, **self._attributes(group or self.group))

    def _attributes(self, group: int) -> dict[str, Any]:
        return {"kernel_shape": self.kernel[2:], **self.settings, "group": group}

    def _axes(self, value: Any) -> list[int]:
        """Height and width, which a form that reshapes maps needs in numbers."""
        return [size if isinstance(size, int) else -1 for size in _shape(value)[2:]]

    def _reshape(self, value: Any, shape: list[int]) -> ir.Value:
        if value.shape is not None and list(value.shape) == shape:
            return value
        producer = value.producer()
        if producer is not None and producer.op_type == "Reshape" and 0 not in shape:
            value = producer.inputs[0]
        made = self._node("Reshape", value, self._constant("shape", np.array(shape, np.int64)))
        if all(size > 0 for size in shape):
            made.shape = ir.Shape(shape)
        return made

    def _constant(self, word: str, value: np.ndarray) -> ir.Value:
        name = f"{word}_{'_'.join(map(str, value.flatten().tolist()))}".replace("-1", "rest")
        known = self.graph.initializers.get(name)
        return known if known is not None else add_constant(self.graph, name, value)

    def _node(self, operator: str, *inputs: Any, dtype: ir.DataType | None = None, **attributes: Any) -> ir.Value:
        made = self._inner(operator, *inputs, dtype=dtype, **attributes)
        self.graph.insert_before(self.node, made)
        return made.outputs[0]

    def _inner(self, operator: str, *inputs: Any, dtype: ir.DataType | None = None, **attributes: Any) -> ir.Node:
        graphs = {name: value for name, value in attributes.items() if isinstance(value, ir.Attr)}
        plain = {name: value for name, value in attributes.items() if name not in graphs}
        made = ir.node(operator, inputs, plain, name=self._unused(f"{self.node.name}/{operator}"))
        for attribute in graphs.values():
            made.attributes.add(attribute)
        made.outputs[0].name = self._name(operator.lower())
        made.outputs[0].type = ir.TensorType(dtype) if dtype is not None else inputs[0].type
        return made

    def _name(self, word: str) -> str:
        return self._unused(f"{self.result.name}_{word}")

    def _unused(self, stem: str) -> str:
        name = unused_name(stem, self.taken)
        self.taken.add(name)
        return name


def _known(value: ir.Value | None) -> ir.Value:
    assert value is not None
    return value


def _shape(value: ir.Value) -> ir.Shape:
    assert value.shape is not None  # the translation writes that of every value
    return value.shape


def _like(value: ir.Value, shape: Any) -> ir.Value:
    return ir.Value(name=f"{value.name}_image", shape=ir.Shape(shape), type=value.type)
