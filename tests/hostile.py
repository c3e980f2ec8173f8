"""What the tests of hostile files share: how a refusal must look, and archives with parts of them changed."""

from __future__ import annotations

import json
import resource
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from kdna_deploy.errors import InputError

MODEL = "models/model.json"
WEIGHTS = "data/weights/model_weights_config.json"
PROVENANCE = "extra/kdna.json"
MEMORY = 256 << 10  # in kB: far above what any of these files is worth
Member = tuple[str, bytes]


def refusal(action: Callable[[], Any], path: Path) -> str:
    """The message with which `action` refuses the file at `path`: one or two sentences, exit code 3, little memory."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(InputError) as caught:
        action()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < MEMORY
    return checked_message(caught.value, path)


def checked_message(error: InputError, path: Path) -> str:
    message = str(error)
    assert error.exit_code == 3
    assert f"'{path}'" in message
    assert message.endswith((".", "fuse", "fuse CKPT"))
    assert message.replace(str(path), "").isprintable()
    assert len(message.replace(str(path), "")) < 600
    return message


def members(path: Path) -> dict[str, bytes]:
    """Contents by name, below the archive's folder."""
    with zipfile.ZipFile(path) as archive:
        return {name.partition("/")[2]: archive.read(name) for name in archive.namelist()}


def write_members(path: Path, contents: dict[str, bytes], folder: str = "archive") -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in contents.items():
            archive.writestr(zipfile.ZipInfo(f"{folder}/{name}"), content)
    return path


Edit = Callable[[Any], Any]


def edited(source: Path, path: Path, member: str, edit: Edit) -> Path:
    """A copy of the archive `source` at `path`, the JSON of one `member` changed by `edit`, in place or returned."""
    contents = members(source)
    value = json.loads(contents[member])
    changed = edit(value)
    contents[member] = json.dumps(value if changed is None else changed).encode()
    return write_members(path, contents)


def places(value: Any, way: tuple[Any, ...] = (), longest: int = 2) -> Iterator[tuple[Any, ...]]:
    """The way to every value inside a JSON value; of lists, to the first `longest` entries."""
    if way:
        yield way
    if isinstance(value, dict):
        for key, item in value.items():
            yield from places(item, (*way, key), longest)
    elif isinstance(value, list):
        for position, item in enumerate(value[:longest]):
            yield from places(item, (*way, position), longest)


def replaced(value: Any, way: tuple[Any, ...], new: Any) -> Any:
    """A JSON value with the value at the end of `way` replaced; it shares with `value` what is not on the way."""
    if not way:
        return new
    changed = value.copy()
    changed[way[0]] = replaced(value[way[0]], way[1:], new)
    return changed


# In the place of anything.
STRANGE = (None, True, -1, 10**30, 1.5, float("inf"), "", "\x1b[31m", "x" * 10_000, [], [[]], {}, {"as_expr": 3})
