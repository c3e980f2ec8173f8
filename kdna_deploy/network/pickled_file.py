"""What `torch.save` wrote, read without running any of it.

    zip archive (since PyTorch 1.6)   members as `zip_members` asks, checksums included; mapped, not copied
    one stream  (before)              no checksums: damage in its tensors cannot be noticed

`torch.load(weights_only=True)` decides which classes are admitted. The classes that a file names are listed first, so
that a refusal can name the first that is none of training's, in the same words with every version of torch.

Does not apply to tar archives (before PyTorch 0.1.10) and TorchScript archives; both are refused.
"""

from __future__ import annotations

import argparse
import io
import pickletools
import re
import zipfile
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch

from kdna_deploy.errors import CheckpointError
from kdna_deploy.network.pickled_storages import stored_sizes
from kdna_deploy.network.zip_members import DamagedArchive, check_contents, open_members

MAX_PICKLE = 1 << 26  # bytes of the names and shapes, beside the tensors

_MAGIC = 0x1950A86A20F9469CFC6C  # of the one-stream format
_NUMPY_SCALAR: Any = np.float64(0).__reduce__()[0]


def _numpy_scalar(dtype: np.dtype[Any], content: bytes) -> Any:
    """A number of numpy: its own function would also make objects, and texts of any length."""
    if not isinstance(dtype, np.dtype) or dtype.kind not in "biuf" or not isinstance(content, bytes):
        raise ValueError("not a number of numpy")
    return _NUMPY_SCALAR(dtype, content)


def _harmless_path(*parts: str) -> str:
    return "/".join(map(str, parts))


def _harmless_dict(*_: Any) -> dict[Any, Any]:
    return {}


# Plain data that training scripts put beside the weights, by the names that versions of Python and numpy give it.
# Classes that exist on one platform alone are read as something that exists on all.
_PATHS = [
    (_harmless_path, f"{module}.{name}")
    for module in ("pathlib", "pathlib._local")
    for name in ("Path", "PosixPath", "WindowsPath", "PurePath", "PurePosixPath", "PureWindowsPath")
]
_HARMLESS: list[Any] = [
    argparse.Namespace,
    (_harmless_dict, "collections.defaultdict"),  # torch fills plain dictionaries alone
    dict,
    list,
    *_PATHS,
    (_numpy_scalar, "numpy.core.multiarray.scalar"),  # as numpy 1 wrote it
    (_numpy_scalar, "numpy._core.multiarray.scalar"),  # as numpy 2 does
    np.dtype,
    *{type(np.dtype(code)) for code in "?" + np.typecodes["AllInteger"] + np.typecodes["AllFloat"]},
]
_KNOWN = frozenset(
    {"argparse.Namespace", "collections.defaultdict", "collections.OrderedDict", "collections.Counter"}
    | {"builtins.set", "builtins.complex", "builtins.dict", "builtins.list"}
    | {"_codecs.encode", "numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar", "numpy.dtype"}
    | {name for _, name in _PATHS}
)
# Tensors, their types and storages; torch itself has the exact list.
_TENSORS = re.compile(
    r"torch\.\w+|torch\.(_utils\._rebuild|_tensor\._rebuild|serialization\._get_layout|nn\.parameter\.Parameter"
    r"|nested\._internal\.|storage\.|cuda\.\w+(Storage|Tensor)$|sparse\.\w+Tensor$|\w+\.\w+Storage$)\w*|numpy\.dtypes\.\w+"
)
# Of pickle protocols that torch does not read.
_NEWER = frozenset({"STACK_GLOBAL", "SHORT_BINUNICODE", "FRAME", "MEMOIZE", "NEWOBJ_EX", "BYTEARRAY8", "BINUNICODE8"})


def read_pickled(path: Path) -> tuple[Any, list[str]]:
    """The content of a file that `torch.save` wrote, and notes about the reading. Its tensors may lie in the file.

    Raises:
        CheckpointError: it is none, damaged, or holds more than tensors and plain data.
    """
    with path.open("rb") as stream:
        zipped = stream.read(2) == b"PK"
        stream.seek(0)
        notes = _check_zip(stream, path) if zipped else _check_stream(stream, path)
    try:
        with torch.serialization.safe_globals(_HARMLESS):
            return torch.load(path, map_location="cpu", weights_only=True, mmap=zipped), notes
    except OSError:
        raise
    except Exception as error:  # damaged bytes lead the unpickler anywhere: IndexError, struct.error, …
        raise CheckpointError(_refusal(path, str(error), zipped)) from error


