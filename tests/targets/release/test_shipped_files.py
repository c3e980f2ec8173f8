"""A file of a release is as it was shipped, or a sentence says what it is instead."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from kdna_deploy.errors import ArtifactError
from kdna_deploy.targets.release import shipped_files
from kdna_deploy.targets.release.manifest import NAME, Manifest, ReleasedFile
from kdna_deploy.targets.release.shipped_files import check_model, prove_file, unknown_files
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


@pytest.mark.parametrize("number", [errno.EACCES, errno.EIO])
def test_a_file_that_may_not_be_read_is_not_said_to_be_missing(
    tmp_path: Path, shipped: Manifest, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refused(path: Path) -> str:
        raise OSError(number, os.strerror(number), str(path))

    monkeypatch.setattr(shipped_files, "file_sha256", refused)
    proof = prove_file(tmp_path, shipped.files[0])
    assert proof.state == "not readable"
    why = os.strerror(number).lower()
    assert proof.complaint == f"'net.onnx' may not be read: {why}; allow it, or copy it again."


def test_what_is_no_file_in_place_of_one_is_missing(tmp_path: Path, shipped: Manifest) -> None:
    for spoil in (Path.unlink, Path.mkdir):
        spoil(tmp_path / "net.bin")
        assert prove_file(tmp_path, shipped.files[2]).state == "missing"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes")
def test_whatever_lies_there_and_is_not_named_is_told(
    tmp_path: Path, shipped: Manifest, tmp_path_factory: pytest.TempPathFactory
) -> None:
    (tmp_path / NAME).write_text("{}")
    assert unknown_files(tmp_path, shipped) == ()
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "more").write_text("")
    (tmp_path / "link").symlink_to(elsewhere)
    (tmp_path / "nowhere").symlink_to("gone")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "triton" / "net" / "2").mkdir()
    (tmp_path / "triton" / "net" / "2" / "model.onnx").write_text("")
    told = ("link", "nowhere", "pipe", "triton/net/2/model.onnx")
    assert unknown_files(tmp_path, shipped) == told
    # Files of the release may lie behind a link.
    (tmp_path / "triton").rename(elsewhere / "triton")
    (tmp_path / "triton").symlink_to(elsewhere / "triton")
    assert unknown_files(tmp_path, shipped) == told
    assert prove_file(tmp_path, shipped.files[3]).state == "as shipped"
