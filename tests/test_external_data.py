"""The weights of an ONNX file told from its bytes, beside what onnx itself reads; and which of ours nobody needs."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import numpy_helper

from kdna_deploy.external_data import abandoned_weights, external_files, model_name, weights_name
from kdna_deploy.runtimes.onnx_file import save


def model_bytes(*locations: str) -> bytes:
    """Bytes of an ONNX file, the entries that name `locations` among them, written without onnx."""

    def field(number: int, content: bytes) -> bytes:
        length = len(content)
        size = bytes([length]) if length < 128 else bytes([length & 0x7F | 0x80, length >> 7])
        return bytes([number << 3 | 2]) + size + content

    entries = [field(1, b"location") + field(2, location.encode()) for location in locations]
    return b"\x08\x08" + b"".join(field(13, entry) for entry in entries) + b"\x00" * 7


def a_model(value: float = 1.0) -> onnx.ModelProto:
    model = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 18]> g (float[N,1,20,20] input) => (float[N,1,20,20] logits) '
        "{ logits = Add(input, shift) }"
    )
    shift = np.full((1, 1, 20, 20), value, np.float32)
    model.graph.initializer.append(numpy_helper.from_array(shift, "shift"))
    return model


def in_folders_below(path: Path, *folders: str) -> Path:
    """The ONNX file at `path`, its weights no longer in it: in these folders, a tensor each, all under one name."""
    model = onnx.load(path)
    for tensor, folder in zip(model.graph.initializer, folders, strict=True):
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor), tensor.name))
        (path.parent / folder).mkdir(parents=True)
        (path.parent / folder / "w.data").write_bytes(tensor.raw_data)
        onnx.external_data_helper.set_external_data(tensor, f"{folder}/w.data")
        tensor.ClearField("raw_data")
    path.write_bytes(model.SerializeToString())
    return path


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.text("aé./-", min_size=1, max_size=300), unique=True, max_size=5),
    st.binary(max_size=40),
)
def test_names_are_those_that_onnx_reads(names: list[str], noise: bytes) -> None:
    model = onnx.ModelProto()
    model.doc_string = noise.hex()
    for name in names:
        tensor = model.graph.initializer.add()
        for key, value in (("offset", "8"), ("location", name), ("length", "4")):
            entry = tensor.external_data.add()
            entry.key, entry.value = key, value
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "net.onnx"
        path.write_bytes(model.SerializeToString())
        assert set(external_files(path)) == {path.parent / name for name in names}


def test_a_file_that_is_not_there_or_is_empty_or_of_another_kind_has_none(tmp_path: Path) -> None:
    (tmp_path / "empty.onnx").touch()
    (tmp_path / "net.pt").write_bytes(model_bytes("w"))
    assert [external_files(tmp_path / name) for name in ("empty.onnx", "net.pt", "gone.onnx")] == [(), (), ()]


def test_a_model_is_written_whatever_lies_in_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    for folder in (first, second):
        folder.mkdir()
        save(a_model(), folder / "net.onnx", external=True)
    (weights,) = external_files(first / "net.onnx")
    assert (second / weights.name).read_bytes() == weights.read_bytes()
    assert (second / "net.onnx").read_bytes() == (first / "net.onnx").read_bytes()
    monkeypatch.chdir(first)
    save(a_model(2.0), second / "net.onnx", external=True)
    save(a_model(2.0), Path("net.onnx"), external=True)
    (shift,) = onnx.load(first / "net.onnx").graph.initializer
    assert numpy_helper.to_array(shift).max() == 2.0
    other = next(file for file in external_files(first / "net.onnx"))
    assert other.name != weights.name  # never beside the wrong weights


@pytest.mark.parametrize("model", ["net.onnx", "net.0123456789abcdef.onnx", "net.data", "a b.onnx"])
def test_the_model_is_told_from_the_name_of_its_weights(model: str) -> None:
    assert model_name(weights_name(model, "0123456789abcdef" * 4)) == model
    assert model_name(f"{model}.data") == model  # of earlier versions


def test_only_weights_of_ours_that_no_model_refers_to_are_abandoned(tmp_path: Path) -> None:
    used, unused, moved, coming = (weights_name("net.onnx", digit * 16) for digit in "abcd")
    others = ["net.onnx.data", "other.onnx.aaaaaaaaaaaaaaaa.data", "net.onnx.AAAAAAAAAAAAAAAA.data"]
    for name in (used, unused, moved, coming, *others):
        (tmp_path / name).touch()
    (tmp_path / "net.onnx").write_bytes(model_bytes(used))
    (tmp_path / "renamed.onnx").write_bytes(model_bytes(moved))
    partial = tmp_path / ".net.onnx.abc.partial"
    partial.mkdir()
    (partial / "net.onnx").write_bytes(model_bytes(coming))  # of another process, its weights already in place
    assert abandoned_weights(tmp_path / "net.onnx") == [tmp_path / unused]


def test_a_model_keeps_its_weights_whatever_its_name_ends_in(tmp_path: Path) -> None:
    used, unused = (weights_name("net.txt", digit * 16) for digit in "ab")
    for name in (used, unused):
        (tmp_path / name).touch()
    (tmp_path / "net.txt").write_bytes(model_bytes(used))
    assert abandoned_weights(tmp_path / "net.txt") == [tmp_path / unused]
