"""Files that record their own digest: anything else than what was sealed is refused, files without are left."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from kdna_deploy.errors import ArtifactError
from kdna_deploy.runtimes.sealed import check_whole, seal, with_room, without_digest

PATH = Path("net.mnn")


def sealed(text: str = "{}") -> bytearray:
    content = bytearray(b"head " + with_room(text).encode() + b" weights")
    seal(content)
    return content


def test_what_is_recorded_is_the_digest_with_zeros_in_its_place() -> None:
    content = sealed()
    before, digest, behind = content[:20], content[20:84], content[84:]
    assert before.endswith(b"\nkdna_sha256 ") and behind == b" weights"
    assert digest.decode() == hashlib.sha256(before + b"0" * 64 + behind).hexdigest()
    check_whole(bytes(content), PATH)


def test_any_other_byte_is_refused() -> None:
    for place in set(range(len(sealed()))) - set(range(7, 20)):  # the mark itself
        content = sealed()
        content[place] ^= 32  # the case of a letter
        with pytest.raises(ArtifactError, match=r"^'net\.mnn' is damaged: .*; export it again\.$"):
            check_whole(bytes(content), PATH)
    with pytest.raises(ArtifactError):
        check_whole(bytes(sealed()[:-1]), PATH)


def test_a_damaged_mark_is_left_in_the_text() -> None:
    assert without_digest(with_room("{}")) == without_digest("{}") == "{}"
    damaged = with_room("{}").replace("sha256", "sha257")
    assert without_digest(damaged) == damaged


def test_files_without_a_digest_are_left_alone() -> None:
    check_whole(b"kdna {}", PATH)
