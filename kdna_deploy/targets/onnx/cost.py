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
from kdna_deploy.images.batch import Shape
from kdna_deploy.runtimes.onnx_file import read_model
from kdna_deploy.runtimes.prepared import record_in


@dataclass(frozen=True)
class OnnxCost:
    """Counts of an ONNX file: `stored` numbers in its initialisers, `macs` for one image."""

    stored: int
    macs: int


def count_onnx(path: Path, image_shape: Shape | None = None) -> OnnxCost:
    """Count an ONNX file, for an image of `image_shape` (c, h, w) where it takes any height and width.

    Of a prepared one, what the portable file counts for an image of the size that it was made for.

    Raises:
        ArtifactError: the file is no ONNX model.
    """
    model = read_model(path, weights=False)
    if prepared := record_in(model, path):  # its channels are filled up to whole blocks
        return OnnxCost(prepared.stored, prepared.macs)
    if image_shape is not None:
        _fix_size(model.graph, image_shape)
    try:
        model = onnx.shape_inference.infer_shapes(model)
    except onnx.shape_inference.InferenceError as error:
        raise ArtifactError(f"The shapes in '{path}' make no sense; export it again.") from error
    shapes = _shapes(model)
    return OnnxCost(
        stored=sum(math.prod(tensor.dims) for tensor in model.graph.initializer),
        macs=sum(_macs(node, shapes) for node in model.graph.node),
    )


def _fix_size(graph: onnx.GraphProto, image_shape: Shape) -> None:
    """Give a height and width to the input that has only names for them, and take the shapes away that follow."""
    sizes = graph.input[0].type.tensor_type.shape.dim[1:] if graph.input else []
    unknown = [dim for dim in sizes if not dim.HasField("dim_value")]  # wherever the channels are
    if len(sizes) != len(image_shape) or not unknown:
        return
    for dim, size in zip(unknown, image_shape[-len(unknown) :], strict=True):
        dim.dim_value = size
    del graph.value_info[:]
    for output in graph.output:
        for dim in output.type.tensor_type.shape.dim:
            dim.ClearField("dim_param")


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
