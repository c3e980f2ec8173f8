"""Options that several commands share, and how their values are read. Imports nothing heavy: ``--help`` is instant."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from kdna_deploy.errors import UsageError

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of tables.")]
Arch = Annotated[str | None, typer.Option("--arch", help="Architecture name; told from the checkpoint by default.")]
Model = Annotated[
    str | None,
    typer.Option("--model", metavar="PKG.MODULE:FACTORY", help="Function that builds your own network. Its code runs."),
]
Ema = Annotated[bool, typer.Option("--ema", help="Take the averaged weights that the checkpoint keeps.")]
OptionalInputSize = Annotated[
    str | None,
    typer.Option("--input-size", metavar="N|HxW", help="Image size in pixels; as it was fused or recorded, else 224."),
]
Output = Annotated[Path | None, typer.Option("-o", "--output", help="Output file; named after the input by default.")]

DYNAMIC = "dynamic"
_LARGEST_SIZE = 4096
_CHECKPOINT_SUFFIXES = (".fused.pt2", ".pth.tar", ".safetensors", ".pth", ".pt", ".tar", ".ckpt", ".bin", ".pt2")


def parse_size(text: str) -> tuple[int, int]:
    """``224`` or ``160x192`` → (h, w).

    Raises:
        UsageError: it is neither.
    """
    match = re.fullmatch(r"(\d+)(?:[x×](\d+))?", text.strip())
    size = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
    if not 1 <= min(size) <= max(size) <= _LARGEST_SIZE:
        raise UsageError(f"'{text}' is not an image size up to {_LARGEST_SIZE}; write 224, or HxW such as 160x192.")
    return size


def parse_batch(text: str) -> int | None:
    """``dynamic`` → None, ``8`` → 8.

    Raises:
        UsageError: it is neither.
    """
    if text == DYNAMIC:
        return None
    if not text.isdecimal() or int(text) < 1:
        raise UsageError(f"'{text}' is not a batch size; write 'dynamic' or a number from 1.")
    return int(text)


def stem(path: Path) -> str:
    """File name without what says which kind of file it is: ``net.pth.tar`` → ``net``."""
    for suffix in _CHECKPOINT_SUFFIXES:
        if path.name.endswith(suffix) and path.name != suffix:
            return path.name.removesuffix(suffix)
    return path.stem


def newest(pattern: str, make_one: str) -> Path:
    """The newest file of `pattern` in the current folder.

    Raises:
        UsageError: there is none; `make_one` is the command that makes one.
    """
    found = [path for path in Path().glob(pattern) if path.is_file() and not path.name.startswith(".")]
    if not found:
        raise UsageError(f"There is no {pattern} in this folder; make one with: {make_one}.")
    return max(found, key=lambda path: path.stat().st_mtime_ns)
