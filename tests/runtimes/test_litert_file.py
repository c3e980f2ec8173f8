"""LiteRT files are read without LiteRT; what is damaged is refused in one sentence, wherever the damage is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from kdna_deploy.errors import ArtifactError
from kdna_deploy.graph.provenance import Provenance
from kdna_deploy.runtimes.litert_file import StoredKernel, read_litert
from kdna_deploy.runtimes.sealed import seal, with_room
from tests.targets.litert.small_file import small_file


@pytest.fixture(scope="module")
def content() -> bytes:
    pytest.importorskip("ai_edge_litert")
    return small_file()


def test_convolutions_that_read_the_same_buffer_are_told(content: bytes, tmp_path: Path) -> None:
    found = read_litert(written(tmp_path, content))
    assert found.provenance is None
    codes, again, half = found.kernels
    assert codes == again == StoredKernel(codes.buffer, 8)
    assert half.buffer != codes.buffer and half.bytes == 16  # two bytes each, through what makes float32 of them


def test_a_file_that_was_cut_short_is_refused(content: bytes, tmp_path: Path) -> None:
    path = written(tmp_path, content)
    for size in (0, 3, 8, 40, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:size])
        refused(path)


def test_what_is_no_such_file_is_refused(tmp_path: Path) -> None:
    refused(written(tmp_path, b"PK\x03\x04 and more of something else"))
    with pytest.raises(ArtifactError, match="There is no file"):
        read_litert(tmp_path / "none.tflite")


def test_damage_anywhere_is_no_crash(content: bytes, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    path = written(tmp_path, content)
    for place in random.choice(len(content), 60, replace=False):
        changed = bytearray(content)
        changed[place] ^= int(random.integers(1, 256))
        path.write_bytes(changed)
        try:
            read_litert(path)
        except ArtifactError as error:
            assert "\n" not in str(error)


def test_files_of_ours_are_held_to_their_digest(tmp_path: Path) -> None:
    pytest.importorskip("ai_edge_litert")
    from kdna_deploy.targets.litert.writer import Writer

    def file(text: str) -> bytes:
        writer = Writer()
        taken = writer.tensor("input", (1, 3, 4, 4), np.float32)
        return writer.finish([taken], [taken], "kdna", text)

    made = Provenance("net.pt", "0" * 64, None, "mine:net", False, (3, 4, 4), 1, 1, 0)
    assert read_litert(written(tmp_path, file(made.to_json()))).provenance == made  # an earlier one
    content = bytearray(file(with_room(made.to_json())))
    seal(content)
    assert read_litert(written(tmp_path, content)).provenance == made
    for place in range(len(content)):
        changed = bytearray(content)
        changed[place] ^= 1
        with pytest.raises(ArtifactError, match=r"net\.tflite'.* damaged"):
            read_litert(written(tmp_path, changed))


def written(folder: Path, content: bytes | bytearray) -> Path:
    path = folder / "net.tflite"
    path.write_bytes(content)
    return path


def refused(path: Path) -> None:
    with pytest.raises(ArtifactError, match="is no LiteRT file, or a damaged one; export it again") as caught:
        read_litert(path)
    assert "\n" not in str(caught.value)
