"""A file of a release is as it was shipped, or a sentence says what it is instead."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from kdna_deploy.errors import ArtifactError
from kdna_deploy.targets.release.manifest import Manifest, ReleasedFile
from kdna_deploy.targets.release.shipped_files import check_model
from tests.targets.release.test_manifest import MANIFEST


@pytest.fixture
def shipped(tmp_path: Path) -> Manifest:
    """The files of `MANIFEST` in a folder, and a manifest that has their digests."""
    for one in MANIFEST.files:
        path = tmp_path / one.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"content")
    digest = hashlib.sha256(b"content").hexdigest()
    return replace(MANIFEST, files=tuple(ReleasedFile(one.path, 7, digest) for one in MANIFEST.files))


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda path: path.write_bytes(b"CONTENT"), "has other bytes than were shipped"),
        (lambda path: path.write_bytes(b""), "has other bytes than were shipped"),
        (Path.unlink, "is missing"),
    ],
)
def test_a_model_of_which_a_part_is_not_as_shipped_is_refused(
    tmp_path: Path, shipped: Manifest, spoil: Callable[[Path], object], said: str
) -> None:
    first, second = shipped.models
    check_model(tmp_path, shipped, second)
    spoil(tmp_path / "net.bin")
    check_model(tmp_path, shipped, first)
    with pytest.raises(ArtifactError) as refused:
        check_model(tmp_path, shipped, second)
    assert str(refused.value) == f"'{tmp_path / 'net.bin'}' {said}; copy it again."
