"""ExecuTorch files (``.pte``), read without ExecuTorch: is one whole, and what does it record?

    program (FlatBuffer) · segments │ record │ its length, 8 bytes │ 8 bytes that say that it is one

The header of a program says where it and its segments end, and ExecuTorch reads no further: the record lies behind.
Files of ours are compared with the digest that is part of the record (`sealed`); what the program computes is left to
ExecuTorch's own reader.

Does not apply to programs of other kinds' headers, from before ExecuTorch 1.0: they are refused.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import BinaryIO

from kdna_deploy.errors import ArtifactError
from kdna_deploy.graph.provenance import Provenance, from_json
from kdna_deploy.runtimes.sealed import check_whole, seal, with_room, without_digest

_IDENTIFIER, _HEADER = b"ET12", b"eh00"  # behind the first offset; the second behind the first
_SIZES = "<IQQQ"  # of the header itself, of the program, where the segments begin, and their size
_END = b"kdna.pte"
_LENGTH = "<Q"
_TAIL = struct.calcsize(_LENGTH) + len(_END)


def read_executorch(path: Path, whole: bool = True) -> Provenance | None:
    """The provenance of the ExecuTorch file at `path`; None where it is not ours.

    Unless `whole`, its bytes are not compared with what is recorded.

    Raises:
        ArtifactError: there is none, or it is damaged.
    """
    if not path.is_file():
        raise ArtifactError(f"There is no file '{path}'.")
    try:
        with path.open("rb") as stream:
            text = _record(stream, path.stat().st_size).decode()
    except (struct.error, ValueError, OSError) as error:
        raise ArtifactError(f"'{path}' is no ExecuTorch file, or a damaged one; export it again.") from error
    if whole:
        check_whole(path.read_bytes(), path)
    return from_json(without_digest(text), str(path)) if text else None


def with_record(program: bytes, text: str) -> bytes:
    """A file of `program` that records `text`."""
    record = with_room(text).encode()
    content = bytearray(program + record + struct.pack(_LENGTH, len(record)) + _END)
    seal(content)
    return bytes(content)


def _record(stream: BinaryIO, size: int) -> bytes:
    """What lies behind the program; nothing where that is all.

    Raises:
        ValueError: it is none, or not whole.
    """
    head = stream.read(12 + struct.calcsize(_SIZES))
    if head[4:8] != _IDENTIFIER or head[8:12] != _HEADER:
        raise ValueError("it does not begin as one")
    _, program, segments, content = struct.unpack_from(_SIZES, head, 12)
    end = max(program, segments + content)
    if end > size:
        raise ValueError("it is cut short")
    stream.seek(max(end, size - _TAIL))
    tail = stream.read()
    if size == end:
        return b""
    length = struct.unpack_from(_LENGTH, tail)[0]
    if tail[-len(_END) :] != _END or end + length + _TAIL > size:
        raise ValueError("what it records is cut short")
    stream.seek(size - _TAIL - length)
    return stream.read(length)
