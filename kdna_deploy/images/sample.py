"""A random subset of labelled files, each class with its share.

    rank  = SHA-256(seed, name)                    files of a class in the order of their ranks, classes in theirs
    taken = ⌊(u + k) · total / limit⌋, k = 0 …     every so many of them, u in [0, 1) from the seed as well

Every file is as likely to be taken as any other, so that accuracy is estimated without bias, and a class has its share
up to one image, so that a balanced data set stays balanced. Equal seeds take equal files, wherever these lie and
whatever else is installed.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

_UNIT = 1 << 64


def sampled(files: Sequence[tuple[Path, int]], limit: int, seed: int, folder: Path) -> tuple[tuple[Path, int], ...]:
    """`limit` of the files, in their order; all of them where there are no more. Names count from `folder`."""
    if limit >= len(files):
        return tuple(files)
    classes: dict[int, list[tuple[int, int]]] = defaultdict(list)
    for place, (path, label) in enumerate(files):
        name = path.relative_to(folder) if path.is_relative_to(folder) else path
        classes[label].append((_rank(seed, name.as_posix()), place))
    by_rank = sorted(classes, key=lambda label: _rank(seed, str(label)))
    order = [place for label in by_rank for _, place in sorted(classes[label])]
    start = _rank(seed, "")
    taken = sorted(order[(start + k * _UNIT) * len(files) // (limit * _UNIT)] for k in range(limit))
    return tuple(files[place] for place in taken)


def _rank(seed: int, name: str) -> int:
    """A number below 2⁶⁴ that looks random."""
    return int.from_bytes(hashlib.sha256(f"{seed} {name}".encode("utf-8", "surrogateescape")).digest()[:8], "big")
