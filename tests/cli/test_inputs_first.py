"""Inputs and values are looked at before anything heavy is imported, and what is said of them is true."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from kdna_deploy.cli.app import run
from kdna_deploy.verbs.engine_words import EngineWords
from tests.conftest import REPOSITORY

HEAVY = (
    "torch",
    "onnx",
    "onnxruntime",
    "onnxsim",
    "onnxscript",
    "numpy",
    "PIL",
    "tensorrt",
    "tensorrt_rtx",
    "openvino",
    "ncnn",
    "MNN",
    "ai_edge_litert",
    "executorch",
)
INT8 = ("--precision", "int8", "--calibration")
FREEZE = ("--attention", "freeze", "--calibration")

# Arguments and the exit code: every place where a path may be named, and every number.
WRONG_NAMES = [
    (["inspect", "gone.pt"], "There is no file 'gone.pt'."),
    (["fuse", "gone.pt"], "There is no file 'gone.pt'."),
    (["fuse", "net.pt", *FREEZE, "gone"], "There is no file or folder 'gone'."),
    (["export", "gone.fused.pt2"], "There is no file 'gone.fused.pt2'."),
    (["export", "gone.onnx", "--tensorrt-rtx"], "There is no file 'gone.onnx'."),
    (["export", "net.pt2", "--source", "gone.pt"], "There is no file 'gone.pt'."),
    (["export", "net.pt", *INT8, "gone"], "There is no file or folder 'gone'."),
    (["export", "net.pt", *INT8, ".", "--held-out", "gone"], "There is no file or folder 'gone'."),
    (["prepare", "gone.onnx"], "There is no file 'gone.onnx'."),
    (["verify", "gone.onnx"], "There is no file 'gone.onnx'."),
    (["verify", "gone.xml"], "There is no file 'gone.xml'."),
    (["verify", "net.pt", "--against", "gone.pt"], "There is no file 'gone.pt'."),
    (["verify", "net.pt", "--inputs", "gone"], "There is no file or folder 'gone'."),
    (["run", "gone.onnx", "a.png"], "There is no file 'gone.onnx'."),
    (["run", "net.onnx", "a.png", "gone.png"], "There is no file or folder 'gone.png'."),
    (["run", "net.onnx", "a.png", "--labels", "gone.txt"], "There is no file 'gone.txt'."),
    (["run", "net.onnx", "a.npy"], "'a.npy' is a NumPy file, and run takes an image."),
    (["evaluate", "gone.onnx", "--data", "."], "There is no file 'gone.onnx'."),
    (["evaluate", "net.pt", "--data", "gone"], "There is no folder 'gone'."),
    (["evaluate", "net.pt", "--data", ".", "--against", "gone.pt"], "There is no file 'gone.pt'."),
    (["sweep", "gone.pt", "--data", "."], "There is no file 'gone.pt'."),
    (["sweep", "net.pt", "--data", "gone"], "There is no folder 'gone'."),
    (["sweep", "net.pt", "--data", ".", "--calibration", "gone"], "There is no file or folder 'gone'."),
    (["sweep", "net.onnx", "--data", "."], "'net.onnx' is an ONNX file, and sweep takes a checkpoint."),
    (["ship", "gone.pt"], "There is no file 'gone.pt'."),
    (["ship", "net.onnx"], "'net.onnx' is an ONNX file, and ship takes a checkpoint."),
    (["ship", "net.pt", "--labels", "gone.txt"], "There is no file 'gone.txt'."),
    (["ship", "net.pt", "--licence", "gone/LICENSE"], "There is no file 'gone/LICENSE'."),
    (["ship", "net.pt", "--licence", "./LICENSE"], "There is no file 'LICENSE'."),
    (["ship", "net.pt", "--licence", "gone.TXT"], "There is no file 'gone.TXT'."),
    (["ship", "net.pt", "--licence", "gone.md"], "There is no file 'gone.md'."),
    (["ship", "net.pt", "--licence", "a.png"], "'a.png' holds no licence: it is no text in UTF-8."),
    (["ship", "net.pt", "--targets", "cpu-int8", "--calibration", "gone"], "There is no file or folder 'gone'."),
    (["verify", "folder"], "There is no manifest.json in 'folder'; give a folder that kdna-deploy ship wrote"),
    (["bench", "gone.onnx"], "There is no file 'gone.onnx'."),
    (["bench", "net.pt", "gone.onnx"], "There is no file 'gone.onnx'."),
    (["bench", "net.pt", "--baseline", "gone.onnx"], "There is no file 'gone.onnx'."),
    (["bench", "net.pt", "--baseline", "gone.json"], "There is no file 'gone.json'."),
    (["bench", "--compare", "gone.json", "gone.json"], "There is no file 'gone.json'."),
    (["package", "gone.onnx", "--for", "triton"], "There is no file 'gone.onnx'."),
    (["report", "gone.pt"], "There is no file 'gone.pt'."),
    (["report", "gone.json"], "There is no file 'gone.json'."),
    (["report", "net.pt", "--plain", "gone.pt", "--calibration", "."], "There is no file 'gone.pt'."),
    (["report", "net.pt", "--calibration", "gone"], "There is no file or folder 'gone'."),
    (["report", "net.pt", "--data", "gone"], "There is no folder 'gone'."),
    (["report", "folder"], "'folder' is a folder; report takes an ONNX file"),
    (["report", "a.png"], "'a.png' is an image, and report takes an ONNX file"),
    (["export", "net.pt", "--check", "gone.onnx"], "There is no file 'gone.onnx'."),
    (["export", "gone.pt", "--check", "net.onnx"], "There is no file 'gone.pt'."),
    # Of another kind.
    (["prepare", "net.pt2"], "'net.pt2' is a fused graph, and prepare takes an ONNX file."),
    (
        ["package", "net.pt", "--for", "triton"],
        "'net.pt' is a checkpoint, and a package for Triton Inference Server takes an ONNX file or an engine.",
    ),
    (["export", "net.pt", "--check", "net.pt2"], "'net.pt2' is a fused graph, and --check takes an ONNX file."),
    (
        ["inspect", "a.npy"],
        "'a.npy' is a NumPy file, and inspect takes an ONNX file, an OpenVINO file, an ncnn file, an MNN file, a "
        "LiteRT file, an ExecuTorch file, a fused graph, an engine or a checkpoint.",
    ),
    (["fuse", "net.onnx"], "'net.onnx' is an ONNX file, and fuse takes a checkpoint."),
    (["fuse", "a.png"], "'a.png' is an image, and fuse takes a checkpoint."),
    (["fuse", "folder"], "'folder' is a folder; fuse takes a checkpoint."),
    (["fuse", "a.npy"], "'a.npy' is a NumPy file, and fuse takes a checkpoint."),
    (["export", "net.pt2", "--source", "net.onnx"], "'net.onnx' is an ONNX file, and --source takes a checkpoint."),
    (
        ["export", "run.json"],
        "'run.json' is a JSON file, and export takes a fused graph, a checkpoint or an ONNX file.",
    ),
    (["export", "net.pt", *INT8, "a.png"], "takes a NumPy file; give the folder that it lies in."),
    (
        ["verify", "a.npy"],
        "'a.npy' is a NumPy file, and verify takes an ONNX file, an OpenVINO file, an ncnn file, an MNN file, a LiteRT",
    ),
    (["verify", "net.pt", "--inputs", "net.onnx"], "'net.onnx' is an ONNX file, and --inputs takes a NumPy file."),
    (["evaluate", "net.pt", "--data", "a.png"], "'a.png' is a file; --data takes a folder"),
    (["bench", "run.json"], "'run.json' is a JSON file, and bench takes an ONNX file"),
    (["bench", "--compare", "net.onnx", "run.json"], "'net.onnx' is an ONNX file, and --compare takes a JSON file."),
]
WRONG_VALUES = [
    (["sweep", "net.pt", "--data", ".", "--max-size", "10"], "--max-size '10' has no unit; write it as 10MB."),
    (["sweep", "net.pt", "--data", ".", "--max-latency", "fast"], "--max-latency 'fast' is no limit; write it as 5ms."),
    (["sweep", "net.pt", "--data", ".", "--max-memory", "0MB"], "--max-memory '0MB' is no limit above 0"),
    (["sweep", "net.pt", "--data", ".", "--max-drop", "nan"], "--max-drop 'nan' is no limit; write it as 0.5."),
    (["sweep", "net.pt", "--data", ".", "--limit", "nan"], "--limit nan is not a number above 0"),
    (["sweep", "net.pt", "--data", ".", "--to", "net.pt"], "name it with --to"),
    (["sweep", "net.pt", "--data", ".", "--save", "all.csv"], "--save writes JSON; name it all.json."),
    (["ship", "net.pt", "--targets", "tpu"], "--targets is 'tpu'; choose 'cpu', "),
    (["ship", "net.pt", "--targets", ","], "--targets names none; choose some of cpu, "),
    (["ship", "net.pt", "--targets", "cpu-int8"], "name them with --calibration."),
    (["ship", "net.pt", "--calibration", "."], "go with a target in int8: cpu-int8, openvino-int8, litert-int8."),
    (["ship", "net.pt", "--to", "folder"], "The folder 'folder' holds something already; name another with --to"),
    (["ship", "net.pt", "--to", "gone/release"], "There is no folder 'gone' to write to"),
    (["ship", "net.pt", "--licence", ""], "--licence '' is neither a file nor the name of a licence"),
    (["verify", "folder", "--rtol", "1"], "is a folder, and has with it what it is proved by; give it alone"),
    (["sweep", "net.pt", "--data", "."], "'net.sweep' lies within the images in '.'; choose another folder with --to"),
    (["sweep", "net.pt", "--data", "folder", "--to", "folder/deep/down"], "lies within the images in 'folder'"),
    (
        ["sweep", "net.pt", "--data", "folder", "--synsets", "run.json", "--save", "run.json"],
        "The output 'run.json' is the input itself",
    ),
    (["verify", "net.pt", "--rtol", "nan"], "--rtol nan is not a number from 0"),
    (["verify", "net.pt", "--rtol", "inf"], "--rtol inf is not a number from 0"),
    (["verify", "net.pt", "--atol", "-1"], "--atol -1 is not a number from 0"),
    (["verify", "net.pt", "--atol", "nan"], "--atol nan is not a number from 0"),
    (["export", "net.pt", "--max-bloat", "nan"], "--max-bloat nan is not a number above 0"),
    (["export", "net.pt", "--max-bloat", "0"], "--max-bloat 0 is not a number above 0"),
    (["export", "net.pt", *INT8, ".", "--max-drop", "nan"], "--max-drop nan is not a number from 0"),
    (["fuse", "net.pt", *FREEZE, ".", "--freeze-below", "-1"], "--freeze-below -1 is not a number from 0"),
    (["fuse", "net.pt", *FREEZE, ".", "--freeze-below", "nan"], "--freeze-below nan is not a number from 0"),
    (["evaluate", "net.pt", "--data", ".", "--std", "0,1,1"], "--std 0 is not above 0, to 1"),
    (["evaluate", "net.pt", "--data", ".", "--std", "1,-1,1"], "--std -1 is not above 0, to 1"),
    (["evaluate", "net.pt", "--data", ".", "--std", "58.4,57.1,57.4"], "divide it by 255"),
    (["evaluate", "net.pt", "--data", ".", "--mean", "nan,0,0"], "--mean nan is not from 0 to 1"),
    (["evaluate", "net.pt", "--data", ".", "--mean", "inf,0,0"], "--mean inf is not from 0 to 1"),
    (["evaluate", "net.pt", "--data", ".", "--mean", "0.5,0.5"], "--mean has 2 and --std 1 values for images in RGB"),
    (["evaluate", "net.pt", "--data", ".", "--mean", ""], "--mean '' is not a list of numbers"),
    (
        ["evaluate", "net.pt", "--data", ".", "--std", "1,1,1", "--color", "L"],
        "--std 3 values for images in L",
    ),
    (["evaluate", "net.pt", "--data", ".", "--crop", ""], "'' is not an image size"),
    (["fuse", "net.pt", *FREEZE, ".", "--std", "0,0,0"], "--std 0 is not above 0, to 1"),
    (["export", "net.pt", *INT8, ".", "--crop", "99999"], "'99999' is not an image size"),
    (
        ["fuse", "net.pt", "--mean", "0.5"],
        "--mean says how image files become input, and none are read; name a folder of them with --calibration, or say "
        "it to kdna-deploy run and kdna-deploy evaluate.",
    ),
    (["fuse", "net.pt", *FREEZE, "a.npy", "--std", "0.5"], "--std says how image files become input, and none"),
    (["fuse", "net.pt", "--attention", "drop", "--yes-drop", "--crop", "20"], "--crop says how image files"),
    (["export", "net.pt", "--mean", "0.5", "--color", "BGR"], "--mean and --color say how image files become input"),
    (["export", "net.pt", "--resize", "72"], "none are read; name a folder of them with --calibration, let the file"),
    (["export", "net.pt", *INT8, "a.npy", "--std", "0.5"], "--std says how image files become input, and none"),
    (["export", "net.pt", "--weights", "int8", "--crop", "20"], "--crop says how image files become input, and none"),
    (["report", "net.pt", "--std", "0.5", "--crop", "20"], "--std and --crop say how image files become input, and"),
    (
        ["ship", "net.pt", "--targets", "cpu-int8", "--calibration", "a.npy", "--mean", "0.5"],
        "--mean says how image files become input, and none are read",
    ),
    (["fuse", "net.pt", "--input-size", "9" * 5000], "is not an image size"),
    (["inspect", "net.pt", "--input-size", ""], "'' is not an image size"),
    (["verify", "net.pt", "--input-size", ""], "'' is not an image size"),
    (["export", "net.pt", "--batch", "9" * 5000], "is not a batch size"),
    (["export", "net.pt", "--batch", "65537"], "write 'dynamic' or a number from 1 to 65536"),
    (["bench", "net.pt", "--min-time", "nan"], "--min-time nan is not a number from 0"),
    (["bench", "net.pt", "--min-time", "inf"], "--min-time inf is not a number from 0"),
    (["bench", "net.pt", "--fail-if", ""], "--fail-if '' is not METRIC OPERATOR NUMBER"),
    (["bench", "net.pt", "--fail-if", "ratio>" + "9" * 500], "is not METRIC OPERATOR NUMBER"),
    (["bench", "net.pt", "--baseline", ""], "--baseline is empty"),
    (["bench", "net.pt", "--save", "run.txt"], "--save writes .json, .csv, .md"),
    (["fuse", "net.pt", "--arch", ""], "--arch is empty"),
    (["export", "net.pt", "--model", " "], "--model is empty"),
    (["fuse", "net.pt", "-o", ""], "-o is empty; name a file or a folder, or leave the option out."),
    (["export", "net.pt", "--output="], "-o is empty; name a file"),
    (["evaluate", "net.onnx", "--data", ""], "--data is empty; name a file"),
    (["bench", "net.pt", "--save", "a.json", "--save", ""], "--save is empty; name a file"),
    (["verify", ""], "MODEL is empty; name a file."),
    (["inspect", ""], "MODEL is empty; name a file."),
    (["fuse", ""], "CKPT is empty; name a file."),
    (["run", "net.onnx", "a.png", ""], "IMAGES is empty; name a file."),
    (["package", "net.onnx", "", "--for", "triton"], "FILES is empty; name a file."),
    (["fuse", "net.pt", "-o", "-"], "Outputs are files, and '-' is none"),
    (["fuse", "net.pt", "-o", "gone/net.pt2"], "There is no folder 'gone' to write to"),
    (["fuse", "net.pt", "-o", "x" * 300], "cannot be written: File name too long"),
    (["fuse", "net.pt", *FREEZE, "a.npy", "-o", "a.npy"], "The output 'a.npy' is the input itself"),
    (
        ["export", "net.pt", "--source", "other.pt"],
        "--source names the checkpoint of a fused graph",
    ),
    (["export", "net.pt", "--check", "net.onnx", "--source", "other.pt"], "and 'net.pt' is none; leave it out."),
    (["export", "net.pt2", "--source", "other.pt", "-o", "other.pt"], "The output 'other.pt' is the input itself"),
    (["export", "net.pt", *INT8, "a.npy", "-o", "a.npy"], "The output 'a.npy' is the input itself"),
    (["export", "net.pt", *INT8, "folder", "-o", "folder/b.png"], "is an image of the input 'folder'"),
    (["export", "net.pt", *INT8, ".", "--held-out", "a.npy", "-o", "a.npy"], "The output 'a.npy' is the input itself"),
    (["export", "net.pt", "-o", "z.mnn"], "'z.mnn' must end in .onnx, by which ONNX files are told; give another -o."),
    (["export", "net.pt", "--prepare", "-o", "z"], "'z' must end in .onnx"),
    (["export", "net.pt", "--external-data", "--with-baseline", "-o", ".onnx"], "'.onnx' must end in .onnx"),
    (["export", "net.pt", "--tensorrt-rtx", "-o", "z.plan"], "'z.plan' must end in .engine, by which engines are told"),
    (["fuse", "net.pt", "-o", "z.onnx"], "'z.onnx' must end in .pt2, by which fused graphs are told; give another -o."),
    (["prepare", "net.onnx", "-o", "z.txt"], "'z.txt' must end in .onnx, by which ONNX files are told"),
    (["bench", "net.pt", "--baseline", "run.json", "--save", "run.json"], "The output 'run.json' is the input itself"),
    (["verify", "net.pt", "--inputs", "a.npy", "--save-worst", "a.npy"], "The output 'a.npy' is the input itself"),
    (["verify", "net.pt", "--save-worst", "a.png"], "must end in .npy"),
    (["bench", "net.pt", "--save", "gone/run.json"], "make it, or choose another with --save."),
    (["verify", "net.pt", "--save-worst", "gone/a.npy"], "make it, or choose another with --save-worst."),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of every kind."""
    made = tmp_path_factory.mktemp("kinds")
    for name in ("net.pt", "other.pt"):
        torch.save({"state_dict": {"w": torch.zeros(1)}}, made / name)
    (made / "net.onnx").write_bytes(b"\x08\x08\x12\x07pytorch")
    fused = torch.export.export(torch.nn.ReLU(), (torch.zeros(1),))
    torch.export.save(fused, made / "net.pt2")
    np.save(made / "a.npy", np.zeros(1))
    (made / "run.json").write_text('{"kind": "bench"}')
    (made / "folder").mkdir()
    for name in ("a.png", "folder/b.png"):
        Image.new("RGB", (4, 4)).save(made / name)
    return made


