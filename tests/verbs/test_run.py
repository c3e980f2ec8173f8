"""`run`: the same classes from every format, names from the file, standard input, no PyTorch where none is needed."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

import kdna_deploy as kd
from kdna_deploy.cli.app import run as command
from kdna_deploy.images.folder import Preprocessing, image_files, read_image
from kdna_deploy.runtimes.onnx_file import provenance_of_model, read_model
from kdna_deploy.targets.onnx.int8.calibration import calibrate
from kdna_deploy.targets.onnx.int8.quantize import quantise
from kdna_deploy.targets.onnx.options import OnnxOptions
from kdna_deploy.verbs.fuse import FusedNetwork
from kdna_deploy.verbs.run import Classified
from tests.conftest import SAMPLES
from tests.samples import RESNET, SIZE, exported_sample, fused_sample, sample_path

DIGITS = SAMPLES / "digits"
SEVEN = DIGITS / "7" / "173.png"
WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample network as an ONNX file, quantised, and as an OpenVINO file."""
    made = tmp_path_factory.mktemp("run")
    exported_sample(made / "net.onnx")
    images = np.stack([read_image(path, SIZE, Preprocessing()) for path in image_files(DIGITS)[::3]])
    onnx.save_model(quantise(made / "net.onnx", calibrate(made / "net.onnx", [images], "minmax")), made / "int8.onnx")
    (made / "names.txt").write_text("\n".join(WORDS))
    return made


@pytest.fixture(autouse=True)
def _here(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)


def likeliest(done: Classified) -> list[int]:
    return [image.classes[0].label for image in done.images]


@pytest.mark.slow
def test_the_sample_images_are_the_same_classes_whatever_runs_them() -> None:
    pytest.importorskip("openvino")
    from kdna_deploy.targets.openvino.export import OpenVinoOptions, export_openvino

    export_openvino(fused_sample(), Path("net.xml"), OpenVinoOptions(OnnxOptions(simplify=False)))
    some = image_files(DIGITS)[::3]
    labels = [int(path.parent.name) for path in some]
    assert likeliest(kd.run("net.onnx", some)) == labels
    network = kd.load(sample_path(RESNET), input_size=SIZE)
    for other in ("int8.onnx", "net.xml", network):
        assert likeliest(kd.run(other, some, top=1)) == labels


@pytest.mark.slow
def test_a_fused_graph_in_memory_is_run_and_a_written_one_from_its_file(tmp_path: Path) -> None:
    fused = FusedNetwork(fused_sample())
    done = kd.run(fused, [SEVEN, SEVEN.read_bytes()], labels="names.txt")
    assert [str(image.classes[0]) for image in done.images] == ["seven", "seven"]
    assert done.classification.runtime.startswith("PyTorch")
    file = kd.export(fused, tmp_path / "net.onnx", simplify=False, labels="names.txt")
    again = kd.run(file, SEVEN)
    assert again.classification.runtime.startswith("ONNX Runtime")
    assert again.images[0].classes[0].name == "seven"  # as the file records
    made = provenance_of_model(read_model(file.path, weights=False), file.path)
    assert made is not None and (tuple(made.class_names), made.options["labels"]) == (WORDS, "names.txt")


def test_a_result_is_a_table_and_a_document(capsys: pytest.CaptureFixture[str]) -> None:
    assert command(["run", "net.onnx", str(SEVEN), "--labels", "names.txt", "--top", "2", "--time"]) == 0
    told = capsys.readouterr()
    assert "173.png" in told.out and "seven" in told.out and "opening the model is not in it" in told.out
    assert "ms to read and decode" in " ".join(told.out.split())
    assert "note: assumed for images: mean 0.485" in told.err and "give --mean and --std" in told.err
    assert "next: kdna-deploy evaluate net.onnx --data DIR" in told.err
    assert command(["run", "net.onnx", str(DIGITS / "7"), "names.txt", "--labels", "names.txt", "--json"]) == 0
    told = capsys.readouterr()
    document = json.loads(told.out)
    assert (document["kind"], len(document["images"]), document["times_ms"]) == ("run", 5, None)
    likeliest, *others = document["images"][0]["classes"]
    assert (likeliest["label"], likeliest["name"], len(others)) == (7, "seven", 4)
    assert 0.5 < likeliest["probability"] <= 1
    assert [one["image"] for one in document["skipped"]] == ["names.txt"]
    assert "1 file is no readable image and was skipped (names.txt: " in told.err


