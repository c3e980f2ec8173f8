"""What the README says of its commands is what they print and write, and the reference names every option.

Every command in its blocks runs in turn, in one folder, on the trained sample in the place of a user's checkpoint, at
its image size, and measured briefly. A command without an entry in `CLAIMS` fails.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import json
import re
import shlex
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from PIL import Image

from kdna_deploy.benchmark import paper
from kdna_deploy.cli.app import COMMANDS
from kdna_deploy.errors import KdnaError
from kdna_deploy.network.families import ARCHITECTURES
from kdna_deploy.reports.page import parts
from kdna_deploy.runtimes.ort import OrtSession
from tests.cli.handed import handed, invoke
from tests.conftest import REPOSITORY, SAMPLES, Cli
from tests.samples import RESNET, sample_path
from tests.user_variant.network import build

pytestmark = pytest.mark.usefixtures("fused_once", "short_bench")
README = (REPOSITORY / "README.md").read_text()
REFERENCE = (REPOSITORY / "docs" / "cli.md").read_text()
SAMPLE = f"sample_checkpoints/{RESNET}.pth.tar"
BRIEF = ("--iterations", "3", "--min-time", "0")
VERIFIED = (r"Against the original network", r" 1 .* pass .* 2 .* pass .* 5 .* pass ")


@dataclass(frozen=True)
class Ran:
    """A command that has ended: what it printed, in one line, its exit code or its error, and the files it wrote."""

    printed: str
    code: int
    failed: str
    written: tuple[str, ...]
    folder: Path


@dataclass(frozen=True)
class Claim:
    """What the README says of a command.

    Attributes:
        says: patterns that are found in what it prints, spaces and frames of tables being one space.
        writes: files that are there afterwards and were written by it.
        added: arguments for the small sample.
        check: anything else.
        fails: pattern of the error where it must fail on a machine like this one.
    """

    says: tuple[str, ...] = ()
    writes: tuple[str, ...] = ()
    added: tuple[str, ...] = ("--input-size", "64")
    check: Callable[[Ran], None] = lambda _: None
    fails: str = ""


def operators(ran: Ran, name: str) -> Counter[str]:
    return Counter(node.op_type for node in onnx.load(ran.folder / name).graph.node)


def is_static(ran: Ran) -> None:
    """A plain static network is left."""
    assert not {"Mul", "Sigmoid", "Resize"} & operators(ran, "ckpt.frozen.onnx").keys()


def is_half_the_file(ran: Ran) -> None:
    """It takes and returns float32."""
    half, full = (OrtSession(ran.folder / name, threads=1) for name in ("ckpt.half.onnx", "ckpt.onnx"))
    assert half._type == full._type
    sizes = [(ran.folder / name).stat().st_size for name in ("ckpt.half.onnx", "ckpt.onnx")]
    assert sizes[0] < 0.52 * sizes[1]


def keeps_the_parameters(ran: Ran) -> None:
    trained, stored = re.search(r"parameters ([\d,]+) trained → ([\d,]+) stored", ran.printed).groups()  # type: ignore[union-attr]
    assert int(stored.replace(",", "")) < 1.01 * int(trained.replace(",", ""))


def takes_pixels(ran: Ran) -> None:
    with OrtSession(ran.folder / "ckpt.pixels.onnx", threads=1) as session:
        assert session.run(np.zeros((2, 64, 64, 3), np.uint8)).shape == (2, 10)
    assert operators(ran, "ckpt.pixels.onnx")["TopK"] == 1


def is_gated(ran: Ran) -> None:
    """The exit code tells whether the limit is crossed; the run is saved either way."""
    rows = json.loads((ran.folder / "today.json").read_text())["rows"]
    (ratio,) = [row["ratio"]["value"] for row in rows if row["ratio"]]
    assert ran.code == int(ratio > 1.35)
    assert ("--fail-if 'ratio>1.35': ckpt.onnx has " in ran.printed) is (ratio > 1.35)


CLAIMS = {
    "fuse ckpt.pt": Claim(
        (r"written ckpt\.fused\.pt2 ", r"BatchNorms folded 30 ", r"6 children of 4 parent kernels, materialised"),
        ("ckpt.fused.pt2",),
    ),
    "export ckpt.pt --preprocess --postprocess topk:5 -o ckpt.pixels.onnx": Claim(
        (
            r"written ckpt\.pixels\.onnx ",
            r"RGB pixels, uint8 \[n, h, w, c\] → the 5 largest probabilities and their classes",
            *VERIFIED,
        ),
        ("ckpt.pixels.onnx",),
        check=takes_pixels,
    ),
    "export --onnx": Claim(
        (r"using (\S+)\.fused\.pt2, the newest fused graph here", r"written \S+\.onnx ", *VERIFIED), added=()
    ),
    "bench --cpu-threads 1": Claim(
        (
            r"using \S+\.onnx, the newest ONNX file here",
            r" resnet18_plain 64×64 .* 1 baseline ",
            r"cold starts in fresh processes in ms",
            r"Memory of a fresh process after its first inference in MB",
            r"batch 1, 1 thread, pinned to core \d+, .* interleaved",
            r"baseline plain backbone of the same widths",
        ),
        added=BRIEF,
    ),
    f"inspect {SAMPLE} --input-size 64": Claim(
        (
            r"architecture resnet18 ",
            r"layout layer3: FS-SF-SF ",
            r"parameters 552,048 ",
            r"MACs at 3×64×64 13,450,496 ",
            r"layer4\.conv2 layer4\.bns\.0, layer4\.bns\.1 128×128×3×3 yes ",
            r"child spread over filters over positions .* layer4\.bns\.2 0\.\d+ 0\.\d+ ",
        ),
        added=(),
    ),
    f"fuse {SAMPLE} --input-size 64": Claim((rf"written {RESNET}\.fused\.pt2 ",), (f"{RESNET}.fused.pt2",), added=()),
    "verify --inputs sample_checkpoints/digits": Claim(
        (rf"{RESNET}\.onnx against {RESNET}\.pth\.tar ", r"given 50 [^p]* 50/50 pass"),
        added=(),
    ),
    "fuse mine.pt --model mypackage.network:build": Claim(
        (r"written mine\.fused\.pt2 ", r"children of \d parent kernels"),
        ("mine.fused.pt2",),
        added=("--input-size", "32"),
    ),
    "export mine.fused.pt2 --onnx --model mypackage.network:build": Claim(VERIFIED, ("mine.onnx",), added=()),
    "fuse ckpt.pt --children share": Claim(
        (r"shared: each parent is stored once",), ("ckpt.fused.pt2",), check=keeps_the_parameters
    ),
    "export ckpt.pt --attention freeze --calibration images/ -o ckpt.frozen.onnx": Claim(
        (
            r"(layer\d\.se\.\d .*? frozen ){6}",  # how far attention moves in each layer
            r"NOT equivalent to the trained one: over 50 images the logits differ by up to \S+",
        ),
        ("ckpt.frozen.onnx",),
        check=is_static,
    ),
    "export ckpt.pt --weights fp16 -o ckpt.half.onnx": Claim(
        (r"weights \d+ tensors in half precision, changed by up to",), ("ckpt.half.onnx",), check=is_half_the_file
    ),
    "export ckpt.pt --precision int8 --calibration images/ --max-drop 0.5 -o ckpt.int8.onnx": Claim(
        (r"int8 for ONNX Runtime on a CPU", r"held out 10 images that calibration has not seen", r"SQNR \d+\.\d dB"),
        ("ckpt.int8.onnx",),
    ),
    "evaluate ckpt.int8.onnx --data images/ --against ckpt.onnx --fail-if 'drop>2'": Claim(
        (r"top-1 \d+\.\d+%", r"top-5 \d+\.\d+%", r"against ckpt\.onnx top-1 ", r"same top-1 \d+\.\d+%"), added=()
    ),
    "run ckpt.onnx photo.jpg": Claim(
        (r" ckpt\.onnx, 10 classes, on ONNX Runtime ", r" photo\.jpg class 7 \d+\.\d\d% class \d "), added=()
    ),
    "run ckpt.onnx images/ --top 1 --labels names.txt --time": Claim(
        (r" ms to read and decode \+ .* medians over 50 images", r" images/7/173\.png seven \d+\.\d\d% "), added=()
    ),
    "prepare ckpt.onnx": Claim(
        (r"written ckpt\.prepared\.onnx ", r"for ONNX Runtime \S+ on ", r"Against the portable file .* 5 0 .* pass "),
        ("ckpt.prepared.onnx",),
        added=(),
    ),
    "package ckpt.onnx --for triton": Claim(
        (
            r"written triton \(\d.* MB in 5 files\) for Triton Inference Server ",
            r"model ckpt, input: float32 \[batch, 3, 64, 64\] → logits: float32 \[batch, 10\]",
        ),
        ("triton",),
        added=(),
    ),
    "ship ckpt.pt --targets cpu,triton --to release --licence Apache-2.0": Claim(
        (
            r"written release \(\d.* MB in \d+ files\) manifest SHA-256 [0-9a-f]{64} ",
            r"licence Apache-2\.0 targets cpu, triton triton/ triton/ckpt/1/model\.onnx = ckpt\.onnx ",
            r"ckpt\.onnx ONNX Runtime \S+ \d+\.\d+ 8 \d+\.\d% ",
        ),
        ("release",),
    ),
    "verify release": Claim(
        (r"folder release ", r"bytes \d+ as shipped ", r"ckpt\.onnx ONNX Runtime \S+ .* pass "), added=()
    ),
    "export ckpt.pt --with-baseline": Claim(
        (r"written ckpt\.baseline\.onnx \(", *VERIFIED), ("ckpt.onnx", "ckpt.baseline.onnx")
    ),
    # The device's: tests/test_device.py runs them as well, where there is no PyTorch.
    "inspect ckpt.onnx": Claim(
        (r"checkpoint ckpt\.pt, SHA-256 [0-9a-f ]{64,65} ", r"takes input: float32 \[batch, 3, 64, 64\]"), added=()
    ),
    "verify ckpt.prepared.onnx --against ckpt.onnx": Claim((r"ckpt\.prepared\.onnx against ckpt\.onnx ",), added=()),
    "run ckpt.prepared.onnx photo.jpg": Claim((r" photo\.jpg class 7 \d+\.\d\d% ",), added=()),
    "evaluate ckpt.onnx --data images/": Claim((r"top-1 100\.00%",), added=()),
    "bench ckpt.onnx ckpt.prepared.onnx": Claim(
        (r" resnet18_plain 64×64 .* 1 baseline ", r"beside ckpt\.baseline\.onnx, the plain backbone"),
        added=(*BRIEF, "--no-cold-start"),
    ),
    "report ckpt.pt ckpt.onnx ckpt.int8.onnx --calibration images/ --data images/": Claim(
        (
            r"written report\.html ",
            r"sections Summary, Accuracy over latency, Who shares whose kernel, Attention, How alike layers are, Where "
            r"the time goes, Accuracy, Tables, Where everything comes from",
        ),
        ("report.html",),
    ),
    "export ckpt.pt --tensorrt-rtx --precision fp16": Claim(
        (r"precision fp16 ", r"\d+ parents are stored as \d+ modulated copies", r"layer3\.se\.0/Mul "),
        ("ckpt.tensorrt.onnx", "ckpt.rtx.engine", "ckpt.rtx.engine.json"),
    ),
    "export ckpt.pt --tensorrt": Claim(fails=r"TensorRT (is not installed|builds engines on the GPU)"),
    "bench ckpt.onnx --profile": Claim(
        (r"Where the time goes, .* channel .* attention pre-scale ", r" ckpt\.onnx: \S+ ms to resnet18_plain 64×64 = "),
        added=(*BRIEF, "--no-cold-start"),
    ),
    "bench ckpt.onnx --runtime onnxruntime --runtime openvino --baseline pytorch": Claim(
        (r" ckpt\.onnx, pytorch .* 1 baseline ", r" ckpt\.onnx, onnxruntime ", r" ckpt\.onnx, openvino "),
        added=(*BRIEF, "--no-cold-start"),
    ),
    "bench ckpt.onnx --fail-if 'ratio>1.35' --save today.json": Claim(
        (r"saved today\.json",), ("today.json",), (*BRIEF, "--no-cold-start"), is_gated
    ),
    "bench --compare yesterday.json today.json": Claim(
        (r"ratio to each run's own baseline", r" A yesterday\.json: ", r" B today\.json: "), added=()
    ),
    "list": Claim((r" resnet18 layout FS-FSF Table 3 9,073,484 9\.07 M ", r" resnet18 FS-SF-SF "), added=()),
    "inspect ckpt.pt --arch resnet18 --layout FS-SF-SF": Claim((r"layout layer4: FS-SF-SF ",)),
}
# Build dozens of networks or files: what they ask for is checked, not done.
NOT_RUN: dict[str, dict[str, object]] = {
    "bench --suite table1": {"bench_suite.name": "table1", "bench_suite.options.methods": ()},
    "bench --suite table1 --methods kw,odconv": {
        "bench_suite.name": "table1",
        "bench_suite.options.methods": ("kw", "odconv"),
    },
    "sweep ckpt.pt --calibration images/ --data images/ --max-drop 0.5 --minimize latency": {
        "search.request.root": Path("ckpt.sweep"),
        "search.request.data": Path("images"),
        "search.request.images.path": Path("images"),
        "search.request.limits.max_drop": 0.5,
        "search.request.minimize": "latency",
    },
}
NEEDS = {"report ckpt": "matplotlib", "--tensorrt-rtx": "tensorrt_rtx", "openvino": "openvino"}


def readme_commands() -> list[str]:
    """Of all blocks, in order, without the remarks behind them."""
    blocks = re.findall(r"```\w*\n(.*?)```", README, re.DOTALL)
    lines = [line.removeprefix("$ ") for block in blocks for line in block.splitlines()]
    found = [line.split(" #")[0].strip() for line in lines if line.startswith("kdna-deploy ")]
    return [line.removeprefix("kdna-deploy ") for line in found]


def in_one_line(text: str) -> str:
    return re.sub(r"[\s─-╿]+", " ", text) + " "


def run(line: str, folder: Path) -> Ran:
    times = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    printed, code, failed = io.StringIO(), 0, ""
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        try:
            code = invoke(*shlex.split(line), *CLAIMS[line].added)
        except KdnaError as error:
            code, failed = error.exit_code, str(error)
    written = [path.name for path in folder.iterdir() if times.get(path.name) != path.stat().st_mtime_ns]
    return Ran(in_one_line(printed.getvalue()), code, failed, tuple(written), folder)


def unkept(ran: Ran, claim: Claim) -> Iterator[str]:
    """What the README says of a command and is not so."""
    if ran.failed and not re.search(claim.fails or "$^", ran.failed):
        yield f"it fails: {ran.failed}"
        return
    if ran.code and not claim.fails and claim.check is not is_gated:
        yield f"its exit code is {ran.code}: {ran.printed}"
    yield from (f"{pattern} is not in: {ran.printed}" for pattern in claim.says if not re.search(pattern, ran.printed))
    yield from (f"{name} was not written" for name in claim.writes if name not in ran.written)
    try:
        claim.check(ran)
    except AssertionError as error:
        yield f"{claim.check.__name__}: {error}"


def make_checkpoints(folder: Path) -> None:
    """What the README supposes in a user's folder."""
    shutil.copy(sample_path(RESNET), folder / "ckpt.pt")
    (folder / "sample_checkpoints").symlink_to(SAMPLES)
    (folder / "images").symlink_to(SAMPLES / "digits")
    with Image.open(SAMPLES / "digits" / "7" / "173.png") as seven:
        seven.convert("RGB").save(folder / "photo.jpg", quality=95)
    (folder / "names.txt").write_text("zero one two three four five six seven eight nine".replace(" ", "\n"))
    (folder / "mypackage").mkdir()
    (folder / "mypackage" / "network.py").write_text("from tests.user_variant.network import build\n")
    torch.manual_seed(0)
    torch.save(build().state_dict(), folder / "mine.pt")