@pytest.mark.parametrize(
    ("arguments", "said", "code"),
    [(*case, 3) for case in WRONG_NAMES] + [(*case, 2) for case in WRONG_VALUES],
    ids=lambda value: " ".join(value)[:60] if isinstance(value, list) else "",
)
def test_what_is_wrong_is_said_in_one_true_sentence(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    said: str,
    code: int,
) -> None:
    monkeypatch.chdir(folder)
    before = sorted(folder.rglob("*"))
    assert run(arguments) == code
    told = capsys.readouterr()
    assert said in told.err
    assert told.out == "" and told.err.startswith("error: ") and told.err.count("\n") == 1
    assert sorted(folder.rglob("*")) == before


@pytest.mark.slow
def test_nothing_heavy_is_imported_for_any_of_that(folder: Path) -> None:
    """All in one process, so that what any of them imports is seen."""
    script = (
        "import json, sys\n"
        "from kdna_deploy.cli.app import run\n"
        "for arguments, code in json.load(sys.stdin):\n"
        "    assert run(arguments) == code, arguments\n"
        f"    heavy = set(sys.modules) & set({HEAVY!r})\n"
        "    assert not heavy, (arguments, heavy)\n"
    )
    cases = [(arguments, 3) for arguments, _ in WRONG_NAMES] + [(arguments, 2) for arguments, _ in WRONG_VALUES]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, cwd=folder, input=json.dumps(cases), capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes")
