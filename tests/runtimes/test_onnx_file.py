"""ONNX files as they are read: what holds no network is refused, whoever reads it."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

from kdna_deploy.cli.app import run
from kdna_deploy.errors import ArtifactError
from kdna_deploy.runtimes import onnx_file
from kdna_deploy.runtimes.onnx_file import read_model, save, weights_files
from tests.test_external_data import a_model


def without(field: str) -> bytes:
    """Bytes of an ONNX file whose graph lacks all of `field`, or that has no graph."""
    model = a_model()
    (model if field == "graph" else model.graph).ClearField(field)
    return model.SerializeToString()


@pytest.mark.parametrize("field", ["node", "input", "output", "graph"])
def test_a_file_without_a_network_is_damaged(tmp_path: Path, field: str) -> None:
    path = tmp_path / "net.onnx"
    onnx.save_model(a_model(), path)
    assert read_model(path) == a_model()
    path.write_bytes(without(field))
    with pytest.raises(ArtifactError, match=r"net.onnx' is no ONNX file, or a damaged one; export it again\."):
        read_model(path)


@pytest.mark.parametrize("words", [["inspect", "e.onnx"], ["package", "e.onnx", "--for", "triton", "--to", "served"]])
def test_an_empty_file_is_refused_by_commands_that_run_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("e.onnx").touch()
    assert run(words) == 3
    assert capsys.readouterr().err.endswith("error: 'e.onnx' is no ONNX file, or a damaged one; export it again.\n")
    assert [path.name for path in tmp_path.iterdir()] == ["e.onnx"]


def test_what_is_too_large_for_one_file_gets_its_weights_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the limit itself, which is 2 GB: one file; a byte less is allowed, and there are two."""
    whole, path = a_model(), tmp_path / "net.onnx"
    monkeypatch.setattr(onnx_file, "_ONE_FILE_BYTES", whole.ByteSize())
    save(a_model(), path)
    assert weights_files(path) == () and path.read_bytes() == whole.SerializeToString()
    monkeypatch.setattr(onnx_file, "_ONE_FILE_BYTES", whole.ByteSize() - 1)
    save(a_model(), path)
    assert len(weights_files(path)) == 1 and path.stat().st_size < whole.ByteSize()
    assert read_model(path).graph.node == whole.graph.node
