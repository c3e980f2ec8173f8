"""Folders of images and files of arrays: damaged, of odd kinds, of sizes that they only claim."""

from __future__ import annotations

import io
import os
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tests.hostile_inputs.case import INPUT, OK, USAGE, Case
from tests.hostile_inputs.damage import Make
from tests.hostile_inputs.samples import ONNX, picture

_IMAGES = "images"
_VERIFY = ("verify", ONNX, "--against", ONNX, "--inputs", _IMAGES)
_RUN = ("run", ONNX, _IMAGES)
_EVALUATE = ("evaluate", ONNX, "--data", _IMAGES)
_ONLY, _BESIDE = frozenset({OK, INPUT}), frozenset({OK})
_REFUSED = frozenset({INPUT})


def cases() -> Iterator[Case]:
    yield from _damaged()
    yield from _kinds()
    yield from _files()
    yield from _classes()
    yield from _arrays()
    yield from _archives()


def _encoded(kind: str, image: Image.Image | None = None, **options: Any) -> bytes:
    buffer = io.BytesIO()
    (image or picture(1)).save(buffer, kind, **options)
    return buffer.getvalue()


_FORMATS = {"PNG": "png", "JPEG": "jpg", "GIF": "gif", "BMP": "bmp", "TIFF": "tif", "WEBP": "webp", "PPM": "ppm"}


def _folder(name: str, data: bytes, beside: bool = True) -> Make:
    """A folder with that file, and with a sound one `beside` it."""

    def make(folder: Path) -> None:
        (folder / _IMAGES).mkdir()
        (folder / _IMAGES / name).write_bytes(data)
        if beside:
            picture().save(folder / _IMAGES / "sound.png")

    return make


def _damaged() -> Iterator[Case]:
    family = "images, damaged"
    for kind, suffix in _FORMATS.items():
        whole = _encoded(kind)
        for part in range(8):
            kept = len(whole) * part // 8
            alone = part % 2 == 0
            make = _folder(f"a.{suffix}", whole[:kept], not alone)
            yield Case(
                family, f"{kind} cut to {kept} bytes", _RUN if part % 4 else _VERIFY, make, _ONLY if alone else _BESIDE
            )
        for part in range(8):
            position = len(whole) * part // 8
            changed = bytearray(whole)
            changed[position] ^= 1 << part
            make = _folder(f"a.{suffix}", bytes(changed), part % 2 == 1)
            codes = _ONLY if part % 2 == 0 else _BESIDE
            yield Case(family, f"{kind} with a bit flipped at byte {position}", _VERIFY, make, codes)


