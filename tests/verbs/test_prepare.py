"""`prepare`, and `export` with `prepare=True`: where the two files go, and what is told of them."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import onnx
import pytest

import kdna_deploy as kd
from kdna_deploy.cli.app import run
from kdna_deploy.runtimes.ort import OrtSession
from tests.targets.onnx.int8.quantised import chain
from tests.verbs.test_face import small

KERNEL = {"a": np.random.default_rng(3).standard_normal((32, 32, 3, 3), dtype=np.float32)}
WEIGHTS = re.compile(r"net\.prepared\.onnx\.[0-9a-f]{16}\.data")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    onnx.save_model(chain(KERNEL), tmp_path / "net.onnx")


def written(folder: Path) -> list[str]:
    return sorted(WEIGHTS.sub("(weights)", path.name) for path in folder.iterdir())


@pytest.mark.slow
def test_a_file_is_prepared_in_this_folder_and_told_as_text_and_as_data(tmp_path: Path) -> None:
    done = kd.prepare("net.onnx")
    assert done.path == Path("net.prepared.onnx")
    assert written(tmp_path) == ["(weights)", "net.onnx", "net.prepared.onnx"]
    assert "written     net.prepared.onnx" in str(done) and "Against the portable file" in str(done)
    document = json.loads(json.dumps(done.to_dict()))
    assert (document["kind"], document["source"], document["record"]["source"]) == ("prepare", "net.onnx", "net.onnx")
    assert document["bytes"] == sum(path.stat().st_size for path in tmp_path.glob("net.prepared.onnx*"))


@pytest.mark.slow
def test_what_is_written_again_replaces_what_was_there(tmp_path: Path) -> None:
    first = kd.prepare("net.onnx")
    onnx.save_model(chain({name: 2 * kernel for name, kernel in KERNEL.items()}), tmp_path / "net.onnx")
    second = kd.prepare("net.onnx")
    assert written(tmp_path) == ["(weights)", "net.onnx", "net.prepared.onnx"]
    assert first.prepared.record.source_sha256 != second.prepared.record.source_sha256
    with OrtSession(second.path, threads=1) as session, OrtSession(Path("net.onnx"), threads=1) as portable:
        images = np.ones((1, 32, 6, 6), np.float32)
        assert np.array_equal(session.run(images), portable.run(images))


@pytest.mark.slow
def test_an_export_prepares_what_it_has_written(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    file = kd.export(kd.load(small(), input_size=8), "out/net.onnx", prepare=True, simplify=False)
    # Weights this small lie beside it or within, as blocks of 16 or of 8 channels make them.
    assert [name for name in written(tmp_path / "out") if name != "(weights)"] == ["net.onnx", "net.prepared.onnx"]
    assert file.path == Path("out/net.onnx")
    assert file.prepared is not None and file.prepared.path == Path("out/net.prepared.onnx")
    assert file.to_dict()["prepared"]["record"] == json.loads(json.dumps(file.to_dict()))["prepared"]["record"]
    assert "Against the original network" in str(file) and "Against the portable file" in str(file)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("export", "net.onnx", "--tensorrt-rtx", "--prepare"), "--prepare is for ONNX Runtime on this processor"),
        (("prepare", "net.onnx", "-o", "net.onnx"), "The output 'net.onnx' is the input itself"),
        (("prepare", "net.onnx", "-o", "gone/net.onnx"), "There is no folder 'gone'"),
        (("prepare", "net.onnx", "--force"), "an earlier output of that name is replaced anyway"),
    ],
)
def test_what_makes_no_sense_is_exit_code_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], said: str
) -> None:
    assert run(list(words)) == 2
    told = capsys.readouterr()
    assert said in told.err and told.out == ""
    assert written(tmp_path) == ["net.onnx"]
