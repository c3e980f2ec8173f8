"""Manifest beside folder: is every file there, with the bytes that were shipped, and which are there beside them?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from kdna_deploy.errors import ArtifactError
from kdna_deploy.files import file_sha256
from kdna_deploy.targets.release.manifest import NAME, Manifest, ReleasedFile, ReleasedModel

State = Literal["as shipped", "changed", "missing"]


@dataclass(frozen=True)
class FileProof:
    """Whether a file has the bytes that were shipped."""

    path: str
    state: State

    @property
    def complaint(self) -> str:
        """A sentence; empty where it has."""
        what = {"changed": "has other bytes than were shipped", "missing": "is missing"}
        return f"'{self.path}' {what[self.state]}; copy it again." if self.state in what else ""


def prove_file(folder: Path, shipped: ReleasedFile) -> FileProof:
    return FileProof(shipped.path, _state(folder / shipped.path, shipped))


def check_model(folder: Path, manifest: Manifest, model: ReleasedModel) -> None:
    """Refuse a model of which something is not as it was shipped.

    Raises:
        ArtifactError: it is so.
    """
    shipped = (one for one in manifest.files if one.path in model.parts)
    for proof in (prove_file(folder, one) for one in shipped):
        if proof.complaint:
            raise ArtifactError(replace(proof, path=str(folder / proof.path)).complaint)


def _state(path: Path, shipped: ReleasedFile) -> State:
    try:
        if not path.is_file():
            return "missing"
        same = path.stat().st_size == shipped.bytes and file_sha256(path) == shipped.sha256
    except OSError:  # it may not be read
        return "missing"
    return "as shipped" if same else "changed"


def unknown_files(folder: Path, manifest: Manifest) -> Iterator[str]:
    """Files that the manifest does not name."""
    known = {NAME, *(one.path for one in manifest.files)}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and (name := path.relative_to(folder).as_posix()) not in known:
            yield name
