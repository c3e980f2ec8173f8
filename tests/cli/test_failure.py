"""How a command ends that fails: its exit code, one sentence, and with ``--json`` one document that says both."""

from __future__ import annotations

import errno
import json
import os
import sys
from pathlib import Path

import pytest

from kdna_deploy.cli.app import run
from kdna_deploy.cli.failure import failure_of
from kdna_deploy.cli.signals import Received
from kdna_deploy.errors import CheckpointError, RuntimeFailure, UsageError
from tests.benchmark.test_saved import PAIR
from tests.samples import RESNET, sample_path
from tests.steps import without_steps

NETWORK = """
import sys
from torch import nn

class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(3, 2)

    def forward(self, images):
        {forward}
        return self.fc(images.mean((2, 3)))

class Odd(BaseException):
    pass

def build():
    {factory}
    return Network()

def checkpoint(path):
    import torch
    torch.save({{"state_dict": Network().state_dict()}}, path)
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder, from which modules are imported."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    return tmp_path


def own_network(name: str, forward: str = "pass", factory: str = "pass") -> str:
    """Write a module with a network, and a checkpoint that fits it; the reference to its factory."""
    scope: dict[str, object] = {}
    exec(NETWORK.format(forward="pass", factory="pass"), scope)
    scope["checkpoint"]("net.pt")  # type: ignore[operator]
    Path(f"{name}.py").write_text(NETWORK.format(forward=forward, factory=factory))
    return f"{name}:build"


@pytest.mark.parametrize(
    ("arguments", "kind", "code", "message"),
    [
        (["fuse", "gone.pt"], "InputError", 3, "There is no file 'gone.pt'."),
        (["fuse", "text.pt"], "CheckpointError", 3, "'text.pt' is not a PyTorch checkpoint"),
        (["export", "text.pt", "--batch", "0"], "UsageError", 2, "'0' is not a batch size"),
        (["fuse"], "UsageError", 2, "Missing argument"),
        (["fuse", "text.pt", "--nonsense"], "UsageError", 2, "--nonsense"),
        (["frobnicate"], "UsageError", 2, "No such command 'frobnicate'"),
        (["bench", "--runtime", "nonsense"], "UsageError", 2, "onnxruntime"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_with_json_an_error_is_one_document_that_says_what_stderr_says(
    here: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], kind: str, code: int, message: str
) -> None:
    (here / "text.pt").write_text("epoch 1\n")
    assert run([*arguments, "--json"]) == code
    told = capsys.readouterr()
    document = json.loads(told.out)
    assert {key: document[key] for key in ("schema_version", "kind")} == {"schema_version": 1, "kind": "error"}
    assert {key: document["error"][key] for key in ("kind", "code")} == {"kind": kind, "code": code}
    assert message in document["error"]["message"]
    assert document["error"]["message"].splitlines()[0] in told.err
    assert run(arguments) == code
    again = capsys.readouterr()
    assert (again.out, without_steps(again.err)) == ("", without_steps(told.err))


def test_a_limit_that_is_crossed_is_told_after_the_figures_and_is_no_second_document(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("net.onnx").write_bytes(b"\x08")
    monkeypatch.setattr("kdna_deploy.benchmark.run.bench", lambda *_: PAIR)
    assert run(["bench", "net.onnx", "--json", "--fail-if", "ratio>1.1"]) == 1
    told = capsys.readouterr()
    assert json.loads(told.out)["kind"] == "bench"
    assert told.err.splitlines()[-1] == "error: --fail-if 'ratio>1.1': net.onnx has 1.2."
    assert run(["bench", "net.onnx", "--json", "--fail-if", "ratio>1.3"]) == 0


@pytest.mark.parametrize(
    ("error", "kind", "code", "message"),
    [
        (CheckpointError("It is damaged."), "CheckpointError", 3, "It is damaged."),
        (UsageError("No."), "UsageError", 2, "No."),
        (RuntimeFailure("None here."), "RuntimeFailure", 4, "None here."),
        (KeyboardInterrupt(), "Interrupted", 130, "interrupted."),
        (OSError(errno.EIO, os.strerror(errno.EIO), "a.png"), "OSError", 1, "'a.png' could not be read or written: "),
        (OSError(errno.EIO, os.strerror(errno.EIO)), "OSError", 1, "A file could not be read or written: "),
        (MemoryError(), "OutOfMemory", 1, "choose a smaller batch or image size."),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), "OutOfMemory", 1, "choose a smaller"),
        (SystemExit("bye\nbye"), "InputError", 3, "ended the process (SystemExit: bye); "),
        (ValueError("odd\nand more"), "InternalError", 1, "Internal error (ValueError: odd); please report it"),
    ],
)
def test_every_exception_has_a_kind_a_code_and_a_sentence(
    error: BaseException, kind: str, code: int, message: str
) -> None:
    failure = failure_of(error, Received())
    assert (failure.kind, failure.code) == (kind, code)
    assert message in failure.message and "\n" not in failure.message


def test_an_exception_that_cannot_even_say_what_it_is_has_them_too() -> None:
    class Mute(Exception):
        def __str__(self) -> str:
            raise ValueError("no")

    assert failure_of(Mute(), Received()).message.startswith("Internal error (Mute: ); please report it")


def test_whatever_a_signal_led_to_is_told_as_the_signal() -> None:
    """Native code may turn the interruption into an exception of its own."""
    failure = failure_of(RuntimeError("callback failed"), Received(15))
    assert (failure.kind, failure.code, failure.message) == ("Interrupted", 143, "ended by SIGTERM.")


@pytest.mark.parametrize(
    ("reference", "said"),
    [
        ("sys:exit", "sys:exit() failed: SystemExit. It must build the network without arguments."),
        ("exits_when_imported:build", "--model exits_when_imported:build cannot be imported: SystemExit 3."),
    ],
)
def test_a_factory_that_ends_the_process_is_refused(
    here: Path, capsys: pytest.CaptureFixture[str], reference: str, said: str
) -> None:
    (here / "exits_when_imported.py").write_text("import sys\nsys.exit(3)\n")
    assert run(["inspect", str(sample_path(RESNET)), "--model", reference]) == 3
    told = capsys.readouterr()
    assert (told.out, without_steps(told.err)) == ("", f"error: {said}\n")


@pytest.mark.parametrize(
    ("number", "place", "statement", "code", "said"),
    [
        (1, "factory", "raise Odd('no')", 3, "odd_1:build() failed: Odd no."),
        (2, "factory", "raise ValueError('two\\nlines')", 3, "odd_2:build() failed: two. It must build"),
        (3, "factory", "raise KeyboardInterrupt", 130, "interrupted."),
        (4, "forward", "sys.exit()", 3, "The network's forward calls sys.exit("),
        (5, "forward", "raise Odd('no')", 3, "The network's code ended the process (Odd: no); it must return"),
        (6, "forward", "raise KeyboardInterrupt", 130, "interrupted."),
    ],
)
def test_whatever_the_networks_code_raises_ends_in_one_sentence(
    here: Path, capsys: pytest.CaptureFixture[str], number: int, place: str, statement: str, code: int, said: str
) -> None:
    model = own_network(f"odd_{number}", **{place: statement})
    assert run(["inspect", "net.pt", "--model", model, "--input-size", "8"]) == code
    told = capsys.readouterr()
    assert told.out == ""
    sentence = without_steps(told.err)
    assert sentence.startswith(f"error: {said}") and sentence.count("\n") == 1


def test_debugging_adds_the_traceback_and_changes_nothing_else(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model = own_network("debugged", forward="sys.exit(0)")
    monkeypatch.setenv("KDNA_DEBUG", "1")
    assert run(["inspect", "net.pt", "--model", model, "--input-size", "8", "--json"]) == 3
    told = capsys.readouterr()
    assert "Traceback" in told.err and "in forward" in told.err
    assert "\nerror: The network's forward calls sys.exit(0)" in told.err
    assert json.loads(told.out)["error"]["code"] == 3


def test_what_the_networks_code_prints_does_not_reach_the_document(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = own_network("talks", forward="print('in forward')", factory="print('in the factory')")
    assert run(["inspect", "net.pt", "--model", model, "--input-size", "8", "--json"]) == 0
    told = capsys.readouterr()
    assert json.loads(told.out)["kind"] == "inspect"
    assert "in forward" in told.err and "in the factory" in told.err


def test_names_cannot_write_to_the_terminal_or_make_two_lines(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["fuse", "a\x1b[31m\n[bold]b.pt"]) == 3
    assert capsys.readouterr().err == "error: There is no file 'a\\x1b[31m\\n[bold]b.pt'.\n"
