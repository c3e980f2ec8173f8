"""ONNX files: read with what they record, and written, complete and valid.

    read   the model, with or without the weights beside it · provenance in its metadata · bytes of all its files
    save   one file up to 2 GB; beyond that, or on request, the weights beside it, named by their content
           (`external_data`)

What `onnx.checker` refuses is an error here, not a warning. Does not rename: see `files.atomic_output`.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError, EncodeError
from onnx.external_data_helper import (
    ExternalDataInfo,
    load_external_data_for_model,
    set_external_data,
    uses_external_data,
)

from kdna_deploy.errors import ArtifactError, ExportError
from kdna_deploy.external_data import external_files, weights_name
from kdna_deploy.graph.provenance import KEY, Provenance
from kdna_deploy.runtimes.onnx_metadata import metadata_of, provenance_in_metadata

# The serialised form of a protocol buffer ends at 2 GB; weights beyond it go into a file beside the model.
_ONE_FILE_BYTES = 2 * 1024**3 - 64 * 1024
_EXTERNAL_BYTES = 1024  # smaller tensors stay in the model
_ALIGNMENT = 64  # of a tensor in its file, which a runtime may map into memory


def read_model(path: Path, weights: bool = True) -> onnx.ModelProto:
    """The ONNX model at `path`; without `weights`, those that lie beside it are left there.

    Raises:
        ArtifactError: there is none, or it or its weights are damaged.
    """
    if not path.is_file():
        raise ArtifactError(f"There is no file '{path}'.")
    try:
        model = onnx.load(path, load_external_data=False)
    except (DecodeError, OSError, ValueError, AttributeError) as error:
        raise _damaged(path) from error
    graph = model.graph  # of an empty file, or of one that is something else, an empty one
    if not (graph.node and graph.input and graph.output):
        raise _damaged(path)
    if weights:
        load_weights(model, path)
    return model


def _damaged(path: Path) -> ArtifactError:
    return ArtifactError(f"'{path}' is no ONNX file, or a damaged one; export it again.")


def load_weights(model: onnx.ModelProto, path: Path) -> None:
    """Load what `read_model` left beside `path`.

    Raises:
        ArtifactError: it cannot be read.
    """
    try:
        load_external_data_for_model(model, str(path.parent))
    except (OSError, ValueError, onnx.checker.ValidationError) as error:
        raise ArtifactError(f"The weights of '{path}' cannot be read; keep it beside them, or export again.") from error


def weights_file(model: onnx.ModelProto, path: Path) -> Path | None:
    """The file beside `path` that the weights of `model`, read without them, lie in; None where they are in it.

    Raises:
        ArtifactError: it is not there, or not beside the model.
    """
    places = _locations(model)
    if not places:
        return None
    name = places.pop()
    beside = path.with_name(Path(name).name)
    if places or Path(name).name != name or not beside.is_file():
        raise ArtifactError(f"The weights of '{path}' are not in one file beside it; keep the two together.")
    return beside


def weights_files(path: Path) -> tuple[Path, ...]:
    """The files in the folder of the ONNX file `path`, or below it, that its weights lie in; none where they are in it.

    Raises:
        ArtifactError: one of them is not there, or lies elsewhere.
    """
    files = external_files(path)
    lost = next((file for file in files if not (_is_within(file, path.parent) and file.is_file())), None)
    if lost is not None:
        raise ArtifactError(f"The weights '{lost}' of '{path}' are not in its folder; keep all of its files together.")
    return files


def _is_within(file: Path, folder: Path) -> bool:
    """As it is written: what lies there may be a link."""
    return file.is_relative_to(folder) and ".." not in file.relative_to(folder).parts


def file_bytes(path: Path) -> int:
    """Size of an ONNX file, together with the files of weights that it refers to.

    Raises:
        ArtifactError: there is none, or one of them is not there.
    """
    try:
        return sum(file.stat().st_size for file in (path, *external_files(path)))
    except FileNotFoundError as error:
        raise ArtifactError(f"'{path}' is not all there: there is no file '{error.filename}'.") from error


def _locations(model: onnx.ModelProto) -> set[str]:
    return {ExternalDataInfo(tensor).location for tensor in model.graph.initializer if uses_external_data(tensor)}


def provenance_of_model(model: onnx.ModelProto, path: Path) -> Provenance | None:
    """Provenance in the metadata of the model read from `path`; None where there is none.

    Raises:
        ArtifactError: it is damaged.
    """
    return provenance_in_metadata(metadata_of(model), path)


def record(model: onnx.ModelProto, made: Provenance) -> None:
    """Write provenance into the metadata of `model`, in place of all that it has."""
    del model.metadata_props[:]
    model.metadata_props.add(key=KEY, value=made.to_json())


def save(model: onnx.ModelProto, path: Path, external: bool = False) -> None:
    """Write and check a model, its weights in a file beside it where it is too large for one, or with `external`.

    `model` then refers to that file, and no longer holds those weights.

    Raises:
        ExportError: the model is invalid.
    """
    content = None if external else _serialized(model)
    if content is None:
        _move_weights(model, path)
        content = model.SerializeToString()
    path.write_bytes(content)
    del content  # before the checker reads it again
    try:
        onnx.checker.check_model(path, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ExportError(f"The ONNX model is invalid: {str(error).splitlines()[0]}; please report this.") from error


def _serialized(model: onnx.ModelProto) -> bytes | None:
    """The bytes of a file that holds all of `model`; None where they are too many for one."""
    try:
        content: bytes = model.SerializeToString()
    except (EncodeError, ValueError):  # beyond 2 GB, by the kind of protobuf
        return None
    return content if len(content) <= _ONE_FILE_BYTES else None


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
