"""Writing an output all or nothing: a temporary folder beside it, renamed out of there when it is complete."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from kdna_deploy.errors import KdnaError, UsageError

# No space, a limit, a quota, a disk that takes no files.
_FULL = {errno.ENOSPC, errno.EFBIG, errno.EDQUOT, errno.EROFS}


def check_output(path: Path, inputs: tuple[Path, ...] = ()) -> None:
    """Refuse an output that could not be written, before any work is done for it.

    Raises:
        UsageError: `path` is one of `inputs`, no regular file, or its folder does not exist.
    """
    for source in inputs:
        if path.exists() and source.exists() and path.samefile(source):
            raise UsageError(f"The output '{path}' is the input itself; choose another name with -o.")
    if not path.parent.is_dir():
        raise UsageError(f"There is no folder '{path.parent}' to write to; make it, or choose another with -o.")
    if path.is_dir():
        raise UsageError(f"The output '{path}' is a folder; give a file name with -o.")
    if path.exists() and not path.is_file():
        raise UsageError(f"The output '{path}' is a device, which would be replaced; give a file name with -o.")


@contextlib.contextmanager
def scratch_folder(purpose: str) -> Iterator[Path]:
    """A temporary folder for files of tens of megabytes, removed at the end.

    Raises:
        KdnaError: the disk is full or not writable.
    """
    try:
        with tempfile.TemporaryDirectory(prefix=f"kdna-{purpose}-") as folder:
            yield Path(folder)
    except OSError as error:
        if error.errno not in _FULL:
            raise
        raise KdnaError(
            f"Temporary files could not be written to '{tempfile.gettempdir()}': {error.strerror or error}; "
            "make room there, or set TMPDIR to another folder."
        ) from error


@contextlib.contextmanager
def atomic_output(path: Path, inputs: tuple[Path, ...] = ()) -> Iterator[Path]:
    """Yield a temporary path of the same name; rename it to `path` if the block succeeds, remove it if not.

    What the block writes beside the temporary path (the weights of a large ONNX model) comes along.

    Raises:
        UsageError: as `check_output`.
        KdnaError: the disk is full or not writable.
    """
    check_output(path, inputs)
    folder = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        folder.mkdir()
        temporary = folder / path.name
        yield temporary
        for written in sorted(folder.iterdir(), key=lambda file: file == temporary):  # the file itself last
            written.replace(path.with_name(written.name))
    except OSError as error:
        raise KdnaError(
            f"'{path}' could not be written: {error.strerror or error}; make room there, or choose another place."
        ) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)
