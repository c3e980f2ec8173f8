"""What the library calls by its parameters' names, as the command line says it: options, their values, commands."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer

from kdna_deploy.cli.app import SPELLING, app, run
from kdna_deploy.cli.console import Sink
from kdna_deploy.cli.spelling import Spelling, spelled, spelled_document

SAID = [
    ("name a folder of them with `calibration`.", "name a folder of them with --calibration."),
    ("`children='share'` stores each parent once", "--children share stores each parent once"),
    ('`children="share"`', "--children share"),
    ("choose another name with `output`.", "choose another name with -o."),
    ("give `input_size=224`, or `input_size='160x192'`", "give --input-size 224, or --input-size 160x192"),
    ("normalisation: `mean=0.5, std=0.5`", "normalisation: --mean 0.5 --std 0.5"),
    ("leave `ema` out, or give `ema=True`", "leave --ema out, or give --ema"),
    ("build it with `tf32=False`, or in fp32", "build it with --no-tf32, or in fp32"),
    ("`tf32=True` (the default)", "--tf32 (the default)"),
    ("choose `target='cpu'` or `'tensorrt'`.", "choose --target cpu or tensorrt."),
    ("check the weights with `verify`.", "check the weights with kdna-deploy verify."),
    ("make it with: `fuse('CKPT')`.", "make it with: kdna-deploy fuse CKPT."),
    ("run: `verify('a b.onnx', against='c.pt')`", "run: kdna-deploy verify 'a b.onnx' --against c.pt"),
    ("`export('M.onnx', tensorrt=True)` (or `layers=True`)", "kdna-deploy export M.onnx --tensorrt (or --layers)"),
    ("a run that `bench(save=...)` wrote", "a run that kdna-deploy bench --save wrote"),
    ("`fail_if='ratio>1'` and `model='my nets:build'`", "--fail-if 'ratio>1' and --model 'my nets:build'"),
    ("more than `max_drop=-0.5` allows", "more than --max-drop -0.5 allows"),
]
KEPT = [
    "no `parameter` of ours",
    "no `children=`, no `mean=0.5, unknown=1`, no `unknown(1)`",
    "no `verify(FILE)`, no `export(*all)`, no `mean = `",
    "no `1`, no `not`, no `)`, no `` at all",
    "a file '`model`.onnx', 'nets/`model`.onnx' or 'a`model`'",
    "over `two\nlines`",
    f"deep: `{'(' * 5000}`",
]


@pytest.mark.parametrize(("text", "told"), SAID)
def test_names_become_options(text: str, told: str) -> None:
    assert SPELLING.of(text) == told


@pytest.mark.parametrize("text", KEPT)
def test_what_names_nothing_stays(text: str) -> None:
    assert SPELLING.of(text) == text


def test_only_commands_speak_of_options() -> None:
    assert spelled("give `model`") == "give `model`"
    with SPELLING.in_use():
        assert spelled("give `model`") == "give --model"
    assert spelled("give `model`") == "give `model`"


def test_every_option_of_every_command_is_known() -> None:
    group = typer.main.get_command(app)
    for command in group.commands.values():  # type: ignore[attr-defined]
        for parameter in command.params:
            if parameter.param_type_name == "option":
                assert SPELLING.of(f"give `{parameter.name}`") == f"give {parameter.opts[0]}"


def test_the_names_are_read_off_the_commands() -> None:
    other = typer.Typer(name="bake")

    @other.command()
    def cake(layers: int = 1) -> None: ...

    @other.callback()
    def root() -> None: ...

    assert Spelling(other).of("`cake(layers=3)`, not `model`") == "bake cake --layers 3, not `model`"


def test_documents_are_spelled_throughout() -> None:
    with SPELLING.in_use():
        told = spelled_document({"`model`": [("give `model`", 1.5, None)], "notes": {"deep": "give `ema`"}})
    assert told == {"`model`": [["give --model", 1.5, None]], "notes": {"deep": "give --ema"}}


def test_the_sink_speaks_of_options(capsys: pytest.CaptureFixture[str]) -> None:
    with SPELLING.in_use():
        sink = Sink()
        sink.note("give `model`")
        sink.warn("give `ema`")
        sink.fail("give `arch`")
        sink.result(lambda: "a cell: `half_io`", dict)
        with sink.listening() as listener:
            listener.note("heard `mean`")
            listener.warn("heard `std`")
            listener.skip("a.png", "for `crop`")
    shown = capsys.readouterr()
    assert shown.out == "a cell: --half-io\n"
    lines = ["note: give --model", "warning: give --ema", "error: give --arch", "note: heard --mean"]
    assert shown.err.splitlines()[:4] == lines
    assert "(a.png: for --crop)" in shown.err and "warning: heard --std" in shown.err


def test_a_failure_names_options_and_so_does_its_document(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("net.onnx").write_bytes(b"\x08")
    assert run(["export", "net.onnx", "--tensorrt-rtx", "-o", "net.onnx", "--json"]) == 2
    shown = capsys.readouterr()
    message = json.loads(shown.out)["error"]["message"]
    assert message == "The output 'net.onnx' is the input itself; choose another name with -o."
    assert shown.err == f"error: {message}\n"
