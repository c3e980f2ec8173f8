"""KServe's model server with files of ours: what clients are answered, and what they are refused with."""

from __future__ import annotations

import importlib
import json
import re
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnxruntime
import pytest

import kdna_deploy as kd
from kdna_deploy.runtimes.ort import OrtSession
from kdna_deploy.targets.serving.answers import answer_type, answers_of_file
from kdna_deploy.targets.serving.model import served_models
from tests import serving_environment
from tests.conftest import REPOSITORY
from tests.targets.serving.conftest import SIZE, write_graph

PYTHON = serving_environment.python()
pytestmark = pytest.mark.slow
needs_server = pytest.mark.skipif(PYTHON is None, reason=serving_environment.MISSING)
FILES = ("net", "pixels")
IMAGES = f"[n, 3, {SIZE}, {SIZE}]"


@pytest.fixture(scope="module")
def benchmark() -> Iterator[ModuleType]:
    """benchmarks/serving.py."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(REPOSITORY / "benchmarks"))
        yield importlib.import_module("serving")
    sys.modules.pop("serving")


@pytest.fixture(scope="module")
def models(files: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    given = [files / f"{name}.onnx" for name in (*FILES, "half")]
    return kd.package(given, "kserve-model-server", tmp_path_factory.mktemp("server") / "models").path


@pytest.fixture(scope="module")
def server(benchmark: ModuleType, models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with benchmark.running(PYTHON, models, tmp_path_factory.mktemp("log") / "server.log") as running:
        yield running


def asked(url: str, body: dict[str, Any] | None = None) -> tuple[int, Any]:
    """The status, and the JSON that is answered."""
    content = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, content, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


@needs_server
def test_all_requests_are_answered_as_run_does_while_the_server_is_started_again(
    benchmark: ModuleType, files: Path, models: Path, tmp_path: Path
) -> None:
    given = [files / f"{name}.onnx" for name in FILES]
    figures = benchmark.loaded(PYTHON, models, given, tmp_path, requests=300)
    again = figures.ended.pop("again", 0)
    assert (figures.ended, again >= 1) == ({"answered": 270, "refused": 30}, True), (figures.ended, figures.examples)
    assert len(figures.lives) == 2
    for life in figures.lives:  # the allocator's steps; 300 requests of any kind would be more
        assert max(life) - life[1] < 30e6


@needs_server
@pytest.mark.parametrize("name", [*FILES, "half"])
def test_the_readme_sends_an_image_and_gets_the_classes_of_run(
    server: Any, models: Path, files: Path, name: str
) -> None:
    readme = (models / "README.md").read_text(encoding="utf-8")
    assert "\n    python3 serve.py\n" in readme and "\n    python3 send.py photo.jpg\n" in readme
    words = [sys.executable, "-I", models / "send.py", files / "photo.png", "--model", name, "--url", server.url]
    sent = subprocess.run(words, capture_output=True, text=True, encoding="utf-8", env={"PYTHONUTF8": "1"})
    assert sent.returncode == 0, sent.stderr
    (image,) = kd.run(files / f"{name}.onnx", files / "photo.png").images
    assert re.sub(" +", " ", sent.stdout).splitlines() == [f" {one.probability:.2%} {one}" for one in image.classes]


@needs_server
def test_a_model_tells_what_it_takes_and_returns(server: Any) -> None:
    status, told = asked(f"{server.url}/v2/models/pixels")
    assert (status, told["inputs"]) == (200, [{"name": "input", "datatype": "UINT8", "shape": [-1, SIZE, SIZE, 3]}])
    assert [(one["name"], one["datatype"], one["shape"]) for one in told["outputs"]] == [
        ("probabilities", "FP32", [-1, 2]),
        ("classes", "INT64", [-1, 2]),
    ]
    _, told = asked(f"{server.url}/v2/models/half")
    assert [one["datatype"] for one in (*told["inputs"], *told["outputs"])] == ["FP16", "FP16"]


@pytest.mark.parametrize(("name", "types"), [("net", ["FP32"]), ("half", ["FP16"]), ("pixels", ["FP32", "INT64"])])
def test_what_a_session_answers_is_what_the_file_answers(files: Path, name: str, types: list[str]) -> None:
    """Without the server: the numbers and types of its answers."""
    (model,) = served_models([files / f"{name}.onnx"])
    images = np.random.default_rng(2).standard_normal((2, 3, SIZE, SIZE), np.float32)
    with OrtSession(model.path) as session:
        given = session.interface.taken(images)
        answers = answers_of_file(model, session.run_all(images))
    alone = onnxruntime.InferenceSession(model.path)
    outputs = alone.run(None, {"input": given.astype(np.float16) if name == "half" else given})
    assert [answer_type(one) for one in model.outputs] == types
    for answer, output in zip(answers, outputs, strict=True):
        assert answer.dtype == output.dtype
        np.testing.assert_array_equal(answer, output)


@needs_server
@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"name": "images"}, "net takes input of FP32, and got images of FP32."),
        ({"datatype": "FP64"}, "net takes input of FP32, and got input of FP64."),
        ({"shape": [1, 3, SIZE, SIZE + 1]}, "The numbers of input do not fill [1, 3, 8, 9]: "),
        ({"data": ["a"] * 192}, "The numbers of input do not fill [1, 3, 8, 8]: "),
        ({"shape": [0, 3, SIZE, SIZE], "data": []}, "There is no image in input of [0, 3, 8, 8]."),
        ({"shape": [1, 3, SIZE * SIZE, 1]}, "takes images n×3×8×8 and cannot run on 1×3×64×1"),
        ({"shape": [3 * SIZE * SIZE]}, "takes images n×3×8×8 and cannot run on 192"),
    ],
)
def test_what_the_file_does_not_take_is_refused_in_a_sentence(server: Any, change: dict[str, Any], said: str) -> None:
    given = {"name": "input", "datatype": "FP32", "shape": [1, 3, SIZE, SIZE], "data": [0.0] * 192} | change
    status, answer = asked(f"{server.url}/v2/models/net/infer", {"inputs": [given]})
    assert (status, said in str(answer)) == (400, True), answer


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "(float[n, 3] x, float[n, 3] y) => (float[n, 3] z) { z = Add (x, y) }",
            r"takes x: float32 \[n, 3\] and y: .* feeds one batch of images; serve it with Triton\.",
        ),
        (
            f"(float{IMAGES} x) => (float{IMAGES} y, float{IMAGES} z) {{ y = Relu (x) z = Abs (x) }}",
            r"does not map one image batch \[n, c, h, w\] to one output, and this server would not start with it;",
        ),
        (
            f"(uint8{IMAGES} x) => (float{IMAGES} y) {{ y = Cast <to = 1> (x) }}",
            "takes uint8, and its metadata do not say so, and this server would not start with it; serve it",
        ),
    ],
    ids=["inputs", "outputs", "pixels"],
)
def test_what_a_session_does_not_run_is_not_packaged(files: Path, tmp_path: Path, text: str, said: str) -> None:
    path = write_graph(tmp_path / "odd.onnx", f"net {text}")
    with pytest.raises(kd.InputError, match=said):
        kd.package([files / "net.onnx", path], "kserve-model-server", tmp_path / "models")
    with pytest.raises(kd.ArtifactError, match=r"; write one with `export`\.$"):
        OrtSession(path)
    assert [one.name for one in tmp_path.iterdir()] == ["odd.onnx"]


def test_without_the_server_the_program_says_what_to_install(models: Path) -> None:
    script = (
        "import runpy, sys\n"
        "sys.modules['kserve'] = None\n"
        f"runpy.run_path({str(models / 'serve.py')!r}, run_name='__main__')\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    said = "error: KServe's model server is not installed; run: pip install kserve.\n"
    assert (done.returncode, done.stdout, done.stderr) == (4, "", said)
