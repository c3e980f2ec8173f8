"""``.npy`` or ``.npz`` file of normalised images [n, c, h, w] → float32 batches, read in a stream.

Any floating-point type is taken, of either byte order. A file's header is checked against the bytes that are there
before anything is allocated, and only a few images are in memory at once; no object is ever unpickled.

Does not apply to an array in Fortran order larger than `LARGEST_FORTRAN`: it cannot be read image by image.
"""

from __future__ import annotations

import math
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from kdna_deploy.errors import InputError
from kdna_deploy.images.batch import Images, Shape

LARGEST_FORTRAN = 1 << 31  # bytes
_CHUNK = 8  # images
_HEADER = 1 << 16  # bytes; a header of an array of images takes 128
_MAGIC = b"\x93NUMPY"


@dataclass(frozen=True)
class _Member:
    """An array in a file: its name (empty in an ``.npy``), its bytes, header included, and how to open it."""

    name: str
    size: int
    open: Callable[[], IO[bytes]]


@dataclass(frozen=True)
class _Header:
    shape: tuple[int, ...]
    fortran: bool
    dtype: np.dtype[np.generic]
    start: int

    @property
    def bytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


def count_arrays(path: Path, image_shape: Shape) -> int:
    """Number of images in the file.

    Raises:
        InputError: as `read_arrays`, as far as the headers tell.
    """
    with _members(path) as members:
        return sum(_header(member, path, image_shape).shape[0] for member in members)


def read_arrays(path: Path, image_shape: Shape) -> Iterator[Images]:
    """Batches of float32 images of all arrays in the file, a few images each.

    Raises:
        InputError: it is no such file, is cut short, or holds arrays of another shape or type, or NaN.
    """
    with _members(path) as members:
        for member in members:
            header = _header(member, path, image_shape)
            with member.open() as stream:
                stream.read(header.start)
                for values in _chunks(stream, header, path):
                    with np.errstate(over="ignore"):  # what float32 cannot hold is refused below
                        images = values.astype(np.float32, order="C")
                    if not np.isfinite(images).all():
                        raise InputError(f"'{path}' holds NaN or infinite values; check how it was made.")
                    yield images


@contextmanager
def _members(path: Path) -> Iterator[list[_Member]]:
    if not path.is_file():
        raise InputError(f"There is no file or folder '{path}'.")
    try:
        with path.open("rb") as stream:
            plain = stream.read(len(_MAGIC)) == _MAGIC
        if plain:
            yield [_Member("", path.stat().st_size, lambda: path.open("rb"))]
            return
        with zipfile.ZipFile(path) as archive:
            yield [
                _Member(entry.filename.removesuffix(".npy"), entry.file_size, partial(archive.open, entry))
                for entry in archive.infolist()
            ]
    except InputError:
        raise
    except Exception as error:  # damaged bytes lead zipfile and NumPy's readers anywhere
        raise InputError(f"'{path}' is not a NumPy file of images; save it with numpy.savez.") from error


def _header(member: _Member, path: Path, image_shape: Shape) -> _Header:
    with member.open() as stream:
        version = npy.read_magic(stream)
        read = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}[version]
        shape, fortran, dtype = read(stream, max_header_size=_HEADER)
        header = _Header(shape, fortran, dtype, stream.tell())
    if dtype.hasobject:
        raise ValueError("an array of objects")  # as NumPy would say of what it would have to unpickle
    _check(header, member.name, path, image_shape)
    if header.start + header.bytes > member.size:
        raise InputError(f"'{path}' is cut short: an array of shape {shape} takes more bytes; copy or save it again.")
    return header


def _check(header: _Header, name: str, path: Path, image_shape: Shape) -> None:
    shape, dtype = header.shape, header.dtype
    if shape[1:] == image_shape and len(shape) == 4 and dtype.kind == "f":
        return
    array = f"an array '{name}', {dtype} {shape}" if name else f"an array {dtype} {shape}"
    wanted = f"[n, {', '.join(map(str, image_shape))}]"
    raise InputError(
        f"'{path}' holds {array}; the network takes float32 images {wanted}{_remedy(shape, dtype, image_shape)}."
    )


def _remedy(shape: tuple[int, ...], dtype: np.dtype[np.generic], image_shape: Shape) -> str:
    c, h, w = image_shape
    remedies = []
    if dtype.kind in "ui" and len(shape) in (3, 4):
        remedies.append("normalise the pixels first, (pixel/255 − mean) / std")
    if shape == image_shape:
        remedies.append("give a single image a first axis, image[None]")
    if shape[1:] == (h, w, c):
        remedies.append("bring the channels forward, images.transpose(0, 3, 1, 2)")
    return "".join(f"; {remedy}" for remedy in remedies)


def _chunks(stream: IO[bytes], header: _Header, path: Path) -> Iterator[NDArray[np.generic]]:
    count, *image = header.shape
    if header.fortran and count > 1:
        if header.bytes > LARGEST_FORTRAN:
            raise InputError(f"'{path}' is in Fortran order and too large for it; save numpy.ascontiguousarray of it.")
        whole = _read(stream, header.bytes, path)
        values = np.frombuffer(whole, header.dtype).reshape(header.shape, order="F")
        yield from (values[start : start + _CHUNK] for start in range(0, count, _CHUNK))
        return
    order = "F" if header.fortran else "C"
    size = math.prod(image) * header.dtype.itemsize
    for start in range(0, count, _CHUNK):
        taken = min(_CHUNK, count - start)
        block = np.frombuffer(_read(stream, taken * size, path), header.dtype)
        yield block.reshape((taken, *image), order=order)  # type: ignore[call-overload]


def _read(stream: IO[bytes], size: int, path: Path) -> bytes:
    block = stream.read(size)
    if len(block) < size:
        raise InputError(f"'{path}' is cut short; copy or save it again.")
    return block
