"""The manifest of a release: what is in the folder, what was proved of it, and how it is made again.

    DIR/manifest.json  ⇄  Manifest

Nothing of a file is believed before it has its kind: a path leads nowhere but into the folder.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from kdna_deploy.errors import ArtifactError
from kdna_deploy.json_schema import (
    Kind,
    Misfit,
    anything,
    check_schema,
    integer,
    list_of,
    mapping,
    number,
    one_of,
    optional,
    record,
    text,
)
from kdna_deploy.targets.serving.servers import SERVERS

SCHEMA_VERSION = 1
KIND = "release"
NAME = "manifest.json"


@dataclass(frozen=True)
class ReleasedFile:
    """A file in the folder; `path` is relative to it."""

    path: str
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Agreed:
    """How a file answered beside what was recorded: `used` is the share of what is allowed."""

    beside: str
    images: int
    used: float


@dataclass(frozen=True)
class ReleasedModel:
    """A file that computes.

    Attributes:
        target: that it was made for.
        parts: files without which it cannot be opened, itself first.
        exported: what was proved or measured of it when it was written, a sentence.
        command: that makes it alone.
        runtime: that it was run on, with the version; None where it could not be run.
        answers: None likewise.
    """

    file: str
    target: str
    parts: tuple[str, ...]
    exported: str
    command: str
    runtime: str | None = None
    answers: Agreed | None = None


@dataclass(frozen=True)
class ReleasedPackage:
    """A folder for a server; `models` are copies in it, path → the model's file."""

    folder: str
    server: str
    models: Mapping[str, str]
    command: str


@dataclass(frozen=True)
class Manifest:
    """What is in the folder of a release (docs/ship.md has the fields)."""

    name: str
    network: Mapping[str, Any]
    licence: str | None
    targets: tuple[str, ...]
    models: tuple[ReleasedModel, ...]
    packages: tuple[ReleasedPackage, ...]
    files: tuple[ReleasedFile, ...]
    commands: Mapping[str, str]
    made_with: Mapping[str, Any]
    notes: tuple[str, ...] = ()
    schema_version: int = SCHEMA_VERSION
    kind: str = field(default=KIND)

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=1, ensure_ascii=False) + "\n"

    def file(self, path: str) -> ReleasedFile | None:
        """The file of that path; None where the manifest names none."""
        return next((one for one in self.files if one.path == path), None)


_PART = r"(?!\.{1,2}(/|$))[^/\\]+"
_PATH = text(rf"(?![A-Za-z]:){_PART}(/{_PART})*", most=1000)
_COUNT, _DIGEST, _NAME = integer(0), text("[0-9a-f]{64}"), text(most=1000)
_LONG = text(most=1 << 16)


def _made(kind: type, fields: Mapping[str, Kind]) -> Kind:
    """An object that a dataclass is made of."""
    check = record(fields)
    return lambda value: kind(**check(value))


def _several(kind: Kind, least: int = 0) -> Kind:
    check = list_of(kind, most=10_000, least=least)
    return lambda value: tuple(check(value))


_ANSWERS = _made(Agreed, {"beside": _NAME, "images": _COUNT, "used": number})
_MODEL = _made(
    ReleasedModel,
    {
        "file": _PATH,
        "target": _NAME,
        "parts": _several(_PATH, least=1),
        "exported": _LONG,
        "command": _LONG,
        "runtime": optional(_NAME),
        "answers": optional(_ANSWERS),
    },
)
_PACKAGE = _made(
    ReleasedPackage,
    {"folder": _PATH, "server": one_of(*SERVERS), "models": mapping(_PATH, _PATH), "command": _LONG},
)
_MANIFEST = _made(
    Manifest,
    {
        "name": _NAME,
        "network": mapping(_NAME, anything),
        "licence": optional(text()),
        "targets": _several(_NAME),
        "models": _several(_MODEL, least=1),
        "packages": _several(_PACKAGE),
        "files": _several(_made(ReleasedFile, {"path": _PATH, "bytes": _COUNT, "sha256": _DIGEST})),
        "commands": mapping(_NAME, _LONG),
        "made_with": mapping(_NAME, anything),
        "notes": _several(_LONG),
        "schema_version": integer(1),
        "kind": one_of(KIND),
    },
)


def read_manifest(folder: Path) -> Manifest:
    """The manifest in `folder`.

    Raises:
        ArtifactError: there is none, it is damaged, contradicts itself, or is of a later schema.
    """
    path = folder / NAME
    if not path.is_file():
        raise ArtifactError(f"There is no {NAME} in '{folder}'; give a folder that `ship` wrote, or a file.")
    try:
        data = json.loads(path.read_bytes())
        check_schema(data, SCHEMA_VERSION, str(path), "written")
        found: Manifest = _MANIFEST(data)
        _check_named(found)
    except (Misfit, RecursionError, ValueError) as error:
        why = f" ({error})" if isinstance(error, Misfit) else ""
        raise ArtifactError(f"'{path}' is no manifest of a release, or damaged{why}; copy it again.") from error
    if contradiction := next(_contradictions(found), None):
        raise ArtifactError(f"'{path}' contradicts itself: {contradiction}; copy it again.")
    return found


def _check_named(manifest: Manifest) -> None:
    """Every part of a model is among the files."""
    paths = {one.path for one in manifest.files}
    named = [part for one in manifest.models for part in (one.file, *one.parts)]
    named += [path for one in manifest.packages for path in one.models]
    if missing := next((path for path in named if path not in paths), None):
        raise Misfit(f"without '{missing}'", ("files",))


def _contradictions(manifest: Manifest) -> Iterator[str]:
    """What cannot be true of a release: the parts of a model are run as its file, and copies of it are not run."""
    yield from (f"it names '{path}' twice" for path in _twice(one.path for one in manifest.files))
    yield from (f"it has two models in '{file}'" for file in _twice(one.file for one in manifest.models))
    for model in manifest.models:
        if model.parts[0] != model.file:
            yield f"the first part of the model in '{model.file}' is '{model.parts[0]}'"
    yield from (f"'{one.folder}' holds no copy of a model" for one in manifest.packages if not one.models)
    copies = [pair for package in manifest.packages for pair in package.models.items()]
    models = {one.file for one in manifest.models}
    for path, file in copies:
        if file not in models:
            yield f"'{path}' is said to be a copy of '{file}', which is none of its models"
        elif _content(manifest, path) != _content(manifest, file):
            yield f"'{path}' is said to be a copy of '{file}', and has other bytes"


def _twice(names: Iterable[str]) -> list[str]:
    return [name for name, times in Counter(names).items() if times > 1]


def _content(manifest: Manifest, path: str) -> tuple[int, str] | None:
    file = manifest.file(path)
    return (file.bytes, file.sha256) if file else None
