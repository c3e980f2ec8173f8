"""`report`: what becomes of its inputs, where it writes, and what it refuses before and after any work."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import pytest

import kdna_deploy as kd
from kdna_deploy.cli.app import run
from kdna_deploy.errors import ParityError, RuntimeFailure
from kdna_deploy.evaluation.evaluate import DataRequest, EvaluationRequest
from kdna_deploy.graph.provenance import Provenance
from kdna_deploy.images.preprocessing import AskedPreprocessing
from kdna_deploy.progress import SILENT
from kdna_deploy.reports.bench_data import written
from kdna_deploy.reports.page.evidence import FileEvidence
from kdna_deploy.verbs import report_judging
from kdna_deploy.verbs.report_asked import Asked, Source
from kdna_deploy.verbs.report_inputs import told_apart
from tests.benchmark.test_saved import PAIR
from tests.conftest import SAMPLES
from tests.reports.page.pages import sweep_of, told_of, whole
from tests.samples import RESNET, exported_sample, sample_path

DIGITS = str(SAMPLES / "digits")

DRAWN = pytest.mark.skipif(importlib.util.find_spec("matplotlib") is None, reason="matplotlib is not installed")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """With a run and a sweep."""
    monkeypatch.chdir(tmp_path)
    Path("run.json").write_text(written(PAIR, Path("run.json")), encoding="utf-8")
    Path("sweep.json").write_text(json.dumps(sweep_of("a", "b", "c").record), encoding="utf-8")
    return tmp_path


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    """The exit code and the sentence; nothing may be written."""
    before = sorted(Path().iterdir())
    code = run(["report", *arguments])
    assert sorted(Path().iterdir()) == before
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(said) == 1
    return code, said[0].removeprefix("error: ")


def test_inputs_are_told_apart_by_what_they_hold(tmp_path: Path) -> None:
    Path("net.onnx").write_bytes(b"never opened")
    checkpoint = sample_path(RESNET)
    given = [Path("run.json"), checkpoint, Path("net.onnx"), Path("sweep.json"), tmp_path / "run.json"]
    found = told_apart(given)
    assert (found.checkpoints, found.artifacts) == ((checkpoint,), (Path("net.onnx"),))
    assert (found.runs, found.sweeps) == ((Path("run.json"),), (Path("sweep.json"),)), (
        "one that is named twice counts once"
    )


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        (
            "other.json",
            '{"kind": "evaluate"}',
            "is neither a run that kdna-deploy bench --save wrote nor what kdna-deploy sweep",
        ),
        ("list.json", "[1, 2]", "is neither a run"),
        ("text.json", "hello", "is no JSON, or damaged"),
        ("deep.json", "[" * 100_000, "is no JSON, or damaged"),
        ("empty.json", "", "is no JSON, or damaged"),
        ("cut.json", '{"kind": "bench", "schema_version": 2}', "is damaged; measure it again"),
        ("later.json", '{"kind": "bench", "schema_version": 9}', "has schema 9"),
        ("swept.json", '{"kind": "sweep", "schema_version": 1}', "is damaged"),
        ("sweptlater.json", '{"kind": "sweep", "schema_version": 9}', "later kdna-deploy"),
    ],
)
def test_a_json_file_that_is_neither_is_refused(
    name: str, content: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path(name).write_text(content)
    code, sentence = refused(capsys, "run.json", name)
    assert code == 3 and said in sentence and f"'{name}'" in sentence


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("run.json", "-o", "run.json"), "The output 'run.json' is the input itself"),
        (("run.json", "-o", "gone/page.html"), "There is no folder 'gone'"),
        (("run.json", "-o", "."), "is a folder"),
        (("run.json", "--figures", "sweep.json"), "--figures 'sweep.json' is a file"),
        (("run.json", "--figures", "gone/figures"), "There is no folder 'gone'"),
        (("run.json", "--limit", "3"), "are about labelled images; give these with --data"),
        (("--plain", str(sample_path(RESNET)), "run.json"), "give some with --calibration"),
        (
            ("run.json", "sweep.json", "--data", DIGITS, "--calibration", DIGITS, "--plain", str(sample_path(RESNET))),
            "--calibration, --data and --plain concern networks and files; name a checkpoint or a file as well",
        ),
        (("run.json", "--data", DIGITS), "--data concerns networks and files"),
        (("sweep.json", "--ema", "--input-size", "64"), "--ema and --input-size concern networks"),
        (("run.json", "--arch", "resnet18", "--model", "net:build"), "--arch and --model concern"),
        (("run.json", "--no-filter"), "--no-filter concerns"),
        ((), "There is no *.onnx in this folder"),
    ],
)
def test_what_makes_no_sense_is_refused(
    arguments: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, sentence = refused(capsys, *arguments)
    assert code == 2 and said in sentence


@pytest.mark.parametrize(
    ("missing", "said"),
    [
        (("matplotlib",), "matplotlib is not"),
        (("jinja2",), "Jinja2 is not"),
        (("matplotlib", "jinja2"), "Jinja2 are not"),
    ],
)
def test_without_the_extra_a_sentence_says_how_to_get_it(
    missing: tuple[str, ...], said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *more: None if name in missing else found(name, *more)
    )
    code, sentence = refused(capsys, "run.json")
    assert code == 4 and said in sentence and "pip install 'kdna-deploy[report]'" in sentence


@DRAWN
@pytest.mark.slow
def test_a_page_and_its_figures_are_written_and_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["report", "run.json", "sweep.json", "-o", "both.html", "--figures", "figures", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["kind"], told["output"], told["bytes"]) == ("report", "both.html", Path("both.html").stat().st_size)
    assert told["sections"] == ["summary", "front", "choice", "time", "tables", "provenance"]
    assert told["figures"] == [str(path) for path in map(Path, told["figures"]) if path.stat().st_size > 500]
    kinds = {path.suffix for path in Path("figures").iterdir()}
    assert kinds == {".pdf", ".svg", ".png"} and len(told["figures"]) == 6 * len(told["drawings"])
    assert run(["report", "run.json"]) == 0
    assert "written" in (out := capsys.readouterr().out) and "report.html" in out and "without Accuracy" in out


@DRAWN
@pytest.mark.slow
def test_a_file_brings_its_checkpoint_and_is_verified_evaluated_and_measured() -> None:
    page = whole()
    told, text = told_of(page), page.read_text(encoding="utf-8")
    assert [one["section"] for one in told["left_out"]] == ["choice"]
    assert any(f"{RESNET}.pth.tar, which net.onnx was made from, was read as well" in note for note in told["notes"])
    assert "1 file of 1 verified against the network as it was trained" in text and text.count("data:image/") >= 12
    assert f"kdna-deploy export {RESNET}.pth.tar --input-size 64 -o net.onnx" in text
    assert "resnet18 at 3×64×64: 552,048 parameters" in text, "the checkpoint is looked at as its file says"
    assert {"accuracy-over-latency", "sharing", "roofline"} < set(told["drawings"])
    last = ("evaluate", "measure", "look at the worst images", "draw")
    assert tuple(step for step in told["steps"] if step in last)[-4:] == last


@DRAWN
@pytest.mark.slow
def test_a_file_whose_checkpoint_is_not_there_says_so(tmp_path: Path) -> None:
    exported_sample(tmp_path / "net.onnx", RESNET)
    page = kd.report("net.onnx", bench=False)
    assert [one.name for one in page.sections] == ["summary", "provenance"]
    assert any(f"{RESNET}.pth.tar" in note and "is not beside" in note for note in page.notes)
    assert "not verified" in page.path.read_text(encoding="utf-8")


@DRAWN
@pytest.mark.slow
def test_a_file_is_verified_against_its_checkpoint_wherever_that_was_named(tmp_path: Path) -> None:
    exported_sample(tmp_path / "net.onnx", RESNET)
    page = kd.report("net.onnx", sample_path(RESNET), bench=False)
    assert "1 file of 1 verified against the network as it was trained" in page.path.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "error", [RuntimeFailure("OpenVINO is not installed; get it."), ParityError("It answers with NaN.")]
)
def test_a_file_that_cannot_be_evaluated_here_costs_the_page_nothing_else(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def evaluate_files(*_: object) -> None:
        raise error

    monkeypatch.setattr(report_judging, "evaluate_files", evaluate_files)
    file, notes = FileEvidence(Path("net.xml"), "0" * 64, 1), list[str]()
    assert report_judging.evaluated(file, {}, Asked(data=DataRequest(Path("val"))), SILENT, notes) == file
    assert notes == [f"net.xml was not evaluated: {str(error).rstrip('.')}"]


@pytest.mark.parametrize(
    ("made_from", "against"),
    [
        pytest.param("0" * 64, Path("ckpt.pt"), id="its own"),
        pytest.param("1" * 64, None, id="another, as one that was overwritten"),
        pytest.param("", Path("ckpt.pt"), id="a network in memory"),
        pytest.param(None, Path("ckpt.pt"), id="not said"),
    ],
)
def test_a_file_is_compared_with_no_checkpoint_but_its_own(
    made_from: str | None, against: Path | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[EvaluationRequest] = []
    monkeypatch.setattr(report_judging, "evaluate_files", lambda request, listener: asked.append(request))
    made = None if made_from is None else Provenance("net", made_from, None, "", False, (3, 8, 8), 1, 1, 0)
    source = Source(Path("ckpt.pt"), None, None, False, None, AskedPreprocessing())
    file = FileEvidence(Path("net.onnx"), "2" * 64, 1, made)
    report_judging.evaluated(file, {"0" * 64: source}, Asked(data=DataRequest(Path("val"))), SILENT, [])
    assert [(one.model, one.against) for one in asked] == [(Path("net.onnx"), against)]


def test_nothing_heavy_is_imported_to_say_no(capsys: pytest.CaptureFixture[str]) -> None:
    before = set(sys.modules)
    refused(capsys, "gone.pt")
    assert not {"matplotlib", "jinja2"} & (set(sys.modules) - before)
