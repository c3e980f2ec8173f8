"""Writing an output all or nothing: a temporary file in the same folder, renamed when it is complete."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from kdna_deploy.errors import KdnaError, UsageError


@contextlib.contextmanager
def atomic_output(path: Path, inputs: tuple[Path, ...] = ()) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it to `path` if the block succeeds, remove it if not.

    Raises:
        UsageError: `path` is one of `inputs`, or its folder does not exist.
        KdnaError: the disk is full or not writable.
    """
    for source in inputs:
        if path.exists() and source.exists() and path.samefile(source):
            raise UsageError(f"The output '{path}' is the input itself; choose another name with -o.")
    if not path.parent.is_dir():
        raise UsageError(f"There is no folder '{path.parent}' to write to.")
    if path.is_dir():
        raise UsageError(f"The output '{path}' is a folder; give a file name with -o.")
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.partial{path.suffix}")
    try:
        yield temporary
        temporary.replace(path)
    except OSError as error:
        raise KdnaError(f"'{path}' could not be written: {error.strerror or error}.") from error
    finally:
        for leftover in (temporary, *_external_data(temporary)):
            leftover.unlink(missing_ok=True)


def _external_data(path: Path) -> list[Path]:
    """ONNX weights past 2 GB are written beside the model, under its name."""
    return [path.with_name(path.name + ".data")]
