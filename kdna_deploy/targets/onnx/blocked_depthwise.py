"""Depthwise convolutions whose kernel is computed, in the layout of blocks that fixed kernels have.

    Conv(x [1, c, h, w], W [c, 1, k, k], groups = c)  →  back(BlockedConv(blocks(x), W as [c/b, k, k, b]))

ONNX Runtime lays out (`runtimes.blocked_layout`) only convolutions with a constant kernel. A depthwise one that is put
together for each image is computed as c products of a single row, copies of its map included, which took 1.5 to 9 times
as long on an AMD EPYC with AVX-512. The operator of the layout takes its kernel as an input like any other, so that two
reorderings and a small transpose give it what it takes.

For what ONNX Runtime has optimised already, and for processors with blocks of b channels: prepared files. Does not
apply where c is not a whole number of blocks, and to dense convolutions: their kernels are large, and transposing one
takes longer than the layout gains.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper, shape_inference

from kdna_deploy.runtimes.blocked_layout import DOMAIN

_CONVOLUTIONS = (("", "Conv"), ("com.microsoft", "FusedConv"))


def block_depthwise(model: onnx.ModelProto, portable: onnx.ModelProto, block: int) -> int:
    """Lay out the depthwise convolutions of `model` that have computed kernels, in blocks of `block` channels.

    Args:
        model: what ONNX Runtime made of `portable`, whose values it calls as they were called; changed in place.
        portable: tells the shapes of kernels.
        block: channels of a block.

    Returns:
        how many there were.
    """
    graphs = list(_graphs(model.graph))
    constants = {tensor.name for graph in graphs for tensor in graph.initializer}
    computed = {node.input[1] for graph in graphs for node in graph.node if _is_grouped(node)} - constants
    if not computed:
        return 0
    inferred = _graphs(shape_inference.infer_shapes(portable).graph)
    kernels = {value.name: _shape(value) for graph in inferred for value in graph.value_info if value.name in computed}
    changed = sum(_block_graph(graph, kernels, block) for graph in graphs)
    if changed and all(opset.domain != DOMAIN for opset in model.opset_import):
        model.opset_import.append(helper.make_opsetid(DOMAIN, 1))
    return changed


def _graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """`graph` and the bodies in it."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from _graphs(attribute.g)


def _shape(value: onnx.ValueInfoProto) -> tuple[int, ...]:
    """Its sizes, 0 where one is not known."""
    return tuple(one.dim_value for one in value.type.tensor_type.shape.dim)


def _block_graph(graph: onnx.GraphProto, kernels: Mapping[str, tuple[int, ...]], block: int) -> int:
    changed, nodes = 0, []
    for node in graph.node:
        kernel = kernels.get(node.input[1], ()) if _is_grouped(node) else ()
        if _is_depthwise(node, kernel, block):
            nodes += _Blocked(graph, node, kernel, block).nodes()
            changed += 1
        else:
            nodes.append(node)
    del graph.node[:]
    graph.node.extend(nodes)
    return changed


def _is_grouped(node: onnx.NodeProto) -> bool:
    """Whether it is a convolution in groups, and adds no other map as well."""
    return (node.domain, node.op_type) in _CONVOLUTIONS and len(node.input) <= 3 and _groups(node) > 1


def _groups(node: onnx.NodeProto) -> int:
    return next((one.i for one in node.attribute if one.name == "group"), 1)


def _is_depthwise(node: onnx.NodeProto, kernel: tuple[int, ...], block: int) -> bool:
    return len(kernel) == 4 and min(kernel) > 0 and kernel[:2] == (_groups(node), 1) and kernel[0] % block == 0


@dataclass(frozen=True)
class _Blocked:
    """What takes the place of a convolution: kernel and map in blocks, their convolution, and its map as it was."""

    graph: onnx.GraphProto
    node: onnx.NodeProto
    kernel: tuple[int, ...]
    block: int

    def nodes(self) -> list[onnx.NodeProto]:
        channels, _, height, width = self.kernel
        split = self._sizes("split", (channels // self.block, self.block, height * width))
        whole = self._sizes("whole", self.kernel)
        image, kernel, *bias = self.node.input
        convolution = self._node("Conv", [self._name("map"), self._name("kernel"), *bias], "convolved", DOMAIN)
        convolution.attribute.extend(self.node.attribute)
        back = self._node("ReorderOutput", [self._name("convolved")], "back", DOMAIN, channels=channels)
        back.output[0] = self.node.output[0]
        return [
            self._node("Reshape", [kernel, split], "rows"),
            self._node("Transpose", [self._name("rows")], "columns", perm=[0, 2, 1]),
            self._node("Reshape", [self._name("columns"), whole], "kernel"),
            self._node("ReorderInput", [image], "map", DOMAIN),
            convolution,
            back,
        ]

    def _name(self, made: str) -> str:
        return f"{self.node.output[0]}/blocks/{made}"

    def _node(self, operator: str, inputs: list[str], made: str, domain: str = "", **attributes: Any) -> onnx.NodeProto:
        name = self._name(made)
        return helper.make_node(operator, inputs, [name], name, domain=domain, **attributes)

    def _sizes(self, made: str, sizes: tuple[int, ...]) -> str:
        self.graph.initializer.append(numpy_helper.from_array(np.array(sizes, np.int64), self._name(made)))
        return self._name(made)
