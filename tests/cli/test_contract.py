"""The contract of the command line: exit codes, one sentence, nothing left behind, one JSON document."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch

from kdna_deploy.cli import app
from kdna_deploy.network.families import ARCHITECTURES
from kdna_deploy.network.families.resnet import ResNetSpec
from tests.conftest import REPOSITORY, SAMPLES, Cli
from tests.samples import RESNET, exported_sample, sample_path

COMMANDS = (
    "inspect",
    "fuse",
    "export",
    "prepare",
    "verify",
    "run",
    "evaluate",
    "bench",
    "sweep",
    "report",
    "package",
    "ship",
    "list",
)
HEAVY = ("torch", "onnx", "onnxruntime", "onnxsim", "onnxscript", "numpy")


class Attack:
    """Runs a shell command when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, (f"touch '{self.mark}'",)


def contents(folder: Path) -> dict[str, int]:
    """Names in a folder, hidden ones too, and when each was written."""
    return {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}


def is_one_sentence(stderr: str) -> bool:
    return stderr.startswith("error: ") and stderr.endswith(".\n") and stderr.count("\n") == 1


def refusal(cli: Cli, folder: Path, *arguments: str, code: int) -> str:
    """The sentence with which `arguments` are refused; nothing may be written, and nothing else be said."""
    before = contents(folder)
    done = cli(*arguments)
    assert done.returncode == code, done.stderr
    assert done.stdout == ""
    assert is_one_sentence(done.stderr), done.stderr
    assert contents(folder) == before
    return done.stderr


def copy_sample(target: Path, name: str = RESNET) -> Path:
    target.write_bytes(sample_path(name).read_bytes())
    return target


