"""Manifest beside folder: is every file there, with the bytes that were shipped, and which are there beside them?"""

from __future__ import annotations

import stat
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Literal, get_args

from kdna_deploy.errors import ArtifactError
from kdna_deploy.files import file_sha256
from kdna_deploy.targets.release.manifest import NAME, Manifest, ReleasedFile, ReleasedModel

State = Literal["as shipped", "changed", "missing", "not readable"]
STATES: tuple[State, ...] = get_args(State)


@dataclass(frozen=True)
class FileProof:
    """Whether a file has the bytes that were shipped; `why` it may not be read, where that is so."""

    path: str
    state: State
    why: str = ""

    @property
    def complaint(self) -> str:
        """A sentence; empty where it has."""
        what = {
            "changed": "has other bytes than were shipped; copy it again",
            "missing": "is missing; copy it again",
            "not readable": f"may not be read: {self.why}; allow it, or copy it again",
        }
        return f"'{self.path}' {what[self.state]}." if self.state in what else ""


def prove_file(folder: Path, shipped: ReleasedFile) -> FileProof:
    try:
        return FileProof(shipped.path, _state(folder / shipped.path, shipped))
    except (FileNotFoundError, NotADirectoryError):
        return FileProof(shipped.path, "missing")
    except OSError as error:
        return FileProof(shipped.path, "not readable", (error.strerror or str(error)).lower())


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
    found = path.stat()
    if not stat.S_ISREG(found.st_mode):
        return "missing"
    same = found.st_size == shipped.bytes and file_sha256(path) == shipped.sha256
    return "as shipped" if same else "changed"


def unknown_files(folder: Path, manifest: Manifest) -> tuple[str, ...]:
    """What lies in the folder and is not named in the manifest: files, pipes, links, and folders that may not be read.

    A link to a folder is not followed, but where files lie behind it that the manifest names.
    """
    known = {NAME, *(one.path for one in manifest.files)}
    above = {parent.as_posix() for path in known for parent in PurePosixPath(path).parents}
    found: list[str] = []
    folders = [folder]
    while folders:
        for path in _listed(inside := folders.pop()):
            name = path.relative_to(folder).as_posix()
            if path == inside:
                found.append(f"{name}/")
            elif _is_folder(path) and (name in above or not path.is_symlink()):
                folders.append(path)
            elif name not in known:
                found.append(name)
    return tuple(sorted(found))


def _listed(folder: Path) -> Sequence[Path]:
    """What is in `folder`; itself where it may not be read."""
    try:
        return list(folder.iterdir())
    except OSError:
        return [folder]


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # what it lies in may be listed, and not looked into
        return False
