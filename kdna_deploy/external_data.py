"""Which files hold the weights of an ONNX file, read off its bytes: neither onnx nor anything else is imported.

    external_data { key: "location"  value: NAME }     0A 08 "location" 12 length NAME

That is how protocol buffers write the entry; whatever model it is, no parsing is needed to find it.

    NAME.onnx   NAME.onnx.<digest of the weights>.data

Weights that we write ourselves are named by their content. A model is then never beside the wrong weights, also when
its writer is killed between the renaming of the two; and an earlier model keeps its own until it is replaced.
"""

from __future__ import annotations

import mmap
import re
from collections.abc import Iterator
from pathlib import Path

from kdna_deploy.kinds import Kind, named_kind

_ENTRY = re.compile(rb"\x0a\x08location\x12([\x80-\xff]{0,2}[\x00-\x7f])", re.DOTALL)
_DIGITS = 16
_LONGEST_NAME = 255  # bytes, on every file system in use
PARTIAL = ".partial"  # the end of the name of a folder in which a file is being written


def weights_name(model: str, digest: str) -> str:
    """Name of the file of weights of a model named `model`, `digest` being hexadecimal and of the weights."""
    return f"{model}.{digest[:_DIGITS]}.data"


def model_name(weights: str) -> str:
    """Name of the model that `weights_name` named a file of weights after; those of earlier versions had no digest."""
    return re.sub(rf"(\.[0-9a-f]{{{_DIGITS}}})?\.data$", "", weights)


def external_files(model: Path) -> tuple[Path, ...]:
    """The files that hold weights of the ONNX file `model`; none for a file of another name, or one that is not there.

    Names that no file can have, for their length, are left out: a damaged model may say anything.

    Raises:
        OSError: the file cannot be read.
    """
    if named_kind(model) is not Kind.onnx or not model.is_file():
        return ()
    return tuple(model.parent / name for name in sorted(_locations(model)) if len(name.encode()) <= _LONGEST_NAME)


def abandoned_weights(model: Path) -> list[Path]:
    """Files that an earlier `weights_name` of `model` named, to which neither it nor an ONNX file beside it refers.

    None while another process writes there and what it writes cannot be told.
    """
    pattern = re.compile(re.escape(model.name) + rf"\.[0-9a-f]{{{_DIGITS}}}\.data")
    try:
        found = {path.name: path for path in model.parent.iterdir() if pattern.fullmatch(path.name)}
        # What others are writing comes first: it is either still there, or has its name by the time that is looked at.
        for other in (*_being_written(model.parent), model, *model.parent.glob("*.onnx")):  # whatever `model` is named
            if not found:
                break
            for name in _locations(other):
                found.pop(name, None)
    except OSError:
        return []
    return sorted(found.values())


def _being_written(folder: Path) -> Iterator[Path]:
    for partial in folder.glob(f".*{PARTIAL}"):
        yield from partial.glob("*.onnx")


def _locations(model: Path) -> set[str]:
    with model.open("rb") as stream:
        if not stream.seek(0, 2):
            return set()
        with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return {
                content[entry.end() : entry.end() + _varint(entry[1])].decode("utf-8", "replace")
                for entry in _ENTRY.finditer(content)
            }


def _varint(encoded: bytes) -> int:
    return sum((byte & 0x7F) << (7 * place) for place, byte in enumerate(encoded))