def truncated(path: Path) -> None:
    whole = sample_path(RESNET).read_bytes()
    path.write_bytes(whole[: len(whole) // 2])


def text(path: Path) -> None:
    path.write_text("epoch 1, loss 2.3\n")


def resnet34(path: Path) -> None:
    """A network of the same family that is no KernelDNA network."""
    narrow = replace(ResNetSpec("basic", (3, 4, 6, 3)), widths=(8, 8, 16, 32, 64))
    torch.save({"state_dict": narrow.build(None, 10).state_dict()}, path)


def code_in_a_container(path: Path) -> None:
    torch.save({"state_dict": {"conv1.weight": torch.zeros(1)}, "args": Attack(path.with_name("mark"))}, path)


def code_in_a_bare_pickle(path: Path) -> None:
    path.write_bytes(pickle.dumps(Attack(path.with_name("mark")), protocol=2))


@pytest.mark.parametrize(
    ("make", "cause"),
    [
        (truncated, "is damaged or cut short; copy or download it again"),
        (text, "is not a PyTorch checkpoint"),
        (resnet34, "fits no known architecture"),
        (code_in_a_container, "ckpt.pt"),
        (code_in_a_bare_pickle, "ckpt.pt"),
        (None, "There is no file 'ckpt.pt'"),
    ],
    ids=lambda value: getattr(value, "__name__", "missing" if value is None else ""),
)
def test_a_checkpoint_that_cannot_be_loaded_is_exit_code_3(
    cli_here: Cli, tmp_path: Path, make: Callable[[Path], None] | None, cause: str
) -> None:
    if make:
        make(tmp_path / "ckpt.pt")
    assert cause in refusal(cli_here, tmp_path, "fuse", "ckpt.pt", code=3)
    assert not (tmp_path / "mark").exists()


def test_an_unknown_architecture_is_answered_with_the_known_ones(cli: Cli, tmp_path: Path) -> None:
    copy_sample(tmp_path / "ckpt.pt")
    sentence = refusal(cli, tmp_path, "fuse", "ckpt.pt", "--arch", "resnet19", code=2)
    assert "There is no architecture 'resnet19'" in sentence
    assert all(name in sentence for name in ARCHITECTURES)


@pytest.mark.parametrize(
    ("arguments", "remedy"),
    [
        (["export", "ckpt.pt", "--input-size", "0"], "write 224, or HxW such as 160x192"),
        (["export", "ckpt.pt", "--input-size", "64x"], "write 224, or HxW such as 160x192"),
        (["fuse", "ckpt.pt", "--input-size", "large"], "write 224, or HxW such as 160x192"),
        (["inspect", "ckpt.pt", "--input-size", "-64"], "write 224, or HxW such as 160x192"),
        (["fuse", "ckpt.pt", "--input-size", "999999"], "write 224, or HxW such as 160x192"),
        (["export", "ckpt.pt", "--batch", "0"], "write 'dynamic' or a number from 1"),
        (["export", "ckpt.pt", "--batch", "many"], "write 'dynamic' or a number from 1"),
        (["export", "ckpt.pt", "--batch", "²"], "write 'dynamic' or a number from 1"),
        (["export", "ckpt.pt", "--opset", "17"], "choose 18 to 23"),
        (["export", "ckpt.pt", "-o", "ckpt.pt"], "choose another name with -o"),
        (["export", "ckpt.pt", "-o", "nowhere/net.onnx"], "There is no folder 'nowhere' to write to"),
        (["export", "other.onnx"], "give the fused graph or the checkpoint"),
        (["fuse", "ckpt.pt", "-o", "ckpt.pt"], "choose another name with -o"),
        (["export", "--onnx"], "There is no *.fused.pt2 in this folder; make one with: kdna-deploy fuse CKPT"),
        (["verify"], "There is no *.onnx in this folder; make one with: kdna-deploy export --onnx"),
        (["evaluate", "--data", "."], "There is no *.onnx in this folder; make one with: kdna-deploy export --onnx"),
        (["bench"], "There is no *.onnx in this folder; make one with: kdna-deploy export --onnx"),
        (["bench", "net.onnx", "--save", "figures.txt"], "name a file that ends in one of them"),
        (["bench", "ckpt.pt", "--save", "nowhere/figures.json"], "There is no folder 'nowhere' to write to"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_request_that_cannot_be_met_is_exit_code_2_and_names_the_remedy(
    cli_here: Cli, tmp_path: Path, arguments: list[str], remedy: str
) -> None:
    copy_sample(tmp_path / "ckpt.pt")
    if "other.onnx" in arguments:
        (tmp_path / "other.onnx").touch()
    assert remedy in refusal(cli_here, tmp_path, *arguments, code=2)


@pytest.mark.parametrize(
    "arguments",
    [["frobnicate"], ["fuse"], ["export", "--opset", "new"], ["bench", "--cpu-threads", "0"], ["--nonsense"]],
)
def test_a_misspelt_command_line_is_exit_code_2_and_points_to_the_help(cli_here: Cli, arguments: list[str]) -> None:
    done = cli_here(*arguments)
    assert done.returncode == 2
    assert done.stdout == ""
    assert "--help" in done.stderr
    assert "Traceback" not in done.stderr


def perturbed(path: Path, name: str) -> Path:
    """A checkpoint of the same shapes and other values."""
    content = torch.load(sample_path(name), weights_only=True)
    generator = torch.Generator().manual_seed(0)
    for value in content["state_dict"].values():
        if value.dim() == 4:
            value += 0.01 * torch.randn(value.shape, generator=generator).to(value.dtype)
    torch.save(content, path)
    return path


def strict(text: str) -> dict[str, Any]:
    """Parse JSON as its standard has it, without NaN."""

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    return json.loads(text, parse_constant=refuse)


@pytest.mark.slow
def test_a_failed_verification_is_exit_code_1_with_its_figures(cli: Cli, cli_here: Cli, tmp_path: Path) -> None:
    exported_sample(tmp_path / "net.onnx")
    perturbed(tmp_path / "other.pt", RESNET)
    before = contents(tmp_path)
    done = cli_here("verify", "net.onnx", "--against", "other.pt", "--json")
    assert done.returncode == 1
    (sentence,) = done.stderr.splitlines()
    assert sentence.startswith("error: net.onnx does not compute what other.pt computes: output ")
    document = strict(done.stdout)
    assert (document["schema_version"], document["kind"], document["passed"]) == (1, "verify", False)
    assert [agreement["batch"] for agreement in document["agreements"]] == [1, 2, 5, 1, 1, 3]
    assert contents(tmp_path) == before
    copy_sample(tmp_path / sample_path(RESNET).name)
    # A terminal that has no Δ is no reason to fail.
    agreed = cli("verify", "net.onnx", PYTHONIOENCODING="ascii")
    assert agreed.returncode == 0, agreed.stderr
    assert agreed.stdout.count("pass") == 6


@pytest.mark.slow
def test_nan_fails_verification_and_is_null_in_json(cli_here: Cli, tmp_path: Path) -> None:
    copy_sample(tmp_path / "net.pt")
    model = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 18]> g (float[N,3,64,64] input) => (float[N,10] logits) '
        "<float[1,10] zeros = {0,0,0,0,0,0,0,0,0,0}, int64[2] shape = {0,3}> "
        "{ p = GlobalAveragePool(input) q = Reshape(p, shape) nan = Div(zeros, zeros) "
        "one = ReduceSum<keepdims=1>(q, axes) logits = Add(one, nan) }"
    )
    model.graph.initializer.append(onnx.helper.make_tensor("axes", onnx.TensorProto.INT64, [1], [1]))
    onnx.save_model(model, tmp_path / "nan.onnx")
    done = cli_here("verify", "nan.onnx", "--against", "net.pt", "--json")
    assert done.returncode == 1, done.stderr
    assert {agreement["max_difference"] for agreement in strict(done.stdout)["agreements"]} == {None}


@pytest.mark.slow
def test_every_command_prints_exactly_one_json_document(cli_here: Cli, tmp_path: Path) -> None:
    copy_sample(tmp_path / "net.pt")
    lines = {
        "inspect": ["net.pt", "--input-size", "64"],
        "fuse": ["net.pt", "--input-size", "64"],
        "export": [],
        "evaluate": ["--data", SAMPLES / "digits"],
        "bench": ["--iterations", "3", "--min-time", "0", "--save", "figures.json"],
        "prepare": ["net.onnx"],
        "run": ["net.onnx", SAMPLES / "digits" / "7"],
        "report": ["figures.json"],
        "package": ["net.onnx", "--for", "triton"],
        "list": ["resnet50"],
    }
    schemas = {"bench": 2}
    # A failed verification prints its document in the test above, a sweep and a release in tests/verbs.
    assert {*lines, "verify", "sweep", "ship"} == {*COMMANDS}
    documents = {}
    for command, arguments in lines.items():
        done = cli_here(command, *arguments, "--json")
        assert done.returncode == 0, done.stderr
        assert "Traceback" not in done.stderr
        documents[command] = strict(done.stdout)
        assert documents[command]["schema_version"] == schemas.get(command, 1)
        assert documents[command]["kind"] == command
    assert documents["inspect"]["architecture"]["name"] == "resnet18"
    assert documents["fuse"]["output"] == "net.fused.pt2"
    assert documents["export"]["nodes"]["Mul"] == documents["inspect"]["channel_attentions"] == 6
    assert documents["bench"]["rows"][1]["parameters"] == documents["inspect"]["parameters"]
    assert strict((tmp_path / "figures.json").read_text(encoding="utf-8")) == documents["bench"]
    (weights,) = tmp_path.glob("net.prepared.onnx.*.data")
    expected = {
        "net.pt",
        "net.fused.pt2",
        "net.onnx",
        "figures.json",
        "report.html",
        "net.prepared.onnx",
        weights.name,
        "triton",
    }
    assert contents(tmp_path).keys() == expected


HELPED = """
import contextlib, io, json, sys
from kdna_deploy.cli.app import main
for command in {commands}:
    sys.argv, out, code = ['kdna-deploy', *command.split(), '--help'], io.StringIO(), None
    with contextlib.redirect_stdout(out):
        try:
            main()
        except SystemExit as ended:
            code = ended.code
    heavy = sorted(set(sys.modules) & set({heavy}))
    print(json.dumps([command, code, out.getvalue(), heavy]), flush=True)
"""


@pytest.fixture(scope="module")
def helped() -> dict[str, tuple[int, str, list[str]]]:
    """Command → exit code, help, and what heavy has been imported by then, of all in one process."""
    done = subprocess.run(
        [sys.executable, "-c", HELPED.format(commands=["", *COMMANDS], heavy=HEAVY)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )
    assert (done.returncode, done.stderr) == (0, "")
    return {command: (code, out, heavy) for command, code, out, heavy in map(json.loads, done.stdout.splitlines())}


@pytest.mark.slow
@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_answers_without_importing_anything_heavy(
    command: str, helped: dict[str, tuple[int, str, list[str]]]
) -> None:
    code, out, heavy = helped[command]
    assert (code, heavy) == (0, [])
    assert f"Usage: kdna-deploy {command}".rstrip() in out
    if not command:
        assert all(name in out for name in COMMANDS) and COMMANDS == app.COMMANDS


def test_debugging_shows_the_traceback(cli: Cli) -> None:
    done = cli("fuse", "missing.pt", KDNA_DEBUG="1")
    assert done.returncode != 0
    assert "Traceback" in done.stderr
    assert "There is no file 'missing.pt'" in done.stderr
