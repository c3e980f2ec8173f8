"""LiteRT files (``.tflite``), read without LiteRT: is one whole, what does it record, and which kernels does it store?

    root → model (table) → buffers, graphs, metadata        a table finds its fields by a list of offsets before it
    graph → tensors (each the number of its buffer), operators (each the tensors that it reads and makes)

A file is a FlatBuffer: offsets lead into it from everywhere, so that each is followed within the file or not at all.
Every buffer is looked for, so that a file that was cut short is refused here, not by a crash of a runtime; those of
ours are compared with the digest that they record as well (`sealed`).

Does not apply to files of more than 2 GB, which keep their weights behind the FlatBuffer.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from kdna_deploy.errors import ArtifactError
from kdna_deploy.graph.provenance import KEY, Provenance, from_json
from kdna_deploy.graph.stored_kernels import KernelStorage
from kdna_deploy.runtimes.flatbuffer import Table, follow
from kdna_deploy.runtimes.sealed import check_whole, without_digest

IDENTIFIER = b"TFL3"  # behind the first offset
# Numbers of the schema: of the fields of a table, in their order, of operators and of types.
_OPERATOR_CODES, _GRAPHS, _BUFFERS, _METADATA = 1, 2, 4, 6
_OLD_CODE, _CODE = 0, 3
_TENSORS, _OPERATORS = 0, 3
_SHAPE, _TYPE, _BUFFER = 0, 1, 2
_CODE_INDEX, _READ, _MADE = 0, 1, 2
_NAME, _CONTENT = 0, 1
_CONVOLUTIONS, _DEQUANTIZE = (3, 4), 6
_WIDTHS = {0: 4, 1: 2, 9: 1}  # bytes of a number of the types float32, float16 and int8


@dataclass(frozen=True)
class StoredKernel:
    """What a convolution reads its weights from.

    Attributes:
        buffer: number of the buffer, the same for convolutions that read the same.
        bytes: of it.
    """

    buffer: int
    bytes: int


@dataclass(frozen=True)
class LiteRtFile:
    """What a LiteRT file says of itself.

    Attributes:
        kernels: of its convolutions, in order; without those that another operator computes.
        provenance: None where it is not ours.
    """

    kernels: tuple[StoredKernel, ...]
    provenance: Provenance | None

    @property
    def storage(self) -> KernelStorage:
        """The kernels in it."""
        distinct = {kernel.buffer: kernel.bytes for kernel in self.kernels}
        every = sum(kernel.bytes for kernel in self.kernels)
        return KernelStorage("LiteRT file", len(distinct), len(self.kernels), sum(distinct.values()), every)


def read_litert(path: Path, whole: bool = True) -> LiteRtFile:
    """Read the LiteRT file at `path`; unless `whole`, its bytes are not compared with what is recorded.

    Raises:
        ArtifactError: there is none, or it is damaged.
    """
    if not path.is_file():
        raise ArtifactError(f"There is no file '{path}'.")
    content = path.read_bytes()
    if whole:
        check_whole(content, path)
    try:
        if content[4:8] != IDENTIFIER:
            raise ValueError("it does not begin as one")
        model = Table(content, follow(content, 0))
        buffers = [buffer.bytes(0) for buffer in model.tables(_BUFFERS)]
        recorded = {one.bytes(_NAME): buffers[one.number(_CONTENT)] for one in model.tables(_METADATA)}
        kernels = tuple(kernel for graph in model.tables(_GRAPHS) for kernel in _kernels(model, graph))
        text = recorded.get(KEY.encode(), b"").decode()
    except (struct.error, ValueError, LookupError) as error:
        raise ArtifactError(f"'{path}' is no LiteRT file, or a damaged one; export it again.") from error
    return LiteRtFile(kernels, from_json(without_digest(text), str(path)) if text else None)


def _kernels(model: Table, graph: Table) -> Iterator[StoredKernel]:
    """What the convolutions of `graph` read, through what makes float32 of it."""
    codes = [max(one.number(_OLD_CODE, "<b"), one.number(_CODE, "<i")) for one in model.tables(_OPERATOR_CODES)]
    tensors, stored_as = graph.tables(_TENSORS), {}
    for operator in graph.tables(_OPERATORS):
        code, read = codes[operator.number(_CODE_INDEX)], operator.numbers(_READ)
        if code == _DEQUANTIZE:
            stored_as[operator.numbers(_MADE)[0]] = read[0]
        elif code in _CONVOLUTIONS:
            kernel = tensors[stored_as.get(read[1], read[1])]
            width = _WIDTHS.get(kernel.number(_TYPE, "<b"), 4)
            if kernel.number(_BUFFER):
                yield StoredKernel(kernel.number(_BUFFER), width * math.prod(kernel.numbers(_SHAPE)))
