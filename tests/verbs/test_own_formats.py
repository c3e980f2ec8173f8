"""Words of files that one runtime alone opens: what they exclude is one sentence, before anything is loaded."""

from __future__ import annotations

from pathlib import Path

import pytest

from kdna_deploy.cli.app import run
from kdna_deploy.runtimes.table import RUNTIMES
from kdna_deploy.verbs.own_formats import FORMATS, missing, own_suffix
from tests.samples import RESNET, sample_path


@pytest.mark.parametrize("name", ["ncnn", "mnn", "executorch"])
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--openvino"], "leave --{0} out, or run again"),
        (["--tensorrt"], "leave the engine out"),
        (["--prepare"], "leave --prepare, which is for ONNX Runtime, out"),
        (["--target", "any"], "leave --target out"),
        (["--precision", "fp16"], "{4}"),
        (["--precision", "int8", "--calibration", "."], "{1}"),
        (["--weights", "int4"], "does not store weights in int4"),
        (["--children", "share"], "leave --children out"),
        (["--children", "on-the-fly"], "leave --children out"),
        (["--external-data"], "leave --external-data out"),
        (["--batch", "2"], "takes {5}; leave --batch out"),
        (["--dynamic-size"], "leave --dynamic-size out"),
        (["--preprocess", "nhwc"], "leave --preprocess and --postprocess out"),
        (["--postprocess", "softmax"], "leave --preprocess and --postprocess out"),
        (["--with-baseline"], "leave --with-baseline out"),
        (["--weights", "int8", "--workers", "2"], "{3}"),
        (["-o", "net.onnx"], "must end in {2}"),
    ],
)
def test_what_such_a_file_cannot_have_is_exit_code_2(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    name: str,
    words: list[str],
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(["export", str(sample_path(RESNET)), f"--{name}", *words]) == 2
    told = capsys.readouterr()
    int8 = {
        "ncnn": "ncnn2table and ncnn2int8",
        "mnn": "quantiser in MNN's package aborts, see docs/edge.md; --weights int8",
        "executorch": "not written in int8 here; choose --litert",
    }[name]
    half = {
        "ncnn": "ncnn computes in half precision by itself, where the processor does; --weights fp16 halves the file.",
        "mnn": "is opened with its precision 'low' and the processor does; --weights fp16 halves the file.",
        "executorch": "are not written in half precision here; choose --litert with --weights fp16, for half the size.",
    }[name]
    images = "any number of images" if name == "mnn" else "one image at a time"
    workers = "leave --workers and --ray out" if name == "mnn" else "does not store weights in int8"
    assert said.format(name, int8, Path(FORMATS[name].suffix).suffix, workers, half, images) in told.err
    assert told.out == "" and list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", FORMATS)
def test_an_onnx_file_is_another_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(["export", str(sample_path(RESNET)), "--onnx", f"--{name}"]) == 2
    said = f"error: --{name} writes {FORMATS[name].kind.value} alone; leave --onnx out, or run again for it.\n"
    assert capsys.readouterr().err.endswith(said) and list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--ncnn"], "leave --litert out, or run again"),
        (["--precision", "fp16"], "--weights fp16 halves the file"),
        (["--weights", "int4"], "does not store weights in int4; choose --weights int8"),
        (["--children", "share"], "children are multiplied out; leave --children out"),
        (["--external-data"], "leave --external-data out"),
        (["--dynamic-size"], "leave --dynamic-size out"),
        (["--with-baseline"], "leave --with-baseline out"),
        (["-o", "net.onnx"], "must end in .tflite"),
    ],
)
def test_what_a_litert_file_cannot_have(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(["export", str(sample_path(RESNET)), "--litert", *words]) == 2
    told = capsys.readouterr()
    assert said in told.err and told.out == "" and list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", FORMATS)
def test_without_its_package_one_sentence_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("importlib.util.find_spec", lambda name, package=None: None)
    assert run(["export", str(sample_path(RESNET)), f"--{name}"]) == 4
    form = FORMATS[name]
    said = f"{form.title} is not installed; run: pip install 'kdna-deploy[{form.extra or name}]'"
    assert said in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_what_writes_ncnn_files_is_not_what_runs_them(monkeypatch: pytest.MonkeyPatch) -> None:
    def without(absent: str) -> None:
        monkeypatch.setattr("importlib.util.find_spec", lambda name, package=None: None if name == absent else object())

    without("pnnx")
    assert missing("ncnn") == "pnnx is not installed; run: pip install 'kdna-deploy[ncnn-convert]'"
    assert RUNTIMES["ncnn"].missing is None
    without("ncnn")
    assert missing("ncnn") == "ncnn is not installed; run: pip install 'kdna-deploy[ncnn-convert]'"
    assert RUNTIMES["ncnn"].missing == "ncnn is not installed; run: pip install 'kdna-deploy[ncnn]'"


def test_a_name_is_made_of_the_format_that_is_asked_for() -> None:
    assert own_suffix({"ncnn": True}) == ".ncnn.param" and own_suffix({"mnn": False}) == ".onnx"
