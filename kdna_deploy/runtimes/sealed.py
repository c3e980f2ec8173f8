"""Files that record their own SHA-256, so that a damaged one is refused before a runtime sees it.

    … {provenance} line feed kdna_sha256 DIGEST …        the digest is that of the file with 64 zeros in its place

A runtime takes a file whose numbers are damaged, and ends the process over one whose offsets are. The digest lies
behind the provenance, wherever a format has room for that; where its mark is damaged, the provenance is no JSON.

Does not apply to files without a digest, which are taken as they are: those of others, and earlier ones of ours.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from kdna_deploy.errors import ArtifactError
from kdna_deploy.graph.provenance import KEY

_MARK = f"\n{KEY}_sha256 "  # no JSON has a line feed within a string
_BLANK = b"0" * 64


def with_room(text: str) -> str:
    """What to record for `text` in a file that is sealed then."""
    return f"{text}{_MARK}{_BLANK.decode()}"


def without_digest(recorded: str) -> str:
    """The text for which `with_room` made `recorded`; one without a digest as it is."""
    return recorded.partition(_MARK)[0]


def seal(content: bytearray) -> None:
    """Write the digest of a file with `content` into the room for it."""
    place = _place(content)
    assert place is not None, "it has room for one"
    content[place : place + len(_BLANK)] = _digest(content, place)


def check_whole(content: bytes, path: Path) -> None:
    """Refuse a file with `content` that are not the bytes that were sealed.

    Raises:
        ArtifactError: they are not. `path` names the file.
    """
    place = _place(content)
    if place is not None and content[place : place + len(_BLANK)] != _digest(content, place):
        raise ArtifactError(f"'{path}' is damaged: its bytes are not those that were written; export it again.")


def _place(content: bytes | bytearray) -> int | None:
    """Where the digest begins; None where there is none."""
    mark = _MARK.encode()
    found = content.rfind(mark)
    return found + len(mark) if found >= 0 else None


def _digest(content: bytes | bytearray, place: int) -> bytes:
    view = memoryview(content)
    digest = hashlib.sha256(view[:place])
    digest.update(_BLANK)
    digest.update(view[place + len(_BLANK) :])
    return digest.hexdigest().encode()
