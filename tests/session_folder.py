"""The folder of what several tests share, in pytest's own place: it goes with it, even where a worker is killed.

Both workers of a run have the same one, so that what takes seconds is made by whichever needs it first (`made_once`).
Outside pytest, as in scripts that make tables of the documentation, it is a temporary one of this process.
"""

from __future__ import annotations

import functools
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock

VARIABLE = "KDNA_TESTS_FOLDER"  # set by `tests.conftest`; processes that a test starts inherit it


def shared_folder(name: str) -> Path:
    """The folder of that name in it; made where there is none yet."""
    within = os.environ.get(VARIABLE)
    folder = (Path(within) if within else Path(_temporary().name)) / name
    folder.mkdir(exist_ok=True)
    return folder


def made_once(path: Path, make: Callable[[Path], object]) -> Path:
    """`path` in a shared folder, which `make` makes where no process of the run has made it. Never write to it."""
    made = path.with_name(f"{path.name}.made")
    if not made.exists():
        with FileLock(path.with_name(f"{path.name}.lock")):
            if not made.exists():
                make(path)
                made.touch()
    return path


@functools.cache
def _temporary() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="kdna-tests-")