@pytest.fixture
def in_part(monkeypatch: pytest.MonkeyPatch) -> None:
    """What takes longest here is done in part, and as a whole elsewhere.

    Figures of a page are drawn for a screen, not for a phone as well (tests/reports/page), and of all architectures one
    is listed (tests/test_architectures.py).
    """
    draw, known = parts.svg, paper.known_networks
    monkeypatch.setattr(parts, "svg", lambda drawing, width: draw(drawing, width) if width == parts.WIDE else "")
    monkeypatch.setattr(paper, "known_networks", lambda: tuple(one for one in known() if one.said.arch == "resnet18"))


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.usefixtures("in_part")
def test_commands_print_and_write_what_the_readme_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_checkpoints(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    broken: list[str] = []
    for line in readme_commands():
        if line in NOT_RUN:
            received = handed(monkeypatch, *shlex.split(line))
            assert NOT_RUN[line].items() <= received.items(), line
        elif all(importlib.util.find_spec(name) for word, name in NEEDS.items() if word in line):
            if "yesterday.json" in line:
                shutil.copy("today.json", "yesterday.json")
            broken += [f"{line}: {text}" for text in unkept(run(line, tmp_path), CLAIMS[line])]
    assert not broken, "\n".join(broken)


def test_every_command_of_the_readme_has_a_claim_and_every_claim_a_command() -> None:
    assert set(readme_commands()) == {*CLAIMS, *NOT_RUN}


@pytest.mark.slow
def test_the_library_is_used_as_the_readme_shows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    make_checkpoints(tmp_path)
    monkeypatch.chdir(tmp_path)
    sized = code.replace('kd.load("ckpt.pt")', 'kd.load("ckpt.pt", input_size=64)')  # small, so that it takes seconds
    brief = sized.replace("cpu_threads=1", "cpu_threads=1, iterations=3, min_time=0, cold_start=False")
    assert brief != sized != code
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(brief, "README.md", "exec"), {})
    text = in_one_line(printed.getvalue())
    assert all(one in text for one in ("Evaluation", "top-1 100", "Latency in ms", "ckpt.int8.onnx", "ckpt.onnx"))
    assert sorted(path.name for path in tmp_path.glob("*.onnx")) == [
        "ckpt.int8.onnx",
        "ckpt.onnx",
        "ckpt.prepared.onnx",
    ]


def test_the_architectures_are_those_that_there_are() -> None:
    (listed,) = re.findall(r"\*\*Architectures\*\* (.*?), with the state-dict names", README, re.DOTALL)
    named = set(re.findall(r"`(\w+)`", listed))
    of_other_systems = {name for name, one in ARCHITECTURES.items() if not one.sharing and not name.endswith("_plain")}
    assert named | {f"{name}_plain" for name in named} == set(ARCHITECTURES) - of_other_systems


def test_the_table_of_commands_has_them_all_in_order() -> None:
    rows = re.findall(r"^\| `(\w+) ", README, re.MULTILINE)
    assert list(dict.fromkeys(rows)) == [*COMMANDS]


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_reference_names_every_option(cli_here: Cli, command: str) -> None:
    options = set(re.findall(r"--[a-z][a-z-]+", cli_here(command, "--help").stdout)) - {"--help", "--json", "--output"}
    section = REFERENCE.split(f"## `{command} ")[1].split("\n## ")[0]
    named = set(re.findall(r"--[a-z][a-z-]+", section))
    assert options <= named, f"docs/cli.md misses {options - named}"
