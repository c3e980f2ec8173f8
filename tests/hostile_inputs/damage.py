"""Damage that any file can take, and JSON with one value in the place of another."""

from __future__ import annotations

import json
import random
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tests.hostile import places, replaced
from tests.hostile_inputs.samples import content

Make = Callable[[Path], object]

# In the place of anything.
STRANGE: dict[str, Any] = {
    "null": None,
    "true": True,
    "-1": -1,
    "0": 0,
    "10**30": 10**30,
    "1.5": 1.5,
    "1e999": float("inf"),
    "NaN": float("nan"),
    "no text": "",
    "an escape": "\x1b[31m[bold]",
    "a long text": "x" * 10_000,
    "a path": "../../../../etc/passwd",
    "a list": [],
    "a list of lists": [[[]]],
    "an object": {"a": {}},
}


def written(name: str, data: bytes) -> Make:
    return lambda folder: (folder / name).write_bytes(data)


def flips(source: str, count: int) -> Iterator[tuple[str, bytes]]:
    """`count` copies of a sample with one bit changed, evenly spread over it."""
    whole, chance = content(source), random.Random(source)
    for number in range(count):
        position = (number * len(whole) + chance.randrange(len(whole))) // count
        changed = bytearray(whole)
        changed[position] ^= 1 << chance.randrange(8)
        yield f"a bit flipped at byte {position}", bytes(changed)


def cuts(source: str, count: int) -> Iterator[tuple[str, bytes]]:
    """`count` beginnings of a sample, from nothing to all but one byte."""
    whole = content(source)
    for number in range(count):
        kept = (len(whole) - 1) * number // (count - 1)
        yield f"cut to {kept} bytes", whole[:kept]


def without(value: Any, way: tuple[Any, ...]) -> Any:
    """A JSON value without the one at the end of `way`; it shares the rest with `value`."""
    changed = value.copy()
    if way[1:]:
        changed[way[0]] = without(value[way[0]], way[1:])
    else:
        del changed[way[0]]
    return changed


def misfits(value: Any, every: int = 1, longest: int = 1) -> Iterator[tuple[str, Any]]:
    """Copies of a JSON object with one value replaced by a strange one or taken away; each `every`-th of them."""
    made = (
        (f"{'.'.join(map(str, way))} {what}", way, new)
        for way in places(value, longest=longest)
        for what, new in [*((f"is {label}", (strange,)) for label, strange in STRANGE.items()), ("is missing", None)]
    )
    for number, (name, way, new) in enumerate(made):
        if number % every == 0:
            yield name, without(value, way) if new is None else replaced(value, way, new[0])


def members(path: Path) -> dict[str, bytes]:
    """Contents of a zip archive by name, below its folder."""
    with zipfile.ZipFile(path) as archive:
        return {name.partition("/")[2]: archive.read(name) for name in archive.namelist()}


def zipped(
    path: Path, contents: dict[str, bytes], folder: str = "archive", compression: int = zipfile.ZIP_STORED
) -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in contents.items():
            archive.writestr(zipfile.ZipInfo(f"{folder}/{name}"), data, compression)
    return path


def json_bytes(value: Any) -> bytes:
    return json.dumps(value).encode()
