"""How the values of options are read: sizes, batches, numbers, and the names of files. Imports nothing heavy."""

from __future__ import annotations

import math
import re
from pathlib import Path

from kdna_deploy.errors import UsageError

DYNAMIC = "dynamic"
LARGEST_SIZE = 4096
LARGEST_BATCH = 65536
_CHECKPOINT_SUFFIXES = (".fused.pt2", ".pth.tar", ".safetensors", ".pth", ".pt", ".tar", ".ckpt", ".bin", ".pt2")


def parse_size(text: str) -> tuple[int, int]:
    """``224`` or ``160x192`` → (h, w).

    Raises:
        UsageError: it is neither.
    """
    match = re.fullmatch(r"([0-9]{1,6})(?:[x×]([0-9]{1,6}))?", text.strip())
    size = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
    if not 1 <= min(size) <= max(size) <= LARGEST_SIZE:
        raise UsageError(f"'{text}' is not an image size up to {LARGEST_SIZE}; write 224, or HxW such as 160x192.")
    return size


def parse_batch(text: str) -> int | None:
    """``dynamic`` → None, ``8`` → 8.

    Raises:
        UsageError: it is neither.
    """
    if text == DYNAMIC:
        return None
    if not re.fullmatch(r"[0-9]{1,6}", text) or not 1 <= int(text) <= LARGEST_BATCH:
        raise UsageError(f"'{text}' is not a batch size; write 'dynamic' or a number from 1 to {LARGEST_BATCH}.")
    return int(text)


def check_number(value: float | None, option: str, above: float | None = None) -> None:
    """Refuse what is no finite number from 0, or, with `above`, above that. None passes: the option was left out.

    Raises:
        UsageError: it is none.
    """
    if value is None or (math.isfinite(value) and (value >= 0 if above is None else value > above)):
        return
    wanted = "from 0" if above is None else f"above {above:g}"
    raise UsageError(f"{option} {value:g} is not a number {wanted}; give one, or leave the option out.")


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