def _check_zip(stream: IO[bytes], path: Path) -> list[str]:
    if _is_torchscript(stream):
        raise CheckpointError(f"'{path}' is a TorchScript archive; give the training checkpoint instead.")
    try:
        archive, members = open_members(stream)
        if "data.pkl" not in members:
            raise CheckpointError(f"'{path}' is a zip archive, but none that torch.save wrote; give its checkpoint.")
        notes = []
        if not check_contents(archive, members):
            notes.append("the checkpoint was written without checksums, so that damage in it would go unnoticed")
        damage = f"'{path}' is damaged or cut short; copy or download it again"
        with archive.open(members["data.pkl"]) as content:
            pickle = content.read(MAX_PICKLE + 2)
        _check_pickle(io.BytesIO(pickle), path, f"{damage}.")
        for key, size in stored_sizes(pickle).items():
            member = members.get(f"data/{key}")
            if member is None or member.file_size < size:
                raise DamagedArchive(f"its member 'data/{key[:20]}' is not as large as its tensors")
        return notes
    except DamagedArchive as error:
        raise CheckpointError(f"'{path}' is damaged or cut short; copy or download it again ({error}).") from error


def _is_torchscript(stream: IO[bytes]) -> bool:
    try:
        return any(name.endswith("/constants.pkl") for name in zipfile.ZipFile(stream).namelist())
    except Exception:  # damaged bytes lead zipfile anywhere
        return False


def _check_stream(stream: IO[bytes], path: Path) -> list[str]:
    """The format before PyTorch 1.6: magic number, version, system, content, keys, and the tensors' bytes."""
    try:
        magic = [argument for _, argument, _ in pickletools.genops(stream)]
    except Exception:  # any bytes at all
        magic = []
    if _MAGIC not in magic:
        raise CheckpointError(_no_checkpoint(path))
    for _ in range(3):
        _check_pickle(stream, path, _no_checkpoint(path))
    return []


def _check_pickle(stream: IO[bytes], path: Path, damage: str) -> None:
    """Refuse a pickle that names a class which is no part of a checkpoint, or is of a size that none has."""
    try:
        for operation, argument, position in pickletools.genops(stream):
            if position is not None and position > MAX_PICKLE:
                raise CheckpointError(f"'{path}' holds too many entries for a network's checkpoint.")
            if operation.name in _NEWER:
                raise CheckpointError(
                    f"'{path}' was saved with a pickle protocol that PyTorch does not read without running code; "
                    "save it again without pickle_protocol."
                )
            if operation.name in ("GLOBAL", "INST") and not _is_known(name := _class_name(str(argument))):
                raise CheckpointError(_code_message(path, name))
    except CheckpointError:
        raise
    except Exception as error:  # any bytes at all
        raise CheckpointError(damage) from error


def _class_name(argument: str) -> str:
    """Module and name as today's Python has them; protocol 2 writes those of Python 2."""
    module, _, name = argument.partition(" ")
    if (module, name) in NAME_MAPPING:
        module, name = NAME_MAPPING[(module, name)]
    return f"{IMPORT_MAPPING.get(module, module)}.{name}"


def _is_known(name: str) -> bool:
    return name in _KNOWN or _TENSORS.fullmatch(name) is not None


def _refusal(path: Path, error: str, zipped: bool) -> str:
    """What torch's refusal comes to."""
    for marker in ("Unsupported global: GLOBAL ", "unsupported GLOBAL ", "Unsupported class "):
        if marker in error:
            return _code_message(path, error.split(marker, 1)[1].split()[0].rstrip(",."))
    return f"'{path}' is damaged or cut short; copy or download it again." if zipped else _no_checkpoint(path)


def _code_message(path: Path, name: str) -> str:
    shown = "".join(c for c in name if c.isprintable())[:100]
    return f"'{path}' asks to run code on loading ({shown}), which is refused; save it again with its state dict alone."


def _no_checkpoint(path: Path) -> str:
    return f"'{path}' is not a PyTorch checkpoint or is damaged; give the file that torch.save wrote in training."
