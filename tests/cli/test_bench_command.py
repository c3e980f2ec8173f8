"""``kdna-deploy bench`` as a user types it: what it prints and saves, when it fails, and what Ctrl-C leaves."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from kdna_deploy.benchmark.cpu.profile import GROUPS
from kdna_deploy.benchmark.saved import read_run
from tests import warm_process
from tests.conftest import REPOSITORY, Cli
from tests.samples import RESNET, exported_sample

QUICK = ("--iterations", "3", "--min-time", "0", "--no-cold-start")
INTERRUPTED = 130


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The sample network for ONNX Runtime on a CPU, and for any runtime. Never write beside them."""
    folder = tmp_path_factory.mktemp("exported")
    for target in ("cpu", "any"):
        exported_sample(folder / f"{target}.onnx", RESNET, target=target, simplify=False)
    return folder / "cpu.onnx", folder / "any.onnx"


@pytest.fixture
def models(exported: tuple[Path, Path], tmp_path: Path) -> tuple[str, str]:
    """Names of the network and of what it is compared with, in the command's folder."""
    net, baseline = exported
    shutil.copy(net, tmp_path / "net.onnx")
    shutil.copy(baseline, tmp_path / "base.onnx")
    return "net.onnx", "base.onnx"


@dataclass(frozen=True)
class Run:
    """A finished command: what it printed as JSON, and the folder with what it saved."""

    returncode: int
    document: dict[str, Any]
    stderr: str
    folder: Path


