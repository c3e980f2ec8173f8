"""Small convolutional networks as ONNX files, and their quantised forms, for the tests of the int8 transforms."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from kdna_deploy.runtimes.ort import OrtSession
from kdna_deploy.targets.onnx.int8.calibration import calibrate
from kdna_deploy.targets.onnx.int8.quantize import QuantisedFor, quantise

Array = np.ndarray
SIZE = 6


def chain(kernels: Mapping[str, Array], biases: Mapping[str, Array] | None = None) -> onnx.ModelProto:
    """Convolutions one after another, each named by its kernel, of images that keep their size."""
    biases = biases or {}
    nodes, stored, value = [], [], "x"
    for name, kernel in kernels.items():
        stored.append(numpy_helper.from_array(kernel, f"{name}.weight"))
        bias = biases.get(name, np.zeros(len(kernel), np.float32))
        stored.append(numpy_helper.from_array(bias, f"{name}.bias"))
        inputs = [value, f"{name}.weight", f"{name}.bias"]
        nodes.append(helper.make_node("Conv", inputs, [f"{name}.y"], name=name, pads=[kernel.shape[-1] // 2] * 4))
        value = f"{name}.y"
    first, last = next(iter(kernels.values())), list(kernels.values())[-1]
    graph = helper.make_graph(
        nodes,
        "chain",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", first.shape[1], SIZE, SIZE])],
        [helper.make_tensor_value_info(value, TensorProto.FLOAT, ["n", len(last), SIZE, SIZE])],
        stored,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


def images(channels: int, seed: int = 0, count: int = 8) -> Array:
    return np.random.default_rng(seed).standard_normal((count, channels, SIZE, SIZE)).astype(np.float32)


def quantised(model: onnx.ModelProto, folder: Path, target: QuantisedFor = "cpu") -> onnx.ModelProto:
    """`model` quantised with ranges from random images."""
    path = folder / "float.onnx"
    onnx.save_model(model, path)
    channels = model.graph.input[0].type.tensor_type.shape.dim[1].dim_value
    return quantise(path, calibrate(path, [images(channels)], "minmax"), (), target)


def run(model: onnx.ModelProto, folder: Path, batch: Array) -> Array:
    path = folder / "run.onnx"
    onnx.save_model(model, path)
    return OrtSession(path, threads=1).run(batch)


def operators(model: onnx.ModelProto) -> Counter[str]:
    return Counter(node.op_type for node in model.graph.node)


def producers(graph: onnx.GraphProto) -> dict[str, onnx.NodeProto]:
    return {output: node for node in graph.node for output in node.output}


def constants(graph: onnx.GraphProto) -> dict[str, Array]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}


def dequantised(model: onnx.ModelProto) -> dict[str, Array]:
    """Name of each convolution → the kernel that it computes with."""
    made, stored = producers(model.graph), constants(model.graph)
    found = {}
    for node in model.graph.node:
        if node.op_type == "Conv":
            codes, scale = made[node.input[1]].input[:2]
            while codes not in stored:  # a parent's, through the `Reshape` of each child
                codes = made[codes].input[0]
            found[node.name] = stored[codes].astype(np.float64) * stored[scale].reshape(-1, 1, 1, 1)
    return found
