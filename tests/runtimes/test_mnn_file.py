"""MNN files, read without MNN: what they record, and what is refused."""

from __future__ import annotations

import struct
import uuid
from pathlib import Path

import pytest

from kdna_deploy.errors import ArtifactError
from kdna_deploy.graph.provenance import Provenance
from kdna_deploy.input_files import MODELS, Kind, check_input
from kdna_deploy.runtimes.mnn_file import read_mnn, recorded, with_own_uuid
from kdna_deploy.runtimes.sealed import seal

MADE = Provenance("net.pt", "0" * 64, None, "mine:net", False, (3, 8, 8), 1, 1, 0)


def flat_buffer(text: bytes, length: int | None = None, fields: int = 1) -> bytes:
    """A table of one field, a string, as FlatBuffers lay it out: offset, table of fields, table, string."""
    vtable = struct.pack("<HHH", 4 + 2 * fields, 8, 4 if fields else 0)[: 4 + 2 * fields].ljust(8, b"\0")
    table = struct.pack("<iI", 8, 4)  # eight bytes behind its table of fields; four from the field to the string
    return struct.pack("<I", 12) + vtable + table + struct.pack("<I", len(text) if length is None else length) + text


def write(folder: Path, content: bytes | bytearray) -> Path:
    path = folder / "net.mnn"
    path.write_bytes(content)
    return path


def test_what_is_recorded_is_read(tmp_path: Path) -> None:
    content = bytearray(flat_buffer(recorded(MADE.to_json()).encode()))
    seal(content)
    path = write(tmp_path, content)
    assert read_mnn(path).provenance == MADE
    check_input(path, MODELS, "verify")
    with pytest.raises(Exception, match="is an MNN file, and fuse takes a checkpoint"):
        check_input(path, (Kind.checkpoint,), "fuse")


def test_an_earlier_file_without_a_digest_is_taken(tmp_path: Path) -> None:
    path = write(tmp_path, flat_buffer(f"kdna {MADE.to_json()}".encode()))
    assert read_mnn(path).provenance == MADE


def test_damage_anywhere_is_refused(tmp_path: Path) -> None:
    content = bytearray(flat_buffer(recorded(MADE.to_json()).encode()) + bytes(40))  # and weights
    seal(content)
    assert read_mnn(write(tmp_path, content)).provenance == MADE
    for place in range(len(content)):
        changed = bytearray(content)
        changed[place] ^= 1
        with pytest.raises(ArtifactError, match=r"net\.mnn' is damaged|The provenance in .*net\.mnn' is damaged"):
            read_mnn(write(tmp_path, changed))
    changed = bytearray(content)
    changed[-1] ^= 1
    assert read_mnn(write(tmp_path, changed), whole=False).provenance == MADE


def test_an_identifier_follows_from_the_rest_of_the_file() -> None:
    def net(identifier: bytes, weights: bytes = b"weights") -> bytes:
        vtable = struct.pack("<14H", 28, 8, *[0] * 11, 4)
        return struct.pack("<I", 32) + vtable + struct.pack("<iII", 28, 4, len(identifier)) + identifier + weights

    one, other = (bytes(with_own_uuid(net(str(uuid.uuid4()).encode()))) for _ in range(2))
    assert one == other and one[:44] == net(b"-" * 36)[:44] and one[80:] == b"weights"
    assert str(uuid.UUID(one[44:80].decode())).encode() == one[44:80]
    assert with_own_uuid(net(b"-" * 36, b"WEIGHTS"))[44:80] != one[44:80]
    assert with_own_uuid(flat_buffer(b"")) == flat_buffer(b"")  # of a converter that writes none


@pytest.mark.parametrize("content", [flat_buffer(b"MNN"), flat_buffer(b""), flat_buffer(b"", fields=0)])
def test_a_file_of_others_records_nothing(tmp_path: Path, content: bytes) -> None:
    assert read_mnn(write(tmp_path, content)).provenance is None


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "or a damaged one"),
        (b"text", "or a damaged one"),
        (struct.pack("<Ii", 4, 1 << 30), "or a damaged one"),
        (flat_buffer(b"MNN")[:14], "or a damaged one"),
        (flat_buffer(b"kdna {}", length=1000), "or a damaged one"),
        (flat_buffer(b"kdna {}", length=1 << 31), "or a damaged one"),
        (flat_buffer(b"kdna \xff"), "or a damaged one"),
        (flat_buffer(b"kdna {}"), "provenance in"),
    ],
)
def test_what_is_damaged_is_one_sentence(tmp_path: Path, content: bytes, said: str) -> None:
    with pytest.raises(ArtifactError) as refused:
        read_mnn(write(tmp_path, content))
    assert said in str(refused.value)
    assert "\n" not in str(refused.value) and str(refused.value).endswith(".")
    with pytest.raises(ArtifactError, match="There is no file"):
        read_mnn(tmp_path / "gone.mnn")
