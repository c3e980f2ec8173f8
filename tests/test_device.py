"""On a device: what runs files needs no PyTorch, and what needs it says so in one sentence.

All of the README's section runs in a process in which importing PyTorch fails, and once more in an environment that
has been given the wheel of the core package alone (`tests.distribution`), whose commands a shell completes.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import kdna_deploy as kd
from tests.conftest import REPOSITORY, SAMPLES
from tests.converted_files import converted_sample
from tests.distribution import installed_core, outside
from tests.samples import RESNET, sample_path

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("fused_once")]

README = (REPOSITORY / "README.md").read_text(encoding="utf-8")
CONVERTING = ("torch", "onnxscript", "onnxsim", "onnx_ir", "safetensors", "sympy")
BRIEF = " --iterations 3 --min-time 0 --no-cold-start"  # for what is measured
SAYS = {
    "inspect": "checkpoint          ckpt.pt, SHA-256",
    "prepare": "Against the portable file",
    "verify": "ckpt.prepared.onnx against ckpt.onnx",
    "run": "photo.jpg  class 7",
    "evaluate": "top-1           100.00%",
    "bench": "resnet18_plain 64×64",
}
# With what it is that needs PyTorch.
REFUSED = {
    "fuse ckpt.pt": "Fusing a network",
    "export ckpt.pt": "Writing a file",
    "export ckpt.pt --check ckpt.onnx": "Making a file again",
    "list": "Listing the architectures",
    "inspect ckpt.pt": "Loading a checkpoint",
    "run ckpt.pt photo.jpg": "'ckpt.pt' is a checkpoint, and opening one",
    "evaluate ckpt.pt --data images/": "'ckpt.pt' is a checkpoint, and opening one",
    "verify ckpt.onnx": "Comparing 'ckpt.onnx' with the checkpoint that it was made from",
    "verify ckpt.onnx --against ckpt.pt": "'ckpt.pt' is a checkpoint, and opening one",
    "verify ckpt.onnx --against ckpt.onnx --bisect": "--bisect, which makes the stages of an export again,",
    "bench ckpt.pt": "'ckpt.pt' is a checkpoint, and opening one",
    "bench alone/ckpt.onnx": "Building the plain backbone of 'ckpt.onnx', whose own 'ckpt.baseline.onnx' is not",
    "sweep ckpt.pt --data images/": "Making and measuring all files",
    "ship ckpt.pt": "Making a release",
    "report ckpt.pt": "Writing a page",
    "bench --suite table1": "Building the networks of --suite table1",
}
# A file that was written without a baseline: exit code, and what is said.
OF_A_PHONE = {
    f"bench ckpt.tflite{BRIEF}": (
        0,
        "ckpt.tflite is measured alone: without PyTorch no plain backbone",
    ),
    f"bench ckpt.tflite --fail-if ratio>1.4{BRIEF}": (
        4,
        "error: Nothing was compared, so that --fail-if says",
    ),
    f"bench ckpt.tflite --baseline ckpt.tflite{BRIEF}": (0, ""),
    f"bench ckpt.tflite --baseline ckpt.onnx{BRIEF}": (
        4,
        "error: What to compare with cannot be measured: ",
    ),
}
PROGRAM = """
import contextlib, io, json, shlex, sys
sys.modules.update(dict.fromkeys({converting}))
from kdna_deploy.benchmark.cpu import roofline
from kdna_deploy.cli.app import run
roofline._SECONDS = 0.001
for line in json.load(sys.stdin):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = run(shlex.split(line))
    print(json.dumps([line, code, out.getvalue(), err.getvalue()]), flush=True)
