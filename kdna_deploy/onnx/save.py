"""ONNX model → file, complete and valid.

    one file up to 2 GB; beyond that, or on request, the weights in ``NAME.onnx.data`` beside it

What `onnx.checker` refuses is an error here, not a warning. Does not rename: see `files.atomic_output`.
"""

from __future__ import annotations

from pathlib import Path

import onnx

from kdna_deploy.errors import ExportError

# The serialised form of a protocol buffer ends at 2 GB; weights beyond it go into a file beside the model.
_ONE_FILE_BYTES = 2 * 1024**3 - 64 * 1024
_EXTERNAL_BYTES = 1024  # smaller tensors stay in the model


def save(model: onnx.ModelProto, path: Path, external: bool = False) -> None:
    """Write and check a model, its weights in a file beside it where it is too large for one, or with `external`.

    Raises:
        ExportError: the model is invalid.
    """
    if external or model.ByteSize() > _ONE_FILE_BYTES:
        weights = path.with_name(path.name + ".data")
        onnx.save_model(model, path, save_as_external_data=True, location=weights.name, size_threshold=_EXTERNAL_BYTES)
        if weights.exists():
            weights.chmod(path.stat().st_mode)  # onnx makes it readable for its owner alone
    else:
        onnx.save_model(model, path)
    try:
        onnx.checker.check_model(path, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ExportError(f"The ONNX model is invalid: {str(error).splitlines()[0]}; please report this.") from error
