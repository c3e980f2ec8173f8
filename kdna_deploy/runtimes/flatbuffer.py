"""FlatBuffers, in which LiteRT and MNN keep a network, read without either: each offset is followed within the file.

    table → list of the offsets of its fields, before it → number, or offset → string, vector, another table

What leads out of the file is a `ValueError` or a `struct.error`, as are all that `struct` finds.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass


@dataclass(frozen=True)
class Table:
    """A table of the FlatBuffer `content`, at `place`."""

    content: bytes
    place: int

    def number(self, field: int, form: str = "<I") -> int:
        """A number; zero where the field is left out."""
        at = self._field(field)
        return int(struct.unpack_from(form, self.content, at)[0]) if at else 0

    def table(self, field: int) -> Table | None:
        """A table; None where it is left out."""
        at = self._field(field)
        return Table(self.content, follow(self.content, at)) if at else None

    def count(self, field: int, width: int = 4) -> int:
        """How many elements of `width` bytes a vector has."""
        return self._vector(field, width)[1]

    def numbers(self, field: int) -> tuple[int, ...]:
        """A vector of int32."""
        at, count = self._vector(field, 4)
        return struct.unpack_from(f"<{count}i", self.content, at)

    def bytes(self, field: int) -> bytes:
        """A string, or a vector of bytes."""
        at, count = self.span(field)
        return self.content[at : at + count]

    def span(self, field: int) -> tuple[int, int]:
        """Where the first byte of a string, or of a vector of bytes, is, and how many there are."""
        return self._vector(field, 1)

    def tables(self, field: int) -> list[Table]:
        """A vector of tables."""
        at, count = self._vector(field, 4)
        return [Table(self.content, follow(self.content, at + 4 * number)) for number in range(count)]

    def _vector(self, field: int, width: int) -> tuple[int, int]:
        """Where its first element is, and how many there are."""
        at = self._field(field)
        if not at:
            return 0, 0
        start = follow(self.content, at)
        count = struct.unpack_from("<I", self.content, start)[0]
        if start + 4 + count * width > len(self.content):
            raise ValueError("it is cut short")
        return start + 4, count

    def _field(self, field: int) -> int:
        """Where a field is; 0 where it is left out."""
        fields = self.place - struct.unpack_from("<i", self.content, self.place)[0]
        if fields < 0:
            raise ValueError("an offset before the file")
        size = struct.unpack_from("<H", self.content, fields)[0]
        at = 4 + 2 * field
        offset = struct.unpack_from("<H", self.content, fields + at)[0] if at + 2 <= size else 0
        return self.place + offset if offset else 0


def follow(content: bytes, at: int) -> int:
    """Where the offset at `at` leads to."""
    found = at + int(struct.unpack_from("<I", content, at)[0])
    if found >= len(content):
        raise ValueError("it is cut short")
    return found
