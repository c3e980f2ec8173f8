"""ONNX model → file, complete and valid.

    one file up to 2 GB; beyond that, or on request, the weights beside it, named by their content (`external_data`)

What `onnx.checker` refuses is an error here, not a warning. Does not rename: see `files.atomic_output`.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import onnx
from onnx.external_data_helper import set_external_data

from kdna_deploy.errors import ExportError
from kdna_deploy.external_data import weights_name

# The serialised form of a protocol buffer ends at 2 GB; weights beyond it go into a file beside the model.
_ONE_FILE_BYTES = 2 * 1024**3 - 64 * 1024
_EXTERNAL_BYTES = 1024  # smaller tensors stay in the model
_ALIGNMENT = 64  # of a tensor in its file, which a runtime may map into memory


def save(model: onnx.ModelProto, path: Path, external: bool = False) -> None:
    """Write and check a model, its weights in a file beside it where it is too large for one, or with `external`.

    `model` then refers to that file, and no longer holds those weights.

    Raises:
        ExportError: the model is invalid.
    """
    if external or model.ByteSize() > _ONE_FILE_BYTES:
        _move_weights(model, path)
    onnx.save_model(model, path)
    try:
        onnx.checker.check_model(path, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ExportError(f"The ONNX model is invalid: {str(error).splitlines()[0]}; please report this.") from error


def _move_weights(model: onnx.ModelProto, path: Path) -> None:
    """Write the large tensors of `model` into a file beside `path`.

    onnx's own writer would refuse to where a file of that name lies in the current folder, wherever `path` is.
    """
    large = [
        tensor
        for tensor in model.graph.initializer
        if tensor.HasField("raw_data") and len(tensor.raw_data) >= _EXTERNAL_BYTES
    ]
    if not large:
        return
    digest = hashlib.sha256()
    written = path.with_name(path.name + ".data")
    places: list[tuple[int, int]] = []
    with written.open("wb") as stream:
        for tensor in large:
            content = tensor.raw_data
            stream.write(bytes(-stream.tell() % _ALIGNMENT))
            places.append((stream.tell(), len(content)))
            stream.write(content)
            digest.update(len(content).to_bytes(8, "little"))
            digest.update(content)
    named = written.rename(path.with_name(weights_name(path.name, digest.hexdigest())))
    for tensor, (offset, length) in zip(large, places, strict=True):
        set_external_data(tensor, named.name, offset, length)
        tensor.ClearField("raw_data")
