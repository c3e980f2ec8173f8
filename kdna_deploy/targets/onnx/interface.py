"""A model of normalised images and logits → one that prepares images and answers by itself (`images.interface`).

    pixels → Cast → Transpose (of [n, h, w, c]) → Gather (to BGR) → Div 255 → Sub mean → Div std → the model
    the model → Softmax → TopK

The nodes stay apart, in float32 and in this order, whatever the model computes in: what it gets is then what Python's
code makes of the same pixels, bit for bit, and every precision, target and shared kernel has the first convolution that
it has without. Folding them, as Sub 255·mean → Conv W/(255·std), is exact but for float32's rounding (padding comes
behind the Sub, and stays right), and gains too little to be measured (docs/performance.md).

TensorRT takes pixels where they are cast before anything else. Does not apply to models in half precision at their
ends, and to outputs that are not [n, classes]: both are refused before.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir

from kdna_deploy.graph.passes.result import PassResult
from kdna_deploy.images.interface import CLASSES, KEY, PROBABILITIES, Interface
from kdna_deploy.network.stages import LOGITS
from kdna_deploy.runtimes.onnx_file import provenance_of_model, read_model, record
from kdna_deploy.targets.onnx.constants import add_constant, unused_name, value_names
from kdna_deploy.targets.onnx.names import INPUT

_FLOAT = ir.DataType.FLOAT
_BEFORE, _BEHIND = "preprocess", "postprocess"  # modules of the nodes, by which reports call them


def complete_interface(model: ir.Model, interface: Interface) -> PassResult:
    """Put before and behind `model` what `interface` asks for; a change is a node.

    The input is `input` whatever it takes; the outputs are `probabilities`, and `classes` where some are named.
    """
    before = len(model.graph)
    if interface.layout:
        _take_pixels(model.graph, interface)
    if interface.answers_probabilities:
        _answer(model.graph, interface)
    return PassResult(len(model.graph) - before)


def answering_logits(path: Path) -> onnx.ModelProto:
    """The model at `path`, which answers with probabilities, made to return the logits that it computes on its way."""
    model = read_model(path)
    made = provenance_of_model(model, path)
    assert made is not None, "our own file"
    interface = replace(made.interface(path), softmax=False, top=None, classes=None)
    record(model, made.with_options(**{KEY: interface.to_record()}))
    del model.graph.output[:]
    model.graph.output.append(onnx.helper.make_tensor_value_info(LOGITS, onnx.TensorProto.FLOAT, (None, None)))
    return model


def _take_pixels(graph: ir.Graph, interface: Interface) -> None:
    images = graph.inputs[0]
    assert images.shape is not None and images.dtype == _FLOAT
    batch, c, h, w = images.shape
    images.name = unused_name(f"{INPUT}_normalised", value_names(graph))
    taken = (batch, h, w, c) if interface.layout == "nhwc" else (batch, c, h, w)
    pixels = ir.Value(name=INPUT, shape=ir.Shape(taken), type=ir.TensorType(ir.DataType.UINT8))
    nodes = [_node(_BEFORE, "Cast", [pixels], taken, to=_FLOAT)]

    def follow(operator: str, *operands: ir.Value, **attributes: Any) -> None:
        node = _node(_BEFORE, operator, [nodes[-1].outputs[0], *operands], images.shape, **attributes)
        if any(earlier.name == node.name for earlier in nodes):
            node.name = f"{node.name}_2"
        nodes.append(node)

    if interface.layout == "nhwc":
        follow("Transpose", perm=[0, 3, 1, 2])
    prepared = interface.preprocessing
    if prepared.color == "BGR":
        follow("Gather", add_constant(graph, "bgr", np.array([2, 1, 0], np.int64)), axis=1)
    follow("Div", add_constant(graph, "white", np.array(255.0, np.float32)))
    follow("Sub", _each_channel(graph, "mean", prepared.mean))
    follow("Div", _each_channel(graph, "std", prepared.std))
    normalised = nodes[-1].outputs[0]
    images.replace_all_uses_with(normalised)
    normalised.name = images.name
    graph.inputs[0] = pixels
    graph.insert_before(graph[0], nodes)


def _answer(graph: ir.Graph, interface: Interface) -> None:
    answers = graph.outputs[0]
    assert answers.shape is not None and answers.dtype == _FLOAT
    batch, classes = answers.shape
    graph.outputs.clear()
    if interface.softmax:
        node = _node(_BEHIND, "Softmax", [answers], (batch, classes), axis=1)
        graph.append(node)
        answers = node.outputs[0]
    if interface.top is None:
        answers.name = PROBABILITIES
        graph.outputs.append(answers)
        return
    count = add_constant(graph, "named", np.array([interface.top], np.int64))
    top = ir.node("TopK", [answers, count], {"axis": 1}, num_outputs=2, name=f"{_BEHIND}/TopK")
    for value, name, dtype in zip(top.outputs, (PROBABILITIES, CLASSES), (_FLOAT, ir.DataType.INT64), strict=True):
        value.name, value.shape, value.type = name, ir.Shape([batch, interface.top]), ir.TensorType(dtype)
    graph.append(top)
    graph.outputs.extend(top.outputs)


def _each_channel(graph: ir.Graph, name: str, values: tuple[float, ...]) -> ir.Value:
    return add_constant(graph, name, np.array(values, np.float32).reshape(-1, 1, 1))


def _node(site: str, operator: str, inputs: list[ir.Value], shape: Any, **attributes: Any) -> ir.Node:
    """A node of the module `site` whose one result is float32, and named like it."""
    node = ir.node(operator, inputs, attributes, name=f"{site}/{operator}")
    value = node.outputs[0]
    value.name = f"{site}_{operator.lower()}"
    value.shape, value.type = ir.Shape(shape), ir.TensorType(_FLOAT)
    return node
