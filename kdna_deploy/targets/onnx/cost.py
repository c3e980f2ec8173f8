"""Multiply-accumulates and stored numbers of an ONNX file, counted on the file itself.

    MACs = Σ Conv: outputs · (c/g)·k·k  +  Σ Gemm, MatMul: outputs · inner size         for one image

Does not apply to operators that ONNX's shape inference cannot follow: they count nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import onnx
from onnx import numpy_helper

from kdna_deploy.errors import ArtifactError
from kdna_deploy.runtimes.onnx_file import read_model
from kdna_deploy.runtimes.prepared import record_in


@dataclass(frozen=True)
class OnnxCost:
    """Counts of an ONNX file: `stored` numbers in its initialisers, `macs` for one image."""

    stored: int
    macs: int


def count_onnx(path: Path) -> OnnxCost:
    """Count an ONNX file; of a prepared one, what the portable file counts.

    Raises:
        ArtifactError: the file is no ONNX model.
    """
    model = read_model(path, weights=False)
    if prepared := record_in(model, path):  # its channels are filled up to whole blocks
        return OnnxCost(prepared.stored, prepared.macs)
    try:
        model = onnx.shape_inference.infer_shapes(model)
    except onnx.shape_inference.InferenceError as error:
        raise ArtifactError(f"The shapes in '{path}' make no sense; export it again.") from error
    shapes = _shapes(model)
    return OnnxCost(
        stored=sum(math.prod(tensor.dims) for tensor in model.graph.initializer),
        macs=sum(_macs(node, shapes) for node in model.graph.node),
    )


def _shapes(model: onnx.ModelProto) -> dict[str, tuple[int, ...]]:
    """Value name → shape, a dynamic axis (the batch) counted as one."""
    graph = model.graph
    shapes = {
        value.name: tuple(dim.dim_value or 1 for dim in value.type.tensor_type.shape.dim)
        for value in (*graph.input, *graph.value_info, *graph.output)
    }
    shapes.update({tensor.name: tuple(tensor.dims) for tensor in graph.initializer})
    for node in graph.node:
        if node.op_type == "Constant":
            value = next((a.t for a in node.attribute if a.name == "value"), None)
            if value is not None:
                shapes[node.output[0]] = numpy_helper.to_array(value).shape
    return shapes


def _macs(node: onnx.NodeProto, shapes: dict[str, tuple[int, ...]]) -> int:
    outputs = math.prod(shapes.get(node.output[0], ())) if node.output[0] in shapes else 0
    if node.op_type == "Conv":
        # With a fixed batch of n the first axis of the output counts n images.
        return outputs // max(shapes[node.output[0]][0], 1) * math.prod(shapes[node.input[1]][1:]) if outputs else 0
    if node.op_type in ("Gemm", "MatMul") and outputs and node.input[0] in shapes:
        transposed = any(a.name == "transA" and a.i for a in node.attribute)
        inner = shapes[node.input[0]][0 if transposed else -1]
        return outputs // max(shapes[node.output[0]][0], 1) * inner
    return 0