"""


def commands() -> list[str]:
    """Of the README's section, in order, `pip` first."""
    (section,) = re.findall(r"tests/test_device\.py.*?```\n(.*?)```", README, re.DOTALL)
    return [line.split(" #")[0].strip() for line in section.splitlines()]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the section supposes: both files, an image, a folder of images."""
    folder = tmp_path_factory.mktemp("device")
    shutil.copy(sample_path(RESNET), folder / "ckpt.pt")
    kd.export(folder / "ckpt.pt", folder / "ckpt.onnx", input_size=64, with_baseline=True, simplify=False)
    shutil.copytree(SAMPLES / "digits", folder / "images")
    with Image.open(SAMPLES / "digits" / "7" / "173.png") as seven:
        seven.convert("RGB").save(folder / "photo.jpg", quality=95)
    shutil.copy(converted_sample("litert").path, folder / "ckpt.tflite")
    (folder / "alone").mkdir()
    shutil.copy(folder / "ckpt.onnx", folder / "alone")
    return folder


@pytest.fixture(scope="module")
def blocked(folder: Path) -> dict[str, tuple[int, str, str]]:
    """Command → exit code, and what it printed, of all in one process that can import nothing that converts."""
    _, *lines = commands()
    asked = [shorter(line).removeprefix("kdna-deploy ") for line in lines] + [*REFUSED, *OF_A_PHONE]
    program = PROGRAM.format(converting=CONVERTING)
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=folder,
        input=json.dumps(asked),
        capture_output=True,
        text=True,
        timeout=200,
        env=environment,
    )
    told: list[Any] = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line for line, *_ in told] == asked, done.stderr
    return {line: (code, out, err) for line, code, out, err in told}


def shorter(line: str) -> str:
    return line + BRIEF if line.startswith("kdna-deploy bench") else line


def test_what_runs_files_imports_nothing_that_converts(blocked: dict[str, tuple[int, str, str]]) -> None:
    done = {line.partition(" ")[0]: told for line, told in blocked.items() if line not in {**REFUSED, **OF_A_PHONE}}
    assert done.keys() == SAYS.keys()
    for command, (code, out, err) in done.items():
        assert (code, SAYS[command] in out) == (0, True), (command, out, err)
    assert "ckpt.onnx is measured beside ckpt.baseline.onnx, the plain backbone" in done["bench"][2]


@pytest.mark.parametrize("line", OF_A_PHONE)
def test_a_file_without_a_baseline_is_measured_alone(line: str, blocked: dict[str, tuple[int, str, str]]) -> None:
    code, out, err = blocked[line]
    assert (code, OF_A_PHONE[line][1] in " ".join(f"{out} {err}".split())) == (OF_A_PHONE[line][0], True), (out, err)
    assert code != 0 or "ckpt.tflite" in out


@pytest.mark.parametrize("line", REFUSED)
def test_a_command_that_converts_says_what_it_needs(line: str, blocked: dict[str, tuple[int, str, str]]) -> None:
    code, out, err = blocked[line]
    (sentence,) = [said for said in err.splitlines() if said.startswith("error: ")]
    assert (code, out) == (4, "")
    assert sentence.startswith(f"error: {REFUSED[line]} ")
    assert "needs PyTorch, which is not installed; " in sentence
    assert sentence.endswith("run: pip install 'kdna-deploy[convert]'.")


@pytest.mark.timeout(400)
def test_the_section_runs_where_the_core_package_alone_is_installed(folder: Path) -> None:
    environment = installed_core()
    pip, *lines = commands()
    assert pip == "pip install kdna-deploy"
    search = f"from importlib.util import find_spec; print([name for name in {CONVERTING} if find_spec(name)])"
    found = subprocess.run([environment / "python", "-c", search], capture_output=True, text=True, cwd=folder)
    assert found.stdout.strip() == "[]"
    for line in lines:
        done = subprocess.run(
            shlex.split(shorter(line)),
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=120,
            env=outside(environment),
            executable=environment / "kdna-deploy",
        )
        assert done.returncode == 0, (line, done.stderr)
        assert SAYS[line.split()[1]] in done.stdout, line


@pytest.mark.timeout(400)
@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash")
def test_a_shell_completes_what_the_wheel_installs(tmp_path: Path) -> None:
    script = (
        'eval "$(kdna-deploy --show-completion)"\n'
        "complete -p kdna-deploy\n"
        "COMP_WORDS=(kdna-deploy evaluate --against) COMP_CWORD=2\n"
        '_kdna_deploy_completion kdna-deploy; echo "${COMPREPLY[@]}"\n'
    )
    environment = {**outside(installed_core()), "HOME": str(tmp_path)}
    done = subprocess.run(
        ["bash", "--norc", "--noprofile", "-c", script], capture_output=True, text=True, cwd=tmp_path, env=environment
    )
    assert done.stdout.splitlines() == ["complete -o default -F _kdna_deploy_completion kdna-deploy", "--against"]