def _png(width: int, height: int, depth: int = 8, kind: int = 2) -> bytes:
    """A PNG that claims a size and holds next to nothing."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    head = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0)
    body = zlib.compress(bytes(1 << 20), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def _bomb(kind: str) -> bytes:
    """A small image that claims ten thousand million pixels."""
    whole = bytearray(_encoded(kind))
    if kind == "GIF":
        whole[6:10] = struct.pack("<HH", 65000, 65000)
    elif kind == "BMP":
        whole[18:26] = struct.pack("<ii", 100_000, 100_000)
    elif kind == "PPM":
        return b"P6 100000 100000 255\n" + bytes(100)
    return bytes(whole)


def _kinds() -> Iterator[Case]:
    family = "images, odd kinds"
    base = picture(2)
    deep = Image.fromarray(np.arange(144, dtype=np.uint16).reshape(12, 12) * 400)
    exif = Image.Exif()
    pictures: dict[str, tuple[str, bytes]] = {
        "one pixel": ("a.png", _encoded("PNG", picture(1, (1, 1)))),
        "one row": ("a.png", _encoded("PNG", picture(1, (4000, 1)))),
        "one column": ("a.png", _encoded("PNG", picture(1, (1, 4000)))),
        "CMYK": ("a.jpg", _encoded("JPEG", base.convert("CMYK"))),
        "CMYK in TIFF": ("a.tif", _encoded("TIFF", base.convert("CMYK"))),
        "LAB": ("a.tif", _encoded("TIFF", base.convert("LAB"))),
        "YCbCr": ("a.tif", _encoded("TIFF", base.convert("YCbCr"))),
        "grey": ("a.png", _encoded("PNG", base.convert("L"))),
        "black and white": ("a.png", _encoded("PNG", base.convert("1"))),
        "a palette": ("a.png", _encoded("PNG", base.convert("P"))),
        "a palette with transparency": ("a.png", _encoded("PNG", base.convert("P"), transparency=3)),
        "grey with transparency": ("a.png", _encoded("PNG", base.convert("LA"))),
        "transparency": ("a.png", _encoded("PNG", base.convert("RGBA"))),
        "16 bits": ("a.png", _encoded("PNG", deep)),
        "32 bits": ("a.tif", _encoded("TIFF", deep.convert("I"))),
        "float": ("a.tif", _encoded("TIFF", deep.convert("F"))),
        "an animation": ("a.gif", _encoded("GIF", base, save_all=True, append_images=[picture(3)] * 9)),
        "an animated PNG": ("a.png", _encoded("PNG", base, save_all=True, append_images=[picture(3)] * 9)),
        "an animated WebP": ("a.webp", _encoded("WEBP", base, save_all=True, append_images=[picture(3)] * 9)),
        "several pages": ("a.tif", _encoded("TIFF", base, save_all=True, append_images=[picture(3)] * 9)),
        "progressive": ("a.jpg", _encoded("JPEG", base, progressive=True)),
        "a text of 1 MB": ("a.png", _encoded("PNG", base, pnginfo=_comment(1 << 20))),
        "zero bytes": ("a.png", b""),
        "a text": ("a.png", b"no image at all"),
        "an SVG": ("a.png", b"<svg xmlns='http://www.w3.org/2000/svg'><image href='file:///etc/passwd'/></svg>"),
        "PostScript": (
            "a.png",
            b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(ran) (w) file closefile\nshowpage\n",
        ),
        "a pickle": ("a.png", b"\x80\x02cos\nsystem\nX\x09\0\0\0touch ran\x85R."),
        "a PNG named JPEG": ("a.jpg", _encoded("PNG")),
        "a JPEG named PNG": ("a.png", _encoded("JPEG")),
        "upper case": ("A.PNG", _encoded("PNG")),
        "no suffix": ("a", _encoded("PNG")),
        "a name with an escape": ("\x1b[2J.png", b"no image"),
        "a name with markup": ("[bold]a[bold].png", b"no image"),
        "a name with a line's end": ("a\nerror: b.png", b"no image"),
        "a name that is no text": (os.fsdecode(b"\xff\xfe.png"), b"no image"),
        "a hidden file": (".a.png", _encoded("PNG")),
        "claims no width": ("a.png", _png(0, 12)),
        "claims 2³¹ pixels a side": ("a.png", _png((1 << 31) - 1, (1 << 31) - 1)),
        "claims 60000 × 60000": ("a.png", _png(60_000, 60_000)),
        "claims 1 × 2³⁰": ("a.png", _png(1, 1 << 30)),
        "claims 16000 × 16000 at 16 bits": ("a.png", _png(16_000, 16_000, 16)),
        **{f"a {kind} of 10¹⁰ pixels": (f"a.{_FORMATS[kind]}", _bomb(kind)) for kind in ("GIF", "BMP", "PPM")},
        "20 million pixels in a row": ("a.png", _encoded("PNG", Image.new("1", (20_000_000, 1)))),
    }
    for orientation in range(10):
        exif[0x0112] = orientation
        pictures[f"turned by EXIF {orientation}"] = ("a.jpg", _encoded("JPEG", base, exif=exif.tobytes()))
    pictures["damaged EXIF"] = ("a.jpg", _encoded("JPEG", base, exif=b"Exif\0\0MM\0*\xff\xff\xff\xff" + b"\1" * 50))
    for name, (file, data) in pictures.items():
        yield Case(family, f"{name}, alone", _VERIFY, _folder(file, data, beside=False), _ONLY)
        yield Case(family, f"{name}, beside a sound one", _VERIFY, _folder(file, data), _BESIDE)


def _comment(length: int) -> Any:
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    info.add_text("Comment", "x" * length, zip=True)
    return info


def _inside(put: Callable[[Path], object], sound: bool = True) -> Make:
    def make(folder: Path) -> None:
        images = folder / _IMAGES
        images.mkdir()
        put(images)
        if sound:
            picture().save(images / "sound.png")

    return make


def _files() -> Iterator[Case]:
    family = "images, odd files"
    odd: dict[str, Callable[[Path], object]] = {
        "a named pipe": lambda f: os.mkfifo(f / "a.png"),
        "a folder by an image's name": lambda f: (f / "a.png").mkdir(),
        "a link to itself": lambda f: (f / "a.png").symlink_to("a.png"),
        "a link to nothing": lambda f: (f / "a.png").symlink_to("nothing.png"),
        "a link to the folder above": lambda f: (f / "up").symlink_to(".."),
        "a link to the folder itself": lambda f: (f / "same").symlink_to("."),
        "a link to a device": lambda f: (f / "a.png").symlink_to("/dev/zero"),
        "a link to random bytes": lambda f: (f / "a.png").symlink_to("/dev/urandom"),
        "an empty folder": lambda f: (f / "empty").mkdir(),
        "a deep folder": lambda f: (f / "/".join(["d"] * 60)).mkdir(parents=True),
        "nothing": lambda f: None,
        "other files": lambda f: (f / "labels.csv").write_text("a,0\n"),
    }
    for name, put in odd.items():
        yield Case(family, f"{name}, alone", _VERIFY, _inside(put, sound=False), _ONLY)
        yield Case(family, f"{name}, beside a sound one", _VERIFY, _inside(put), _BESIDE)
    places: dict[str, Make] = {
        "no folder": lambda f: None,
        "a file": lambda f: (f / _IMAGES).write_text("x"),
        "a named pipe for the folder": lambda f: os.mkfifo(f / _IMAGES),
        "a link to itself for the folder": lambda f: (f / _IMAGES).symlink_to(_IMAGES),
    }
    for name, make in places.items():
        for arguments in (_VERIFY, _EVALUATE):
            yield Case(family, f"{name} ({arguments[0]})", arguments, make, frozenset({INPUT, USAGE}))


def _classes() -> Iterator[Case]:
    family = "class folders"

    def folders(*names: str, images: int = 1) -> Make:
        def make(folder: Path) -> None:
            for name in names:
                (folder / _IMAGES / name).mkdir(parents=True)
                for seed in range(images):
                    picture(seed).save(folder / _IMAGES / name / f"{seed}.png")

        return make

    five = ("0", "1", "2", "3", "4")
    sets: dict[str, tuple[Make, frozenset[int]]] = {
        "fewer than classes": (folders("a", "b"), _REFUSED),
        "more than classes": (folders(*"abcdef"), _REFUSED),
        "a number beyond the classes": (folders(*five, "5"), _REFUSED),
        "a number far beyond": (folders("0", "99999999999999999999"), _REFUSED),
        "1 and 01": (folders("0", "1", "01", "2", "3", "4"), _REFUSED),
        "a negative number": (folders("-1", "0", "1", "2", "3"), _ONLY),
        "numbers and names": (folders("0", "1", "cat", "dog", "3"), _ONLY),
        "other digits": (folders("٠", "١", "٢", "٣", "٤"), _ONLY),
        "superscripts": (folders("⁰", "¹", "²", "³", "⁴"), _ONLY),
        "names with escapes": (folders(*(f"\x1b[{n}m" for n in range(5))), _ONLY),
        "names with markup": (folders(*(f"[bold]{n}" for n in range(5))), _ONLY),
        "names of two lines": (folders(*(f"a\nerror: {n}" for n in range(5))), _ONLY),
        "names that are no text": (folders(*(os.fsdecode(bytes([0xF0 + n])) for n in range(5))), _ONLY),
        "names that differ in case": (folders("a", "A", "b", "B", "c"), _ONLY),
        "hidden folders": (folders(".0", ".1", ".2", ".3", ".4"), _REFUSED),
        "empty folders": (folders(*five, images=0), _REFUSED),
        "no class folders": (_inside(lambda f: None), _REFUSED),
        "one of the numbers": (folders("3"), _ONLY),
        "a very long name": (folders("x" * 255, "a", "b", "c", "d"), _ONLY),
        "images in deeper folders": (folders(*(f"{n}/deep" for n in range(5))), _ONLY),
    }
    for name, (make, codes) in sets.items():
        yield Case(family, name, _EVALUATE, make, codes)
    for name, (make, codes) in sets.items():
        yield Case(family, f"{name} (--json)", (*_EVALUATE, "--json"), make, codes)


_IMAGE = np.zeros((2, 3, 12, 12), np.float32)


def _npy(array: Any) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=True)
    return buffer.getvalue()


def _headed(text: str, data: bytes = b"", version: tuple[int, int] = (1, 0)) -> bytes:
    """An array file with a header of its own."""
    header = text.encode("latin-1") + b"\n"
    length = struct.pack("<H" if version == (1, 0) else "<I", len(header))
    return b"\x93NUMPY" + bytes(version) + length + header + data


class _Marks:
    """Makes a folder when it is unpickled."""

    def __reduce__(self) -> Any:
        return os.mkdir, ("ran",)


def _head(descr: str = "'<f4'", order: str = "False", shape: str = "(2, 3, 12, 12)") -> str:
    return f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}"


def _arrays() -> Iterator[Case]:
    body = _IMAGE.tobytes()
    refused: dict[str, bytes] = {
        "objects": _npy(np.array([_Marks(), 1], dtype=object)),
        "objects of the right shape": _npy(np.full((1, 3, 12, 12), None)),
        "texts": _npy(np.full((1, 3, 12, 12), "x")),
        "complex numbers": _npy(_IMAGE.astype(np.complex64)),
        "records": _npy(np.zeros((1, 3, 12, 12), [("a", "f4"), ("b", "i4")])),
        "dates": _npy(np.zeros((1, 3, 12, 12), "M8[s]")),
        "raw bytes": _npy(np.zeros((1, 3, 12, 12), "V4")),
        **{f"{axes} axes": _npy(np.zeros((3,) * axes, np.float32)) for axes in (0, 1, 2, 3, 5, 9)},
        "no image": _npy(_IMAGE[:0]),
        "no channel": _npy(_IMAGE[:, :0]),
        "no pixel": _npy(_IMAGE[:, :, :0]),
        "four channels": _npy(np.zeros((2, 4, 12, 12), np.float32)),
        "another size": _npy(np.zeros((2, 3, 13, 12), np.float32)),
        "channels last": _npy(np.zeros((2, 12, 12, 3), np.float32)),
        "NaN": _npy(np.full_like(_IMAGE, np.nan)),
        "∞": _npy(np.full_like(_IMAGE, np.inf)),
        "1e300": _npy(np.full((2, 3, 12, 12), 1e300)),
        "pixels in 0..255": _npy(np.arange(_IMAGE.size, dtype=np.uint8).reshape(_IMAGE.shape)),
        "a claim of 2⁴⁰ images": _headed(_head(shape="(1099511627776, 3, 12, 12)"), body),
        "a claim that overflows": _headed(_head(shape="(4611686018427387904, 3, 12, 12)"), body),
        "a claim of 10⁴⁰": _headed(_head(shape=f"({10**40}, 3, 12, 12)"), body),
        "a negative claim": _headed(_head(shape="(-1, 3, 12, 12)"), body),
        "two negative claims": _headed(_head(shape="(-2, -3, 12, 12)"), body),
        "a shape of texts": _headed(_head(shape="('a', 3, 12, 12)"), body),
        "a shape that is none": _headed(_head(shape="None"), body),
        "a shape of floats": _headed(_head(shape="(2.0, 3, 12, 12)"), body),
        "a shape of booleans": _headed(_head(shape="(True, 3, 12, 12)"), body[: 3 * 144 * 4 - 4]),
        "code for a shape": _headed(_head(shape="__import__('os').mkdir('ran')"), body),
        "code for a type": _headed(_head(descr="__import__('os').mkdir('ran')"), body),
        "a type that there is none of": _headed(_head(descr="'<z9'"), body),
        "a type of 2³⁰ bytes": _headed(_head(descr="'|S1073741824'"), body),
        "a nested type": _headed(_head(descr="[('a', [('b', '<f4')])]"), body),
        "objects without a pickle": _headed(_head(descr="'|O'"), body),
        "no key": _headed("{'descr': '<f4'}", body),
        "no dictionary": _headed("[]", body),
        "no header": _headed("", body),
        "deep brackets": _headed("(" * 20_000, body),
        "version 9": _headed(_head(), body, (9, 0)),
        "a header of 4 GB": b"\x93NUMPY\x02\x00\xff\xff\xff\xff" + b"{" * 100,
        "a header of a megabyte": _headed(_head() + " " * (1 << 20), body, (2, 0)),
        "nothing": b"",
        "a text": b"not an array",
        "the mark alone": b"\x93NUMPY",
    }
    whole = _npy(_IMAGE)
    for part in range(16):
        refused[f"cut to {len(whole) * part // 16} bytes"] = whole[: len(whole) * part // 16]
    family = "arrays"
    for name, data in refused.items():
        make = lambda folder, data=data: (folder / "case.npy").write_bytes(data)  # noqa: E731
        arguments = ("verify", ONNX, "--against", ONNX, "--inputs", "case.npy")
        yield Case(family, name, arguments, make, _REFUSED)
    taken: dict[str, bytes] = {
        "half precision": _npy(_IMAGE.astype(np.float16)),
        "double precision": _npy(_IMAGE.astype(np.float64)),
        "more than double precision": _npy(_IMAGE.astype(np.longdouble)),
        "whole numbers": _npy(_IMAGE.astype(np.int64)),
        "truth values": _npy(_IMAGE.astype(bool)),
        "bytes in the other order": _npy(_IMAGE.astype(">f4")),
        "columns first": _npy(np.asfortranarray(_IMAGE)),
        "junk behind": whole + b"junk",
        "a claim of a number less": _headed(_head(shape="(1, 3, 12, 12)"), body),
    }
    for name, data in taken.items():
        make = lambda folder, data=data: (folder / "case.npy").write_bytes(data)  # noqa: E731
        yield Case(family, name, ("verify", ONNX, "--against", ONNX, "--inputs", "case.npy"), make, _ONLY)


def _npz(entries: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, data in entries.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def _archives() -> Iterator[Case]:
    whole = _npy(_IMAGE)
    huge = _headed(_head(shape="(200000, 3, 12, 12)"), bytes(200 << 20))
    packed = _npz({"x.npy": whole}, zipfile.ZIP_DEFLATED)
    odd: dict[str, tuple[bytes, frozenset[int]]] = {
        "nothing in it": (_npz({}), _REFUSED),
        "no array in it": (_npz({"a.txt": b"x"}), _REFUSED),
        "objects in it": (_npz({"x.npy": _npy(np.array([_Marks()], dtype=object))}), _REFUSED),
        "two arrays": (_npz({"x.npy": whole, "y.npy": whole}), _ONLY),
        "an array twice": (_npz({"x.npy": whole, "./x.npy": whole}), _ONLY),
        "a bomb": (_npz({"x.npy": huge}, zipfile.ZIP_DEFLATED), _ONLY),
        "a claim": (_npz({"x.npy": _headed(_head(shape="(1099511627776, 3, 12, 12)"))}), _REFUSED),
        "a path for a name": (_npz({"../../ran.npy": whole}), _ONLY),
        "an escape for a name": (_npz({"\x1b[2J.npy": whole}), _ONLY),
        "packed": (packed, frozenset({OK})),
        "packed by another method": (_npz({"x.npy": whole}, zipfile.ZIP_LZMA), _ONLY),
        "a text": (b"not an archive", _REFUSED),
        "zero bytes": (b"", _REFUSED),
        "a checkpoint by that name": (_npz({"archive/data.pkl": b"\x80\x02N.", "archive/version": b"3"}), _REFUSED),
        **{f"cut to {len(packed) * n // 12} bytes": (packed[: len(packed) * n // 12], _REFUSED) for n in range(1, 12)},
    }
    for position in range(0, len(packed), max(1, len(packed) // 24)):
        changed = bytearray(packed)
        changed[position] ^= 16
        odd[f"a bit flipped at byte {position}"] = (bytes(changed), _ONLY)
    for name, (data, codes) in odd.items():
        make = lambda folder, data=data: (folder / "case.npz").write_bytes(data)  # noqa: E731
        yield Case("arrays in archives", name, ("verify", ONNX, "--against", ONNX, "--inputs", "case.npz"), make, codes)