@pytest.fixture(scope="module")
def saved(exported: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Run:
    """One run with everything at once: JSON, all formats, a profile, and thresholds that are not crossed."""
    folder = tmp_path_factory.mktemp("saved")
    net, baseline = exported
    shutil.copy(net, folder / "net.onnx")
    shutil.copy(baseline, folder / "base.onnx")
    targets = [part for name in ("run.json", "run.csv", "run.md") for part in ("--save", name)]
    gates = ["--fail-if", "ratio>1000", "--fail-if", "file<0.1"]
    done = command(folder, "net.onnx", "--baseline", "base.onnx", *QUICK, "--profile", "--json", *targets, *gates)
    assert done.returncode == 0, done.stderr
    return Run(done.returncode, json.loads(done.stdout), done.stderr, folder)


def environment(**more: str) -> dict[str, str]:
    return {
        **os.environ,
        "PYTHONPATH": os.environ.get("PYTHONPATH", str(REPOSITORY)),
        "OMP_NUM_THREADS": "1",
        "OMP_WAIT_POLICY": "PASSIVE",
        **more,
    }


def command(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """As the `cli` fixture does, for fixtures that outlive a test."""
    return warm_process.run(["bench", *arguments], folder, environment())


def refusal(cli: Cli, folder: Path, *arguments: str, code: int) -> str:
    """The sentence with which `arguments` are refused; nothing is printed or written."""
    before = sorted(path.name for path in folder.iterdir())
    done = cli("bench", *arguments)
    assert done.returncode == code, done.stderr
    assert done.stdout == ""
    assert done.stderr.startswith("error: ") and done.stderr.endswith(".\n"), done.stderr
    assert done.stderr.count("\n") == 1
    assert sorted(path.name for path in folder.iterdir()) == before
    return done.stderr


@pytest.mark.slow
def test_every_format_is_written_and_named(saved: Run) -> None:
    assert sorted(path.name for path in saved.folder.iterdir()) == [
        "base.onnx",
        "net.onnx",
        "run.csv",
        "run.json",
        "run.md",
    ]
    for name in ("run.json", "run.csv", "run.md"):
        assert f"saved {name}\n" in saved.stderr
    with (saved.folder / "run.csv").open(encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    assert [line["name"] for line in lines] == ["base.onnx", "net.onnx"]
    table = (saved.folder / "run.md").read_text(encoding="utf-8")
    assert "| net.onnx |" in table and "channel attention" in table
    assert len(read_run(saved.folder / "run.json").rows) == 2


@pytest.mark.slow
def test_stdout_is_exactly_the_document_that_is_saved(saved: Run) -> None:
    assert json.loads((saved.folder / "run.json").read_text(encoding="utf-8")) == saved.document
    assert (saved.document["schema_version"], saved.document["kind"]) == (2, "bench")
    assert saved.document["partial"] is False
    assert [row["baseline"] for row in saved.document["rows"]] == [None, "base.onnx"]
    assert {row["cold_start"] for row in saved.document["rows"]} == {None}


@pytest.mark.slow
def test_a_profile_is_taken_of_both_and_explains_the_difference(saved: Run) -> None:
    profiles = saved.document["profiles"]
    assert [one["name"] for one in profiles] == ["base.onnx", "net.onnx"]
    for one in profiles:
        assert one["groups_us"].keys() == {*GROUPS}
        assert sum(one["groups_us"].values()) == pytest.approx(sum(layer["microseconds"] for layer in one["layers"]))
    (difference,) = saved.document["differences"]
    medians = [row["latency_ms"]["median"] for row in saved.document["rows"]]
    assert difference["difference_ms"] == pytest.approx(medians[1] - medians[0])
    assert difference["extra_macs_ms"] == pytest.approx(0, abs=1e-9)  # the same network
    assert difference["overhead_ms"] == pytest.approx(difference["difference_ms"])


@pytest.mark.slow
def test_a_crossed_threshold_is_exit_code_1_after_the_table(cli: Cli, tmp_path: Path, models: tuple[str, str]) -> None:
    net, baseline = models
    gate = "median>0.0001"
    done = cli("bench", net, "--baseline", baseline, *QUICK, "--profile", "--fail-if", gate, "--save", "run.json")
    assert done.returncode == 1
    *notes, sentence = done.stderr.splitlines()
    assert sentence.startswith("error: --fail-if 'median>0.0001': net.onnx has ") and sentence.endswith(".")
    assert all(not note.startswith("error") for note in notes)
    assert "base.onnx" not in sentence  # only what is compared with it
    for heading in ("Latency in ms", "net.onnx", "base.onnx", *GROUPS, "Slowest"):
        assert heading in done.stdout
    assert (tmp_path / "run.json").is_file()


@pytest.mark.slow
def test_a_threshold_that_is_none_is_refused_before_anything_is_measured(
    cli: Cli, tmp_path: Path, models: tuple[str, str]
) -> None:
    sentence = refusal(cli, tmp_path, models[0], "--fail-if", "ratio=1.3", code=2)
    assert "--fail-if 'ratio=1.3' is not METRIC OPERATOR NUMBER" in sentence


def test_a_format_that_cannot_be_written_is_refused_before_anything_is_measured(
    cli: Cli, tmp_path: Path, models: tuple[str, str]
) -> None:
    sentence = refusal(cli, tmp_path, models[0], *QUICK, "--save", "run.json", "--save", "run.xlsx", code=2)
    assert "--save writes .json, .csv, .md" in sentence and "'run.xlsx'" in sentence


def test_a_saved_file_never_replaces_a_model(cli: Cli, tmp_path: Path, models: tuple[str, str]) -> None:
    (tmp_path / "net.json").symlink_to(tmp_path / models[0])
    refusal(cli, tmp_path, models[0], "--save", "net.json", code=2)


@pytest.mark.slow
def test_a_saved_file_never_replaces_its_own_baseline(cli: Cli, saved: Run, tmp_path: Path) -> None:
    shutil.copy(saved.folder / "net.onnx", tmp_path)
    shutil.copy(saved.folder / "run.json", tmp_path)
    refusal(cli, tmp_path, "net.onnx", *QUICK, "--baseline", "run.json", "--save", "run.json", code=2)


@pytest.mark.slow
def test_two_saved_runs_are_compared_without_measuring(cli: Cli, saved: Run, tmp_path: Path) -> None:
    for name in ("a.json", "b.json"):
        shutil.copy(saved.folder / "run.json", tmp_path / name)
    done = cli("bench", "--compare", "a.json", "b.json")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""  # the same machine and options
    assert "net.onnx" in done.stdout and "ratio in A" in done.stdout


@pytest.mark.slow
def test_a_comparison_of_one_run_or_of_a_broken_one_is_refused(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "broken.json").write_text('{"schema_version": 2,')
    sentence = refusal(cli, tmp_path, "--compare", "broken.json", code=2)
    assert "--compare takes two saved runs" in sentence
    sentence = refusal(cli, tmp_path, "--compare", "broken.json", "broken.json", code=3)
    assert "'broken.json' is not a run that kdna-deploy bench --save wrote" in sentence


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (("--fail-if", "ratio>1"), "--fail-if"),
        (("--methods", "kw"), "--methods"),
        (("--cpu-threads", "1"), "--cpu-threads"),  # as by default
        (("--runtime", "mnn", "--iterations", "500", "--profile"), "--runtime, --iterations and --profile"),
        (("--min-time", "30", "--input-size", "320"), "--min-time and --input-size"),
        (("--no-cuda-graphs", "--no-filter"), "--no-cuda-graphs and --no-filter"),
    ],
)
def test_a_comparison_takes_no_option_of_a_measurement(
    cli: Cli, tmp_path: Path, options: tuple[str, ...], named: str
) -> None:
    sentence = refusal(cli, tmp_path, "--compare", "a.json", "b.json", *options, code=2)
    assert sentence == f"error: --compare measures nothing; leave {named} out.\n"


def test_the_papers_protocol_is_refused_for_another_batch(cli: Cli, tmp_path: Path, models: tuple[str, str]) -> None:
    sentence = refusal(cli, tmp_path, models[0], "--protocol", "paper", "--batch-size", "2", code=2)
    assert "--protocol paper is batch 1 on one thread" in sentence


def test_a_suite_takes_no_models(cli: Cli, tmp_path: Path, models: tuple[str, str]) -> None:
    sentence = refusal(cli, tmp_path, models[0], "--suite", "table1", code=2)
    assert "--suite table1 builds its own networks; leave 'net.onnx' out" in sentence


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (("--suite", "runtimes", "--arch", "mobilenet_v2"), "--arch"),
        (
            ("--suite", "table1", "--model", "net:build", "--layout", "FS-FSF", "--no-filter"),
            "--model, --layout and --no-filter",
        ),
    ],
)
def test_a_suite_takes_no_words_of_an_architecture(
    cli: Cli, tmp_path: Path, options: tuple[str, ...], named: str
) -> None:
    sentence = refusal(cli, tmp_path, "net.onnx", *options, code=2)  # which is refused too, lest anything be built
    assert sentence == f"error: --suite {options[1]} builds its own networks; leave {named} out.\n"


