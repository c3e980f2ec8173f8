"""What a path that is to be read really names, told before torch, ONNX Runtime or NumPy are imported.

    exists? → a regular file (or a folder, where one is wanted)? → may it be read? → is it of a kind that was asked for?

The kind is told from the first bytes, from the names in a zip archive, and only then from the suffix, which says no
more than what a file was meant to be. A file of no known kind passes: whoever reads it knows best what is wrong.
"""

from __future__ import annotations

import errno
import os
import re
import stat
import zipfile
from collections.abc import Collection
from pathlib import Path

from kdna_deploy.errors import InputError
from kdna_deploy.kinds import LABEL_SUFFIXES, MODELS, OWN, SUFFIXES, Kind, model_of_weights, named_kind

__all__ = ["MODELS", "Kind", "check_images", "check_input", "check_labelled", "check_readable"]

_HEAD_BYTES = 256
_SPECIAL = {
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}
_PICKLES = (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")  # of each protocol that torch.save has written
_OPENVINO = re.compile(rb"(\xef\xbb\xbf)?\s*(<\?xml[^>]*>\s*)?<net[\s>]")
_NCNN = re.compile(rb"7767517\s")
_IMAGES = (b"\x89PNG\r\n", b"\xff\xd8\xff", b"GIF87a", b"GIF89a", b"II*\0", b"MM\0*")


def check_input(path: Path, wanted: Collection[Kind], reader: str) -> None:
    """Refuse what cannot be a file of one of the kinds `wanted`; `reader` is the verb or the parameter that takes it.

    Raises:
        InputError: it is not there, no regular file, may not be read, or is of another kind.
    """
    mode = _mode(path, "file")
    if stat.S_ISDIR(mode):
        raise InputError(f"'{path}' is a folder; {reader} takes {_listed(wanted)}.")
    _check_regular(path, mode)
    kind = _kind(path)
    if kind is None and (model := model_of_weights(path)) is not None:
        advice = "give that" if named_kind(model) in wanted else f"{reader} takes {_listed(wanted)}"
        raise InputError(f"'{path}' holds the weights of '{model}'; {advice}.")
    if kind is not None and kind not in wanted:
        advice = "; give the folder that it lies in" if kind is Kind.image and Kind.images in wanted else ""
        raise InputError(f"'{path}' is {kind.value}, and {reader} takes {_listed(wanted)}{advice}.")
    if len(wanted) > 1 and kind is not None and named_kind(path) is not kind:
        raise InputError(
            f"'{path}' is {kind.value}, which its name does not say; rename it to {_renamed(path, SUFFIXES.get(kind))}."
        )


def check_images(path: Path, reader: str, file: Kind = Kind.images) -> None:
    """Refuse what is neither a folder nor a file of the kind `file`, a NumPy file by default.

    Raises:
        InputError: it is not there, neither a folder nor a regular file, may not be read, or is of another kind.
    """
    mode = _mode(path, "file or folder")
    if stat.S_ISDIR(mode):
        _check_listed(path)
    else:
        check_input(path, (file,), reader)


def check_labelled(path: Path, reader: str) -> None:
    """Refuse what is neither a folder nor a table of image files and their classes.

    Raises:
        InputError: it is not there, neither, or may not be read.
    """
    mode = _mode(path, "folder")
    if stat.S_ISDIR(mode):
        _check_listed(path)
        return
    if not stat.S_ISREG(mode) or path.suffix not in LABEL_SUFFIXES:
        what = _SPECIAL.get(stat.S_IFMT(mode), "a file")
        tables = ", ".join(LABEL_SUFFIXES)
        raise InputError(
            f"'{path}' is {what}; {reader} takes a folder that holds a folder of images for each class, or a table of "
            f"images and classes ({tables})."
        )
    check_readable(path)


def check_readable(path: Path) -> None:
    """Refuse what is no file, or may not be read.

    Raises:
        InputError: it is.
    """
    check_regular(path)
    _kind(path)


def check_regular(path: Path) -> None:
    """Refuse what is no file.

    Raises:
        InputError: it is not there, a folder, or something else.
    """
    mode = _mode(path, "file")
    if stat.S_ISDIR(mode):
        raise InputError(f"'{path}' is a folder, not a file.")
    _check_regular(path, mode)


def _mode(path: Path, wanted: str) -> int:
    try:
        return path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        if path.is_symlink():
            raise InputError(f"'{path}' is a link to '{path.readlink()}', which is not there.") from None
        raise InputError(f"There is no {wanted} '{path}'.") from None
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise InputError(f"'{path}' is a link that leads back to itself.") from None
        raise _unreadable(path, error) from error
    except ValueError:  # a zero byte
        raise InputError(f"There is no {wanted} '{path}'.") from None


def _check_regular(path: Path, mode: int) -> None:
    if not stat.S_ISREG(mode):
        what = _SPECIAL.get(stat.S_IFMT(mode), "something else")
        raise InputError(f"'{path}' is {what}, not a file; write what it holds into a file first.")


def _check_listed(path: Path) -> None:
    try:
        with os.scandir(path):
            pass
    except OSError as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: OSError) -> InputError:
    said = (error.strerror or str(error)).lower()
    return InputError(f"'{path}' may not be read: {said}.")


def _kind(path: Path) -> Kind | None:
    """What the file at `path` holds; None where that cannot be told."""
    try:
        with path.open("rb") as stream:
            head = stream.read(_HEAD_BYTES)
    except OSError as error:
        raise _unreadable(path, error) from error
    if head.startswith(_IMAGES) or (head[:4] == b"RIFF" and head[8:12] == b"WEBP"):
        return Kind.image
    if head.startswith(b"\x93NUMPY"):
        return Kind.images
    if head.startswith(b"PK"):
        return _archive_kind(path)
    if head.startswith(_PICKLES):
        return Kind.checkpoint
    return _text_kind(path, head) or _named(path)


def _text_kind(path: Path, head: bytes) -> Kind | None:
    if _OPENVINO.match(head):
        return Kind.openvino
    if _NCNN.match(head):
        return Kind.ncnn
    return Kind.saved_run if head.lstrip()[:1] == b"{" and path.suffix == ".json" else None


def _named(path: Path) -> Kind | None:
    """What is told by the name alone; the others are archives or pickles, or damaged."""
    named = named_kind(path)
    return named if named in (Kind.onnx, *OWN, Kind.engine) else None


def _archive_kind(path: Path) -> Kind | None:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (
        Exception
    ):  # damaged bytes lead the reader of zip archives anywhere; the file's own reader says what is wrong
        return None
    if names and all(name.endswith(".npy") for name in names):
        return Kind.images
    if any(name.endswith(("/archive_format", "/archive_version")) or "/models/" in name for name in names):
        return Kind.fused
    if any(name.endswith("/data.pkl") for name in names):
        return Kind.checkpoint
    return None


def _renamed(path: Path, suffix: str | None) -> str:
    return f"'{path.stem}{suffix or '.pt'}'"


def _listed(kinds: Collection[Kind]) -> str:
    *some, last = [kind.value for kind in kinds]
    return f"{', '.join(some)} or {last}" if some else last
