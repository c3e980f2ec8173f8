"""ExecuTorch files are read without ExecuTorch: the record behind the program, and what is damaged."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from kdna_deploy.errors import ArtifactError
from kdna_deploy.graph.provenance import Provenance
from kdna_deploy.runtimes.executorch_file import read_executorch, with_record

CONTENT = b"program.segments"
PROGRAM = struct.pack("<I", 60) + b"ET12eh00" + struct.pack("<IQQQ", 32, 48, 48, len(CONTENT)) + bytes(8) + CONTENT


def written(folder: Path, content: bytes | bytearray) -> Path:
    path = folder / "net.pte"
    path.write_bytes(content)
    return path


def test_a_program_of_others_records_nothing(tmp_path: Path) -> None:
    assert len(PROGRAM) == 48 + len(CONTENT)
    assert read_executorch(written(tmp_path, PROGRAM)) is None


def test_what_is_recorded_behind_the_program_is_read(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"net\.pte"):  # found, and no provenance
        read_executorch(written(tmp_path, with_record(PROGRAM, '{"schema_version": 1}')))
    assert with_record(PROGRAM, "{}").startswith(PROGRAM)  # which ExecuTorch reads alone


def test_damage_anywhere_is_refused(tmp_path: Path) -> None:
    made = Provenance("net.pt", "0" * 64, None, "mine:net", False, (3, 4, 4), 1, 1, 0)
    content = with_record(PROGRAM, made.to_json())
    assert read_executorch(written(tmp_path, content)) == made
    for place in range(len(content)):
        changed = bytearray(content)
        changed[place] ^= 1
        with pytest.raises(ArtifactError, match=r"net\.pte'.* damaged"):
            read_executorch(written(tmp_path, changed))
    earlier = made.to_json().encode()
    content = PROGRAM + earlier + struct.pack("<Q", len(earlier)) + b"kdna.pte"
    assert read_executorch(written(tmp_path, content)) == made


@pytest.mark.parametrize("content", [b"", b"ET12", b"PK\x03\x04" + bytes(60), PROGRAM[:50]])
def test_what_is_none_or_cut_short_is_refused(tmp_path: Path, content: bytes) -> None:
    refused(written(tmp_path, content))


def test_a_record_that_was_cut_short_is_refused(tmp_path: Path) -> None:
    whole = with_record(PROGRAM, "{}" * 20)
    for size in range(len(PROGRAM) + 1, len(whole)):
        refused(written(tmp_path, whole[:size]))
    refused(written(tmp_path, whole[:-16] + struct.pack("<Q", 1 << 60) + whole[-8:]))
    with pytest.raises(ArtifactError, match="There is no file"):
        read_executorch(tmp_path / "none.pte")


def refused(path: Path) -> None:
    with pytest.raises(ArtifactError, match="is no ExecuTorch file, or a damaged one; export it again") as caught:
        read_executorch(path)
    assert "\n" not in str(caught.value)