@pytest.mark.parametrize(("option", "known"), [("--runtime", "onnxruntime"), ("--suite", "layouts")])
def test_an_unknown_choice_is_answered_with_the_known_ones(cli: Cli, option: str, known: str) -> None:
    done = cli("bench", "net.onnx", option, "nonsense")
    assert done.returncode == 2
    assert done.stdout == ""
    assert known in done.stderr and "Traceback" not in done.stderr


@pytest.mark.slow
@pytest.mark.skipif(
    sys.platform == "win32" or not hasattr(psutil.Process, "cpu_affinity"),
    reason="no SIGINT, or no way to see from outside that the measurement has begun",
)
@pytest.mark.parametrize(
    "hidden",
    [
        pytest.param(True, id="without-openvino"),
        pytest.param(False, id="with-openvino"),  # which would leave a signal stack too small for Python's handler
    ],
)
def test_an_interruption_keeps_what_was_measured(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, models: tuple[str, str], hidden: bool
) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    start = tmp_path_factory.mktemp("start")
    if hidden:  # as if it were not installed
        (start / "sitecustomize.py").write_text("import sys\nsys.modules['openvino'] = None\n")
    net, baseline = models
    arguments = [net, "--baseline", baseline, "--min-time", "60", "--no-cold-start", "--save", "run.json"]
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.cli.brief_command", "bench", *arguments, "--fail-if", "ratio>1000"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(TMPDIR=str(scratch), PYTHONPATH=f"{start}{os.pathsep}{environment()['PYTHONPATH']}"),
        # Where the tests run in the background, an ignored SIGINT would be inherited.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    try:
        told = _told_until_measuring(process)
        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == INTERRUPTED, told + stderr
    assert "warning: interrupted: these figures are partial" in stderr
    assert "error" not in stderr and "Traceback" not in stderr
    assert "Latency in ms" in stdout and "net.onnx" in stdout
    document = json.loads((tmp_path / "run.json").read_text(encoding="utf-8"))
    assert document["partial"] is True
    assert [row["name"] for row in document["rows"]] == ["base.onnx", "net.onnx"]
    assert all(row["samples_ms"] for row in document["rows"])
    assert document["rows"][1]["ratio"]["value"] > 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["base.onnx", "net.onnx", "run.json", "scratch"]
    assert list(scratch.glob("kdna-*")) == []  # runtimes may leave files of their own


def _told_until_measuring(process: subprocess.Popen[str]) -> str:
    """What the process has told when it goes on from the core's peak to the models, and some time later."""
    assert process.stderr is not None
    told = ""
    while "measure" not in told and (line := process.stderr.readline()):
        told += line
    time.sleep(1.5)  # a session opens and warms up in much less; a block takes six seconds
    return told
