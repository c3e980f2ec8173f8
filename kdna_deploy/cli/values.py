"""Files that a command takes when none is named. Imports nothing heavy."""

from __future__ import annotations

from pathlib import Path

from kdna_deploy.errors import UsageError


def newest(pattern: str, make_one: str) -> Path:
    """The newest file of `pattern` in the current folder.

    Raises:
        UsageError: there is none; `make_one` is the command that makes one.
    """
    found = [path for path in Path().glob(pattern) if path.is_file() and not path.name.startswith(".")]
    if not found:
        raise UsageError(f"There is no {pattern} in this folder; make one with: {make_one}.")
    return max(found, key=lambda path: path.stat().st_mtime_ns)
