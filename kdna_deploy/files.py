"""Writing an output all or nothing: a temporary folder beside it, renamed out of there when it is complete.

A whole folder (`new_folder`) is renamed itself, and never replaces one that holds something.

What lies beside an output (weights, an engine's record) is renamed first and the output last. Killed in between, the
earlier output is still complete: weights have a name of their own (`onnx.external_data`), and an engine's record tells
that an engine is not the one that it describes. A folder left by a killed process stops nobody.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kdna_deploy.errors import KdnaError, UsageError
from kdna_deploy.external_data import PARTIAL, abandoned_weights, external_files
from kdna_deploy.kinds import IMAGE_SUFFIXES

_FULL = {errno.ENOSPC, errno.EFBIG, errno.EDQUOT}  # no space, a limit, a quota
_CLOSED = {errno.EROFS, errno.EACCES, errno.EPERM}  # room would not help
_PREFIX_LENGTH = 40  # names of 255 bytes must be possible


def check_output(path: Path, inputs: tuple[Path, ...] = (), word: str = "output") -> None:
    """Refuse an output that could not be written, before any work is done for it.

    Files of weights that an ONNX file among `inputs` refers to, and images in a folder among them, are inputs as well.
    `word` is the parameter that names the output.

    Raises:
        UsageError: `path` is one of `inputs`, no regular file, or its folder does not exist or takes no files.
    """
    if str(path) == "-":
        raise UsageError(f"Outputs are files, and '-' is none; give a file name with `{word}`.")
    try:
        _check_place(path, word)
        for source in inputs:
            _check_not(path, source, word)
    except OSError as error:
        raise UsageError(
            f"The output '{path}' cannot be written: {error.strerror or error}; choose another name with `{word}`."
        ) from error


def _check_place(path: Path, word: str) -> None:
    if not path.parent.is_dir():
        raise UsageError(f"There is no folder '{path.parent}' to write to; make it, or choose another with `{word}`.")
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        path.stat()  # tells a name that is too long, or a link that leads nowhere but to itself
    if path.is_dir():
        raise UsageError(f"The output '{path}' is a folder; give a file name with `{word}`.")
    if path.exists() and not path.is_file():
        raise UsageError(f"The output '{path}' is a device, which would be replaced; give a file name with `{word}`.")
    check_open(path, word)


def check_open(path: Path, word: str) -> None:
    """Refuse a path in a folder that takes no files.

    Raises:
        UsageError: it does not. `word` names the path.
    """
    folder = path.absolute().parent
    if not os.access(folder, os.W_OK | os.X_OK, effective_ids=os.access in os.supports_effective_ids):
        raise UsageError(f"The folder '{path.parent}' may not be written to; choose another with `{word}`.")


def _check_not(path: Path, source: Path, word: str) -> None:
    if not path.exists() or not source.exists():
        return
    if path.samefile(source):
        raise UsageError(f"The output '{path}' is the input itself; choose another name with `{word}`.")
    if any(weights.exists() and path.samefile(weights) for weights in external_files(source)):
        raise UsageError(f"The output '{path}' holds the weights of '{source}'; choose another name with `{word}`.")
    inside = path.suffix.lower() in IMAGE_SUFFIXES and source.resolve() in path.resolve().parents
    if inside and source.is_dir():
        raise UsageError(f"The output '{path}' is an image of the input '{source}'; choose another name with `{word}`.")


def file_sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a file's bytes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest() if hasattr(hashlib, "file_digest") else _digest(stream)


def _digest(stream: Any) -> str:
    # hashlib.file_digest came with Python 3.11.
    digest = hashlib.sha256()
    while block := stream.read(1 << 20):
        digest.update(block)
    return digest.hexdigest()


@contextlib.contextmanager
def scratch_folder(purpose: str) -> Iterator[Path]:
    """A temporary folder for files of tens of megabytes, removed at the end.

    Raises:
        KdnaError: the disk is full or not writable.
    """
    try:
        folder = Path(tempfile.mkdtemp(prefix=f"kdna-{purpose}-"))
    except OSError as error:  # without a name where no folder at all will do
        raise _no_scratch(error, os.environ.get("TMPDIR", "the temporary folder")) from error
    try:
        yield folder
    except OSError as error:
        if not _concerns(error, folder):
            raise
        raise _no_scratch(error, str(folder.parent)) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _no_scratch(error: OSError, place: str) -> KdnaError:
    remedy = "set TMPDIR" if error.errno in _CLOSED else "make room there, or set TMPDIR"
    return KdnaError(
        f"Temporary files could not be written to '{place}': {error.strerror or error}; {remedy} to another folder."
    )


@contextlib.contextmanager
def atomic_output(path: Path, inputs: tuple[Path, ...] = (), word: str = "output") -> Iterator[Path]:
    """Yield a temporary path of the same name; rename it to `path` if the block succeeds, remove it if not.

    What the block writes beside the temporary path (the weights of a large ONNX model) comes along, and replaces none
    of `inputs` either. Weights that an earlier output of this name left are removed.

    Raises:
        UsageError: as `check_output`.
        KdnaError: the disk is full or not writable.
    """
    check_output(path, inputs, word)
    place, sources = path.absolute(), tuple(source.absolute() for source in inputs)  # wherever the block goes
    try:
        folder = Path(tempfile.mkdtemp(PARTIAL, f".{path.name[:_PREFIX_LENGTH]}.", place.parent))
    except OSError as error:
        raise _not_written(path, error) from error
    try:
        yield folder / path.name
        _rename(folder, place, sources, word)
    except OSError as error:
        if not _concerns(error, folder):
            raise
        raise _not_written(path, error) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _rename(folder: Path, path: Path, inputs: tuple[Path, ...], word: str) -> None:
    """Move what is in `folder` beside `path`, and what is to be `path` last."""
    written = sorted(folder.iterdir(), key=lambda file: file.name == path.name)
    for file in written:
        check_output(path.with_name(file.name), inputs, word)
    for file in written:
        file.replace(path.with_name(file.name))
    for weights in abandoned_weights(path):
        with contextlib.suppress(OSError):  # what is left over does no harm
            if not any(source.exists() and weights.samefile(source) for source in inputs):
                weights.unlink()


def _concerns(error: OSError, folder: Path) -> bool:
    """Whether `error` is about writing to `folder`; reading something else may have failed in the meantime."""
    named = [os.fsdecode(name) for name in (error.filename, error.filename2) if isinstance(name, (str, bytes))]
    if named:
        return any(folder in Path(name).parents or folder == Path(name) for name in named)
    return error.errno in {*_FULL, errno.EROFS}


def _not_written(path: Path, error: OSError) -> KdnaError:
    remedy = "choose another place" if error.errno in _CLOSED else "make room there, or choose another place"
    return KdnaError(f"'{path}' could not be written: {error.strerror or error}; {remedy}.")


def check_folder(folder: Path) -> None:
    """Refuse a folder that could not be written, before any work is done for it.

    Raises:
        UsageError: it holds something, is a file, or lies in no folder, or in one that takes no files.
    """
    try:
        if folder.is_dir() and any(not _is_partial(one) for one in folder.iterdir()):
            raise UsageError(f"The folder '{folder}' holds something already; name another with `to`, or remove it.")
        if not folder.is_dir() and (folder.exists() or folder.is_symlink()):
            raise UsageError(f"'{folder}' is no folder; name another with `to`.")
        if not folder.absolute().parent.is_dir():
            raise UsageError(f"There is no folder '{folder.parent}' to write to; make it, or name another with `to`.")
        check_open(folder / "file" if folder.is_dir() else folder, "to")
    except OSError as error:
        raise UsageError(
            f"The folder '{folder}' cannot be written: {error.strerror or error}; name another with `to`."
        ) from error


def _is_partial(path: Path) -> bool:
    """What a process that was killed has left."""
    return path.name.startswith(".") and path.name.endswith(PARTIAL)


@contextlib.contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """Yield an empty folder; it becomes `folder` if the block succeeds, and vanishes if not.

    A `folder` that is there stays the one it is, with its owner and mode, for it may be a mount, a link or the current
    one: what was made is moved into it.

    Raises:
        UsageError: as `check_folder`.
        KdnaError: the disk is full or not writable.
    """
    check_folder(folder)
    place = folder.absolute()  # wherever the block goes
    there = place.is_dir()
    try:
        made = Path(tempfile.mkdtemp(PARTIAL, f".{folder.name[:_PREFIX_LENGTH]}.", place if there else place.parent))
    except OSError as error:
        raise _not_written(folder, error) from error
    try:
        yield made
        made.chmod(0o755)  # others read it, servers too
        if there:
            _move_into(place, made)
        else:
            made.rename(place)
    except KdnaError as error:  # that may name files in what is gone by the time it is read
        error.args = tuple(_renamed(argument, made, folder) for argument in error.args)
        raise
    except OSError as error:
        if not _concerns(error, made):
            raise
        raise _not_written(folder, error) from error
    finally:
        shutil.rmtree(made, ignore_errors=True)


def _move_into(place: Path, made: Path) -> None:
    """Move all that is in `made` to `place`, or nothing."""
    moved: list[Path] = []
    try:
        for one in sorted(made.iterdir()):
            moved.append(one.rename(place / one.name))
    except BaseException:
        for one in moved:
            one.rename(made / one.name)  # which is removed
        raise


def _renamed(argument: Any, made: Path, folder: Path) -> Any:
    return argument.replace(str(made), str(folder)) if isinstance(argument, str) else argument
