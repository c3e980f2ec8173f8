"""`package`: a whole folder or none, and what no server can take is refused in a sentence."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

import kdna_deploy as kd
from kdna_deploy.cli.app import run
from kdna_deploy.runtimes.onnx_file import provenance_of_model, read_model, record, save
from kdna_deploy.runtimes.ort import OrtSession
from kdna_deploy.targets.serving.servers import SERVERS
from tests.targets.serving.conftest import SIZE, write_graph
from tests.targets.serving.conftest import files as files
from tests.test_device import CONVERTING
from tests.test_external_data import in_folders_below

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("server", SERVERS)
def test_a_folder_is_told_as_text_and_as_data_and_has_a_short_readme(
    files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: str
) -> None:
    monkeypatch.chdir(tmp_path)
    done = kd.package(files / "net.onnx", server)
    assert done.path == Path(server) and [path.name for path in tmp_path.iterdir()] == [server]
    document = json.loads(json.dumps(done.to_dict()))
    assert (document["kind"], document["server"], document["output"]) == ("package", server, server)
    assert {one["name"]: one["bytes"] for one in document["files"]} == {
        path.relative_to(server).as_posix(): path.stat().st_size for path in done.path.rglob("*") if path.is_file()
    }
    assert SERVERS[server].title in str(done)
    readme = [line for line in (done.path / "README.md").read_text(encoding="utf-8").splitlines() if line]
    assert len(readme) <= 10 and "Scale out" in readme[-1]


def test_a_device_without_pytorch_packages_files(files: Path, tmp_path: Path) -> None:
    script = (
        "import sys\n"
        f"sys.modules.update(dict.fromkeys({CONVERTING}))\n"
        "import kdna_deploy as kd\n"
        "for server in sys.argv[3:]:\n    kd.package(sys.argv[1], server, f'{sys.argv[2]}/{server}')\n"
    )
    words = [sys.executable, "-c", script, files / "net.onnx", tmp_path, *SERVERS]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert {path.name for path in tmp_path.iterdir()} == {*SERVERS}


def refusal(capsys: pytest.CaptureFixture[str], *words: str | Path) -> tuple[int, str]:
    code = run(["package", *map(str, words)])
    return code, capsys.readouterr().err


def test_what_a_server_cannot_take_is_refused_and_leaves_nothing(
    files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    net = shutil.copy(files / "net.onnx", "net.onnx")
    Path("other").mkdir()
    shutil.copy(net, "other/net.onnx")
    shutil.copy(net, "my net.onnx")
    shutil.copy(files / "one.onnx", "alone.onnx")
    Path("cut.onnx").write_bytes(Path(net).read_bytes()[:900])
    kd.prepare(net)
    before = sorted(path.name for path in Path().iterdir())
    assert run(["package", "my net.onnx", "--for", "onnxruntime-cpp", "--to", str(tmp_path / "program")]) == 0
    shutil.rmtree(tmp_path / "program")  # which has no address
    for words, exit_code, said in (
        (("net.onnx", "other/net.onnx", "--for", "triton"), 2, "Two files would be served as 'net'; rename one"),
        (("net.prepared.onnx", "--for", "triton"), 3, "is prepared for ONNX Runtime"),
        (("my net.onnx", "--for", "triton"), 3, "which is no part of an address; rename the file"),
        (("cut.onnx", "--for", "triton"), 3, "'cut.onnx' is no ONNX file, or a damaged one"),
        (("gone.onnx", "--for", "triton"), 3, "There is no file 'gone.onnx'."),
        (("net.onnx", "--for", "triton", "--to", "other"), 2, "holds something already; name another with --to"),
        (("net.onnx", "--for", "triton", "--to", "net.onnx"), 2, "'net.onnx' is no folder; name another with --to"),
        (("net.onnx", "--for", "triton", "--to", "gone/models"), 2, "There is no folder 'gone' to write to"),
        (("net.onnx", "--for", "nginx"), 2, "nginx"),
        (("net.onnx",), 2, "--for"),
    ):
        code, error = refusal(capsys, *words)
        assert (code, said in " ".join(error.split())) == (exit_code, True), (words, error)
        assert sorted(path.name for path in Path().iterdir()) == before, words


def test_a_type_that_a_server_does_not_know_leaves_no_half_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = "net (bfloat16[n, 3] x) => (bfloat16[n, 3] y) { y = Identity(x) }"
    model = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 18]> {text}')
    onnx.save_model(model, tmp_path / "net.onnx")
    code, error = refusal(capsys, tmp_path / "net.onnx", "--for", "triton", "--to", tmp_path / "models")
    assert (code, "a type that Triton does not know" in " ".join(error.split())) == (3, True)
    assert [path.name for path in tmp_path.iterdir()] == ["net.onnx"]


@pytest.mark.parametrize("server", SERVERS)
def test_what_is_of_no_known_kind_is_no_file_for_a_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], server: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, content in (("net.safetensors", bytes(8)), ("net.plan", b"ftrt"), ("net.ort", b"ORTM"), ("empty", b"")):
        Path(name).write_bytes(content)
        code, error = refusal(capsys, name, "--for", server)
        said = f"'{name}' is no file that {SERVERS[server].title} takes; give an ONNX file"
        assert (code, said in " ".join(error.split())) == (3, True), error
        Path(name).unlink()
        assert not list(Path().iterdir())


@pytest.mark.parametrize("server", SERVERS)
def test_weights_in_folders_below_stay_where_the_file_looks_for_them(tmp_path: Path, server: str) -> None:
    shape, kernel = f"float[n, 3, {SIZE}, {SIZE}]", "float[3, 3, 1, 1]"
    text = (
        f"net ({shape} x) => (float[n, 3] y) "
        f"<{kernel} first = {{1, 2, 3, 4, 5, 6, 7, 8, 9}}, {kernel} second = {{9, 8, 7, 6, 5, 4, 3, 2, 1}}> "
        "{ a = Conv (x, first) b = Conv (a, second) p = GlobalAveragePool (b) y = Flatten (p) }"
    )
    path = in_folders_below(write_graph(tmp_path / "net.onnx", text), "one", "deep/er")
    (packaged,) = kd.package(path, server, tmp_path / "folder").path.rglob("model.onnx")
    images = np.random.default_rng(0).standard_normal((1, 3, SIZE, SIZE), np.float32)
    with OrtSession(path) as given, OrtSession(packaged) as there:
        np.testing.assert_array_equal(there.run(images), given.run(images))


@pytest.mark.parametrize("target", ["cpu", "tensorrt"])
@pytest.mark.parametrize("server", SERVERS)
def test_of_int8_it_is_told_where_sums_may_not_be_exact(
    files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], server: str, target: str
) -> None:
    model = read_model(files / "net.onnx")
    made = provenance_of_model(model, files)
    assert made is not None
    record(model, replace(made, options={**made.options, "precision": "int8", "target": target}))
    save(model, path := tmp_path / "net.int8.onnx")
    given = [path] if server == "onnxruntime-cpp" else [path, files / "net.onnx"]
    words = ["package", *given, "--for", server, "--to", tmp_path / "folder", "--json"]
    assert run([str(word) for word in words]) == 0
    notes = json.loads(capsys.readouterr().out)["notes"]
    remedies = {
        "triton": "choose processors that have it, or package the float32 file",
        "kserve": "choose processors that have it, or package the float32 file",
        "openvino-model-server": "package what kdna-deploy export writes with --openvino and --precision int8",
    }
    told = [note for note in notes if "VNNI" in note]
    if target == "cpu" and server in remedies:  # in sessions of ours, and in the C++ program, they are exact
        assert len(told) == 1 and told[0].startswith("net.int8 is int8") and remedies[server] in told[0]
    else:
        assert not told
