"""ONNX files as they are read: what holds no network is refused, whoever reads it."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

from kdna_deploy.cli.app import run
from kdna_deploy.errors import ArtifactError
from kdna_deploy.runtimes.onnx_file import read_model
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
