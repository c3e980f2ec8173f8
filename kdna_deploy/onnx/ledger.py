"""The sharing ledger of an ONNX graph: how many kernels are stored, how many convolutions use them.

    unique bytes       = Σ bytes of the initialisers that convolution weights are made of, each once
    materialised bytes = Σ bytes of every convolution's weight

A weight is an initialiser, or a product of initialisers. Read off the file, or off the graph that ONNX Runtime makes
of it at session start.
"""

from __future__ import annotations

import math
import tempfile
from pathlib import Path

import onnx

from kdna_deploy.ledger import KernelStorage
from kdna_deploy.runtimes.ort import OrtSession


def onnx_storage(model: onnx.ModelProto, stage: str) -> KernelStorage:
    """Count the kernels of an ONNX model."""
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    made_by = {node.output[0]: node for node in model.graph.node}
    parts: set[str] = set()
    kernels: set[str] = set()
    convolutions = materialised = 0
    for node in model.graph.node:
        if not node.op_type.endswith("Conv"):  # ONNX Runtime's own: FusedConv, …
            continue
        leaves = _leaves(node.input[1], stored, made_by)
        if not leaves:
            continue
        kernel = max(leaves, key=lambda name: math.prod(stored[name].dims))
        convolutions += 1
        parts |= leaves
        kernels.add(kernel)
        materialised += _bytes(stored[kernel])
    return KernelStorage(stage, len(kernels), convolutions, sum(_bytes(stored[n]) for n in parts), materialised)


def optimised_model(path: Path) -> onnx.ModelProto:
    """The graph that ONNX Runtime executes for an ONNX file on this machine."""
    with tempfile.TemporaryDirectory(prefix="kdna-ledger-") as folder:
        target = Path(folder) / "optimised.onnx"
        OrtSession(path, threads=1, optimised_to=target)
        return onnx.load(target, load_external_data=False)  # shapes are enough


def _leaves(
    name: str, stored: dict[str, onnx.TensorProto], made_by: dict[str, onnx.NodeProto], depth: int = 4
) -> set[str]:
    if name in stored:
        return {name}
    node = made_by.get(name)
    if node is None or depth == 0:
        return set()
    if node.op_type == "Reshape":  # of shared codes; its shape is no part of the kernel
        return _leaves(node.input[0], stored, made_by, depth)
    if node.op_type not in ("Mul", "Cast", "DequantizeLinear"):
        return set()
    return set().union(*(_leaves(operand, stored, made_by, depth - 1) for operand in node.input))


def _bytes(tensor: onnx.TensorProto) -> int:
    width = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
    return int(math.prod(tensor.dims) * width)