@pytest.mark.parametrize("option", ["CKPT", "--against", "--inputs", "--calibration", "--data", "-o", "--save"])
def test_a_pipe_never_hangs(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], option: str
) -> None:
    monkeypatch.chdir(tmp_path)
    os.mkfifo("pipe.json")
    net = str(folder / "net.pt")
    arguments = {
        "CKPT": ["inspect", "pipe.json"],
        "--against": ["verify", net, "--against", "pipe.json"],
        "--inputs": ["verify", net, "--inputs", "pipe.json"],
        "--calibration": ["export", net, *INT8, "pipe.json"],
        "--data": ["evaluate", net, "--data", "pipe.json"],
        "-o": ["fuse", net, "-o", "pipe.json"],
        "--save": ["bench", net, "--save", "pipe.json"],
    }[option]
    assert run(arguments) in (2, 3)
    assert "is a named pipe" in (told := capsys.readouterr().err) or "is a device, which would be replaced" in told


def test_what_the_command_line_knows_by_heart_is_what_the_library_says() -> None:
    """It must not import the library to know it."""
    from kdna_deploy.runtimes.nvidia.engine_record import record_path
    from kdna_deploy.targets.tensorrt.export import layers_path

    engine = Path("net.rtx.engine")
    choice = EngineWords(tensorrt=False, rtx=True, tf32=True, capabilities=(), layers=True)
    assert choice.files(engine) == (engine, record_path(engine), layers_path(engine))
    assert choice.files(None) == ()
