"""The timing cache: how fast each kernel was on this GPU, so that a second build does not time it again.

One file for each library version and GPU, in the user's cache folder, for timings hold for no other. Does not apply to
TensorRT-RTX, which times nothing while it builds: its timing cache has no effect but to ask for a GPU.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kdna_deploy.runtimes.nvidia.library import OpenedLibrary


def cache_folder() -> Path:
    """Where timing caches are kept; ``KDNA_CACHE`` in the environment names another folder."""
    if named := os.environ.get("KDNA_CACHE"):
        return Path(named)
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local"))
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "kdna-deploy"


def cache_path(folder: Path, library: str, version: str, gpu: str) -> Path:
    """The file of a library version and a GPU."""
    return folder / (re.sub(r"[^\w.]+", "-", f"{library} {version} {gpu}") + ".timing")


@contextlib.contextmanager
def timing_cache(opened: OpenedLibrary, config: Any) -> Iterator[Path | None]:
    """Build with the cache kept from earlier builds, and keep it; yields its file, None where there is none."""
    if opened.gpu is None or opened.library.ahead_of_time:
        yield None
        return
    path = cache_path(cache_folder(), opened.library.name, opened.version, opened.gpu.name)
    kept = b""
    with contextlib.suppress(OSError):
        kept = path.read_bytes()
    # What cannot be read is timed again: a cache of another version or GPU is refused by the library itself.
    cache = config.create_timing_cache(kept) or config.create_timing_cache(b"")
    if cache is None or not config.set_timing_cache(cache, ignore_mismatch=False):
        yield None  # the library keeps none: every build times anew
        return
    yield path
    made = config.get_timing_cache()
    content = made.serialize() if made is not None else None
    if content is None:
        return
    with contextlib.suppress(OSError):  # the engine is built: that its timings are not kept costs time, no more
        _replace(path, bytes(content))


def _replace(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        temporary.write_bytes(content)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
