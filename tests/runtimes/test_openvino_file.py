"""OpenVINO files, read without OpenVINO: what they record, and what is refused before OpenVINO sees it."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from kdna_deploy.errors import ArtifactError
from kdna_deploy.input_files import MODELS, Kind, check_input
from kdna_deploy.runtimes.openvino_file import read_openvino
from kdna_deploy.runtimes.sealed import ROOM, SEAL_KEY, XML_MARK, seal

DATA = '<data element_type="f32" shape="2" offset="{0}" size="{1}"/>'
LAYER = f'<layers><layer id="0" name="w" type="Const">{DATA}</layer></layers>'


def write(folder: Path, inside: str, weights: bytes | None = bytes(8), head: str = '<?xml version="1.0"?>') -> Path:
    path = folder / "net.xml"
    path.write_text(f"{head}\n{inside}", encoding="utf-8")
    if weights is not None:
        (folder / "net.bin").write_bytes(weights)
    return path


def net(offset: object = 0, size: object = 8, recorded: str = "") -> str:
    return f'<net name="a" version="11">{LAYER.format(offset, size)}<rt_info>{recorded}</rt_info></net>'


def test_a_file_of_others_is_read(tmp_path: Path) -> None:
    path = write(tmp_path, net())
    found = read_openvino(path)
    assert (found.weights, found.provenance) == (8, None)
    assert found.bytes == path.stat().st_size + 8
    check_input(path, MODELS, "verify")
    with pytest.raises(Exception, match="is an OpenVINO file, and fuse takes a checkpoint"):
        check_input(path, (Kind.checkpoint,), "fuse")


def test_weights_are_held_to_their_recorded_digest(tmp_path: Path) -> None:
    right = hashlib.sha256(bytes(8)).hexdigest()
    assert read_openvino(write(tmp_path, net(recorded=f'<kdna_weights value="{right}"/>'))).weights == 8
    other = write(tmp_path, net(recorded=f'<kdna_weights value="{right}"/>'), bytes(7) + b"1")
    with pytest.raises(ArtifactError, match=r"net.bin' is cut short, or not the weights of"):
        read_openvino(other)
    assert read_openvino(other, weights=False).weights == 8


def test_the_text_is_held_to_its_recorded_digest(tmp_path: Path) -> None:
    path = write(tmp_path, net(recorded=f'<{SEAL_KEY} value="{ROOM}" />'))
    content = bytearray(path.read_bytes())
    seal(content, XML_MARK)
    path.write_bytes(content)
    assert read_openvino(path).weights == 8
    path.write_bytes(content.replace(b'shape="2"', b'shape="1"'))
    with pytest.raises(ArtifactError, match=r"^'.*net\.xml' is damaged: its bytes are not .*; export it again\.$"):
        read_openvino(path, weights=False)


@pytest.mark.parametrize(
    ("inside", "weights", "said"),
    [
        (net(), None, "keep the two together"),
        (net(), bytes(7), "is cut short"),
        (net(offset=1 << 62), bytes(8), "is cut short"),
        (net(offset=-8), bytes(8), "an offset below zero"),
        (net(size="all"), bytes(8), "or a damaged one; export it again."),
        (net(size="9" * 5000), bytes(8), "or a damaged one; export it again."),
        (net()[:-9], bytes(8), "or a damaged one"),
        ("<html/>", bytes(8), "its root is <html>"),
        ("", bytes(8), "or a damaged one"),
        ("\0\0\0", bytes(8), "or a damaged one"),
        ('<!DOCTYPE net [<!ENTITY a "b">]>' + net(), bytes(8), "a document type"),
        ('<!DOCTYPE net SYSTEM "file:///etc/passwd">' + net(), bytes(8), "a document type"),
        (net(recorded='<kdna value="{}"/>'), bytes(8), "provenance in"),
        (net(recorded='<kdna value="[[["/>'), bytes(8), "provenance in"),
    ],
)
def test_what_is_damaged_or_hostile_is_one_sentence(
    tmp_path: Path, inside: str, weights: bytes | None, said: str
) -> None:
    with pytest.raises(ArtifactError) as refused:
        read_openvino(write(tmp_path, inside, weights))
    assert said in str(refused.value)
    assert "\n" not in str(refused.value) and str(refused.value).endswith(".")
