"""The folder of what several tests share, in pytest's own place: it goes with it, even where a worker is killed.

Outside pytest, as in scripts that make tables of the documentation, a temporary one of this process.
"""

from __future__ import annotations

import functools
import os
import tempfile
from pathlib import Path

VARIABLE = "KDNA_TESTS_FOLDER"  # set by `tests.conftest`; processes that a test starts inherit it


def shared_folder(name: str) -> Path:
    """The folder of that name in it; made where there is none yet."""
    within = os.environ.get(VARIABLE)
    folder = (Path(within) if within else Path(_temporary().name)) / name
    folder.mkdir(exist_ok=True)
    return folder


@functools.cache
def _temporary() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="kdna-tests-")
