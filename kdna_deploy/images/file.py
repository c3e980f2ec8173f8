"""Image file → upright picture of 8 bits a channel, or the reason why it cannot be one.

An image file is untrusted: only the decoders of the formats that are read are tried, whatever the name says, and an
image whose header promises more pixels than `LARGEST` is never decoded.

Transparency is ignored, as PyTorch's ImageFolder does. Of an animation the first frame is taken. A rotation that a
camera recorded (EXIF) is carried out. 16-bit colours lose their lower byte. Does not apply to grey images of more than
8 bits, which Pillow would clip.
"""

from __future__ import annotations

import contextlib
import warnings
from pathlib import Path
from typing import Literal

from PIL import Image, ImageOps, UnidentifiedImageError

from kdna_deploy.errors import InputError

LARGEST = 1 << 26  # pixels: 67 million, 200 MB in RGB
# Not EPS, which Pillow hands to Ghostscript, nor formats that no data set has.
_FORMATS = ("PNG", "JPEG", "BMP", "DIB", "WEBP", "TIFF", "PPM", "GIF")
_DEEP_MODES = ("I", "F")


class UnreadableImage(InputError):
    """`reason` without the name of the file."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"'{path}' is not an image that can be read: {reason}.")
        self.reason = reason


def open_image(path: Path, mode: Literal["RGB", "L"]) -> Image.Image:
    """The picture in the file at `path`, in `mode`.

    Raises:
        UnreadableImage: it is none that can be read.
    """
    if not path.is_file():  # opening a pipe would wait for ever
        raise UnreadableImage(path, "there is no such regular file")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return _decoded(path).convert(mode)
    except UnreadableImage:
        raise
    except Exception as error:  # damaged bytes lead Pillow's decoders anywhere
        raise UnreadableImage(path, _reason(error)) from error


def _decoded(path: Path) -> Image.Image:
    Image.init()
    with Image.open(path, formats=[name for name in _FORMATS if name in Image.OPEN]) as opened:
        _check(opened, path)
        opened.load()
        return _upright(opened)


def check_pixels(path: Path, width: int, height: int, what: str) -> None:
    """Bound the memory that a picture takes.

    Raises:
        UnreadableImage: it has more than `LARGEST` pixels.
    """
    if width * height > LARGEST:
        raise UnreadableImage(path, f"{what} {width}×{height} pixels, more than {LARGEST / 1e6:.0f} million")


def _check(opened: Image.Image, path: Path) -> None:
    check_pixels(path, *opened.size, "it has")
    if min(opened.size) < 1:
        raise UnreadableImage(path, "it has no pixels")
    if opened.mode.startswith(_DEEP_MODES):
        raise UnreadableImage(path, "it has more than 8 bits a channel, which Pillow would clip; convert it to 8 bits")


def _upright(image: Image.Image) -> Image.Image:
    with contextlib.suppress(Exception):  # damaged EXIF says nothing about a rotation
        return ImageOps.exif_transpose(image)
    return image


def _reason(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        return "it is empty, damaged, or of another format; convert it to PNG"
    if isinstance(error, Image.DecompressionBombError):
        return f"it has more than {LARGEST / 1e6:.0f} million pixels"
    if isinstance(error, MemoryError):
        return "memory does not suffice for it"
    told = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    lines = told.strip().splitlines()
    return f"it is damaged or cut short ({lines[0].rstrip('.')[:120]})" if lines else "it is damaged or cut short"
