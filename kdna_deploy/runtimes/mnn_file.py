"""MNN files, read without MNN: what do they record, and which kernels do they store?

    Net (table) → `bizCode`, a string, and operators → Convolution2D → weights, or codes with their scales

A file is a FlatBuffer in MNN's schema (`MNN.fbs`, `CaffeOp.fbs`). The string is for whoever makes a file to write into;
ours have their provenance there, behind a key. A kernel is stored with its convolution, and a classifier is one here.

MNN ends the process over many a damaged file, and computes with damaged weights: ours are compared with the digest that
they record before it opens them (`sealed`). What the operators compute is left to MNN's own reader.
"""

from __future__ import annotations

import hashlib
import struct
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from kdna_deploy.errors import ArtifactError
from kdna_deploy.graph.provenance import KEY, Provenance, from_json
from kdna_deploy.graph.stored_kernels import KernelStorage
from kdna_deploy.runtimes.flatbuffer import Table, follow
from kdna_deploy.runtimes.sealed import check_whole, with_room, without_digest

# Numbers of the schema: of the fields of a table, in their order, and of operators.
_CODE, _OPERATORS, _UUID = 0, 3, 11
_MAIN, _TYPE = 2, 5
_WEIGHTS, _QUANTISED = 1, 3
_BUFFER, _SCALES = 0, 1
_CONVOLUTIONS = (12, 13, 17, 18)  # transposed ones, and those of a kernel a channel
_OURS = f"{KEY} "  # how the string of ours begins


@dataclass(frozen=True)
class MnnFile:
    """What an MNN file says of itself.

    Attributes:
        kernels: bytes of those of its convolutions, in order.
        provenance: None where it is not ours.
    """

    kernels: tuple[int, ...]
    provenance: Provenance | None

    @property
    def storage(self) -> KernelStorage:
        """The kernels in it: each layer has its own."""
        count, stored = len(self.kernels), sum(self.kernels)
        return KernelStorage("MNN file", count, count, stored, stored)


def read_mnn(path: Path, whole: bool = True) -> MnnFile:
    """Read the MNN file at `path`; unless `whole`, its bytes are not compared with what is recorded.

    Raises:
        ArtifactError: there is none, or it is damaged.
    """
    if not path.is_file():
        raise ArtifactError(f"There is no file '{path}'.")
    content = path.read_bytes()
    if whole:
        check_whole(content, path)
    try:
        net = Table(content, follow(content, 0))
        text, kernels = net.bytes(_CODE).decode(), tuple(_kernels(net))
    except (struct.error, ValueError) as error:
        raise ArtifactError(f"'{path}' is no MNN file, or a damaged one; export it again.") from error
    ours = text.startswith(_OURS)
    made = from_json(without_digest(text).removeprefix(_OURS), str(path)) if ours else None
    return MnnFile(kernels, made)


def recorded(text: str) -> str:
    """What is written into the field for a provenance `text`, in a file that is sealed then."""
    return f"{_OURS}{with_room(text)}"


def with_own_uuid(content: bytes) -> bytearray:
    """The file `content` with an identifier that follows from the rest, in place of the random one of the converter."""
    place, count = Table(content, follow(content, 0)).span(_UUID)
    made = bytearray(content)
    made[place : place + count] = bytes(count)
    own = uuid.UUID(bytes=hashlib.sha256(made).digest()[:16], version=5)
    made[place : place + count] = str(own).encode()[:count].ljust(count)
    return made


def _kernels(net: Table) -> Iterator[int]:
    for operator in net.tables(_OPERATORS):
        layer = operator.table(_MAIN) if operator.number(_TYPE) in _CONVOLUTIONS else None
        if layer is None:
            continue
        codes = layer.table(_QUANTISED)
        stored = 4 * layer.count(_WEIGHTS) + (codes.count(_BUFFER, 1) + 4 * codes.count(_SCALES) if codes else 0)
        if stored:  # a kernel may be computed
            yield stored
