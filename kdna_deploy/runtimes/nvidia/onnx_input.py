"""The ONNX file that an engine is built from: read, and its one image input, precision and provenance told.

Engines are run with float32 images and logits, or with what a file of ours says that it takes and returns; one that
takes or returns half precision (``--half-io``) is refused.

An engine's precision is the graph's: int8 where it quantises, fp16 where a convolution has float16 kernels, fp32
otherwise, also where kernels are stored in half precision and cast back.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import onnx

from kdna_deploy.errors import ArtifactError
from kdna_deploy.files import file_sha256
from kdna_deploy.graph.provenance import Provenance
from kdna_deploy.images.interface import CLASSES, PLAIN, Interface
from kdna_deploy.network.stages import are_stages
from kdna_deploy.precision import GraphPrecision
from kdna_deploy.runtimes.onnx_file import provenance_of_model, read_model
from kdna_deploy.runtimes.prepared import require_portable


@dataclass(frozen=True)
class OnnxInput:
    """An ONNX file with one image input.

    Attributes:
        path: the file.
        sha256: of its bytes, those of a weights file beside it not included.
        model: without the weights that lie beside it.
        name: of the input.
        batch: the fixed batch size, or None.
        image_shape: (c, h, w).
        precision: that the graph computes its convolutions in.
        provenance: None where the file has none.
        interface: what the file takes and returns.
    """

    path: Path
    sha256: str
    model: onnx.ModelProto
    name: str
    batch: int | None
    image_shape: tuple[int, int, int]
    precision: GraphPrecision
    provenance: Provenance | None
    interface: Interface = PLAIN


def read_onnx(path: Path) -> OnnxInput:
    """Read the ONNX file at `path`.

    Raises:
        ArtifactError: there is none, it is damaged, prepared for a CPU, or does not take images of one size.
    """
    model = read_model(path, weights=False)
    require_portable(path, "TensorRT reads")
    stored = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in stored]
    stages = are_stages([value.name for value in model.graph.output])
    if len(inputs) != 1 or len(inputs[0].type.tensor_type.shape.dim) != 4 or stages:
        raise ArtifactError(f"'{path}' does not map one image batch [n, c, h, w] to one output.")
    batch, *axes = (dimension.dim_value for dimension in inputs[0].type.tensor_type.shape.dim)
    if not all(axes):
        raise ArtifactError(f"'{path}' leaves the size of its images open; export it again without `dynamic_size`.")
    made = provenance_of_model(model, path)
    interface = made.interface(path) if made else PLAIN
    _check_types(model, inputs[0], interface, path)
    return OnnxInput(
        path=path,
        sha256=file_sha256(path),
        model=model,
        name=inputs[0].name,
        batch=batch or None,
        image_shape=interface.image_shape((axes[0], axes[1], axes[2])),
        precision=_precision(model),
        provenance=made,
        interface=interface,
    )


def _check_types(model: onnx.ModelProto, images: onnx.ValueInfoProto, interface: Interface, path: Path) -> None:
    float32 = onnx.TensorProto.FLOAT
    expected = {images.name: onnx.TensorProto.UINT8 if interface.layout else float32, CLASSES: onnx.TensorProto.INT64}
    for value, does in ((images, "takes"), *((output, "returns") for output in model.graph.output)):
        kind = value.type.tensor_type.elem_type
        if kind != expected.get(value.name, float32):
            name = onnx.helper.tensor_dtype_to_string(kind).removeprefix("TensorProto.").lower()
            raise ArtifactError(
                f"'{path}' {does} {name} ({value.name}), and engines take and return float32; export it again without "
                "`half_io`."
            )


def _precision(model: onnx.ModelProto) -> GraphPrecision:
    nodes = model.graph.node
    if any(node.op_type == "QuantizeLinear" for node in nodes):
        return "int8"
    kinds = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    for node in nodes:  # in order, so that what goes into a node is known
        if node.op_type == "Cast":
            kinds[node.output[0]] = next(entry.i for entry in node.attribute if entry.name == "to")
        elif node.op_type == "Mul" and node.input[0] in kinds:  # a parent times a child's modulation
            kinds[node.output[0]] = kinds[node.input[0]]
    kernels = [kinds.get(node.input[1]) for node in nodes if node.op_type == "Conv"]
    return "fp16" if onnx.TensorProto.FLOAT16 in kernels else "fp32"