class Piped:
    def __init__(self, content: bytes, terminal: bool = False) -> None:
        self.buffer, self.isatty = io.BytesIO(content), lambda: terminal


def test_an_image_on_standard_input(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", Piped(SEVEN.read_bytes()))
    assert command(["run", "net.onnx", "-", str(SEVEN), "--top", "1", "--json"]) == 0
    images = json.loads(capsys.readouterr().out)["images"]
    assert [one["image"] for one in images] == ["-", str(SEVEN)]
    assert images[0]["classes"] == images[1]["classes"] and images[0]["classes"][0]["label"] == 7


@pytest.mark.parametrize(
    ("words", "piped", "code", "said"),
    [
        (["net.onnx", "-"], Piped(b""), 3, "'-' is not an image that can be read: it is empty"),
        (["net.onnx", "-"], Piped(b"", terminal=True), 2, "Nothing is piped into standard input"),
        (["net.onnx", "-", "-"], Piped(b""), 2, r"Standard input \(-\) holds one image; name it once"),
        (["-", str(SEVEN)], Piped(b""), 3, r"There is no file '-'\."),
        (["net.onnx", "names.txt"], None, 3, "'names.txt' is not an image that can be read"),
        (["net.onnx", "net.onnx"], None, 3, r"'net\.onnx' is an ONNX file, and run takes an image\."),
        (["net.onnx", str(SEVEN), "--labels", str(SEVEN)], None, 3, "holds no class names: it is no text in UTF-8"),
        (["net.onnx", str(SEVEN), "--color", "L"], None, 3, "The network takes 3 channels"),
        (["net.onnx", str(SEVEN), "--top", "0"], None, 2, "greater than or equal to 1|0 is not in the range"),
    ],
)
def test_what_makes_no_sense_is_one_sentence_and_its_exit_code(
    words: list[str],
    piped: Piped | None,
    code: int,
    said: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "stdin", piped)
    assert command(["run", *words]) == code
    told = capsys.readouterr()
    assert told.out == "" and re.search(said, told.err), told.err
    assert "Traceback" not in told.err


def test_what_makes_no_sense_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    (tmp_path / "two.txt").write_text("yes\nno\n")
    with pytest.raises(kd.InputError, match="names 2 classes, and the network has 10"):
        kd.export(FusedNetwork(fused_sample()), tmp_path / "net.onnx", labels=tmp_path / "two.txt")
    with pytest.raises(kd.UsageError, match="is built of its graph as that is; leave `labels` out"):
        kd.export("net.onnx", tmp_path / "net.engine", tensorrt=True, labels="names.txt")
    assert [path.name for path in tmp_path.iterdir()] == ["two.txt"]
    with pytest.raises(kd.UsageError, match="`top` is 0"):
        kd.run("net.onnx", SEVEN, top=0)
    with pytest.raises(kd.UsageError, match="Name an image"):
        kd.run("net.onnx", [])


@pytest.mark.slow
def test_a_file_is_run_without_pytorch(folder: Path) -> None:
    """Where importing it fails, as on a device that has none."""
    files = ["net.onnx", *(["net.xml"] if Path("net.xml").exists() else [])]
    program = (
        "import sys; sys.modules.update(dict.fromkeys(('torch', 'onnxscript', 'onnxsim')))\n"
        "import kdna_deploy as kd\n"
        f"for file in {files!r}: print(kd.run(file, {str(SEVEN)!r}).images[0].classes[0].label)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.stdout.split() == ["7"] * len(files), done.stderr
