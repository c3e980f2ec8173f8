"""Files that record their own SHA-256, so that a damaged one is refused before a runtime sees it.

    … {provenance} line feed kdna_sha256 DIGEST …        the digest is that of the file with 64 zeros in its place
    … <kdna_sha256 value="DIGEST" …                      in XML

A runtime takes a file whose numbers are damaged, and ends the process over one whose offsets are. The digest lies
behind the provenance, wherever a format has room for that; where its mark is damaged, the provenance is no JSON. An
XML file whose mark is damaged is taken for one without; its weights have a digest of their own.

Does not apply to files without a digest, which are taken as they are: those of others, and earlier ones of ours.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from kdna_deploy.errors import ArtifactError
from kdna_deploy.graph.provenance import KEY

SEAL_KEY = f"{KEY}_sha256"
ROOM = "0" * 64
XML_MARK = f'<{SEAL_KEY} value="'  # no text or value in XML has a "<"
_MARK = f"\n{SEAL_KEY} "  # no JSON has a line feed within a string


def with_room(text: str) -> str:
    """What to record for `text` in a file that is sealed then."""
    return f"{text}{_MARK}{ROOM}"


def without_digest(recorded: str) -> str:
    """The text for which `with_room` made `recorded`; one without a digest as it is."""
    return recorded.partition(_MARK)[0]


def seal(content: bytearray, mark: str = _MARK) -> None:
    """Write the digest of a file with `content` into the room for it, behind the `mark`."""
    place = _place(content, mark)
    assert place is not None, "it has room for one"
    content[place : place + len(ROOM)] = _digest(content, place)


def check_whole(content: bytes, path: Path, mark: str = _MARK) -> None:
    """Refuse a file with `content` that are not the bytes that were sealed behind the `mark`.

    Raises:
        ArtifactError: they are not. `path` names the file.
    """
    place = _place(content, mark)
    if place is not None and content[place : place + len(ROOM)] != _digest(content, place):
        raise ArtifactError(f"'{path}' is damaged: its bytes are not those that were written; export it again.")


def _place(content: bytes | bytearray, mark: str) -> int | None:
    """Where the digest begins; None where there is none."""
    found = content.rfind(mark.encode())
    return found + len(mark) if found >= 0 else None


def _digest(content: bytes | bytearray, place: int) -> bytes:
    view = memoryview(content)
    digest = hashlib.sha256(view[:place])
    digest.update(ROOM.encode())
    digest.update(view[place + len(ROOM) :])
    return digest.hexdigest().encode()
