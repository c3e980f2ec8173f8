"""The formats that a benchmark is saved in, told by the name of the file. Imports nothing heavy."""

from __future__ import annotations

from pathlib import Path

from kdna_deploy.errors import UsageError

FORMATS = (".json", ".csv", ".md")


def check_format(path: Path) -> None:
    """Refuse a name that tells no format.

    Raises:
        UsageError: it ends in none of `FORMATS`.
    """
    if path.suffix not in FORMATS:
        raise UsageError(f"`save` writes {', '.join(FORMATS)}; name a file that ends in one of them, not '{path}'.")
