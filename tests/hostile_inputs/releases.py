"""Releases with a file damaged, exchanged or taken away, and manifests with strange values."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

from kdna_deploy.verbs.own_formats import missing
from tests.hostile_inputs.case import INPUT, NO, OK, Case
from tests.hostile_inputs.damage import json_bytes, misfits
from tests.hostile_inputs.samples import RELEASE, sound

_VERIFY = ("verify", RELEASE)
_MANIFEST = "manifest.json"


def cases() -> Iterator[Case]:
    if missing("mnn"):
        return
    for name in sorted(path.relative_to(sound(RELEASE)).as_posix() for path in sound(RELEASE).rglob("*")):
        if (sound(RELEASE) / name).is_file() and name != _MANIFEST:
            yield from _damaged(name)
    manifest = json.loads((sound(RELEASE) / _MANIFEST).read_bytes())
    for what, value in misfits(manifest, every=7):
        codes = frozenset({OK, NO, INPUT})
        yield Case("release, malformed manifest", what, _VERIFY, _with(_MANIFEST, json_bytes(value)), codes)


def _damaged(name: str) -> Iterator[Case]:
    whole = (sound(RELEASE) / name).read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 1
    changes = {"a bit flipped": bytes(flipped), "half of it": whole[: len(whole) // 2], "empty": b"", "gone": None}
    for what, data in changes.items():
        yield Case("release, files damaged", f"{name} {what}", _VERIFY, _with(name, data), frozenset({NO}))


def _with(name: str, data: bytes | None) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        path = folder / RELEASE / name
        path.unlink() if data is None else path.write_bytes(data)

    return make
