"""The next step: a command line that there is, with the file that was just written."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

import pytest

from kdna_deploy.cli.next_step import next_step
from tests.cli.handed import commands, parsed
from tests.conftest import Cli
from tests.samples import RESNET, sample_path


def after(line: str) -> str | None:
    command, *words = shlex.split(line)
    return next_step(command, parsed(command, words))


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the newest files are named new."""
    for when, name in enumerate(("old.onnx", "new.onnx", "old.fused.pt2", "new.fused.pt2")):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (when, when))
    (tmp_path / "net.py").touch()
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("done", "then"),
    [
        ("inspect ckpt.pt", "fuse ckpt.pt"),
        ("inspect 'my net.pt' --ema --input-size 64", "fuse 'my net.pt' --input-size 64 --ema"),
        (
            "inspect ckpt.pt --arch resnet18 --layout FS-FSF --no-spatial --channel --scale 0.25",
            "fuse ckpt.pt --arch resnet18 --layout FS-FSF --scale 0.25 --channel --no-spatial",
        ),
        ("inspect ckpt.pt --temperature 30 --outputs C3", "fuse ckpt.pt --outputs C3 --temperature 30.0"),
        ("inspect mine.pt --model net.py:build", "fuse mine.pt --model net.py:build"),
        ("inspect a.pt --base 'my net.pt' --multiplier 2", "fuse a.pt --multiplier 2.0 --base 'my net.pt'"),
        ("fuse runs/ckpt.pth.tar", "export ckpt.fused.pt2"),
        ("fuse ckpt.pt -o out/it.fused.pt2", "export out/it.fused.pt2"),
        ("fuse mine.pt --model net.py:build", "export mine.fused.pt2 --model net.py:build"),
        ("export ckpt.pt", "bench ckpt.onnx"),
        ("export", "bench new.onnx"),
        ("export net.fused.pt2 --model net.py:build", "bench net.onnx --model net.py:build"),
        ("export ckpt.pt --precision fp16", "bench ckpt.onnx --gpu"),
        ("export ckpt.pt --prepare -o out/net.onnx", "bench out/net.onnx out/net.prepared.onnx"),
        ("prepare out/net.onnx", "bench out/net.onnx net.prepared.onnx"),
        ("prepare net.onnx -o fast.onnx", "bench net.onnx fast.onnx"),
        (
            "export ckpt.pt --precision int8 --calibration images -o net.int8.onnx",
            "evaluate net.int8.onnx --data DIR --against ckpt.pt",
        ),
        (
            "export ckpt.pt --ema --temperature 30 --input-size 64 --precision int8 --calibration images",
            "evaluate ckpt.onnx --data DIR --against ckpt.pt --temperature 30.0 --ema",
        ),
        (
            "export net.fused.pt2 --attention freeze --calibration images",
            "evaluate net.onnx --data DIR --against net.fused.pt2",
        ),
        ("run ckpt.pt a.png --ema", "evaluate ckpt.pt --data DIR --ema"),
        (
            "export ckpt.pt --attention freeze --calibration images",
            "evaluate ckpt.onnx --data DIR --against ckpt.pt",
        ),
        ("export ckpt.pt --tensorrt-rtx", "verify ckpt.rtx.engine"),
        ("export ckpt.pt --openvino", "bench ckpt.xml"),
        ("export ckpt.pt --ncnn", "bench ckpt.ncnn.param"),
        ("export ckpt.pt --mnn -o a/b.mnn", "bench a/b.mnn"),
        ("export ckpt.pt --litert", "bench ckpt.tflite"),
        ("export ckpt.pt --executorch", "bench ckpt.pte"),
        ("export net.onnx --tensorrt -o a/b.engine", "verify a/b.engine"),
        ("verify", "bench new.onnx"),
        ("verify net.onnx --against ckpt.pt", "bench net.onnx"),
        ("verify net.rtx.engine", "bench net.rtx.engine --gpu"),
        ("run net.onnx a.png --top 1", "evaluate net.onnx --data DIR"),
        ("evaluate net.onnx --data val", "bench net.onnx"),
        ("bench", "bench new.onnx --save today.json"),
        ("bench a.onnx b.onnx --gpu", "bench a.onnx b.onnx --gpu --save today.json"),
        ("bench a.onnx --save a.csv --save 'my run.json'", "report a.onnx 'my run.json' --no-bench"),
        ("report ckpt.pt", None),
        ("list", None),
        ("bench a.onnx --save a.md", None),
        (
            "sweep ckpt.pt --data val --calibration images --input-size 64 --max-drop 0.5",
            "sweep ckpt.pt --data val --calibration images --max-drop 0.5 --minimize latency --input-size 64 "
            "--save sweep.json",
        ),
        (  # whatever a figure depends on is said again, or it would be measured again
            "sweep ckpt.pt --data val --ground-truth v.csv --synsets s.txt --mean 0.5 --std 0.5 --resize 72 --crop 64 "
            "--color BGR --max-size 1MB --minimize size --to d --workers 2 --cpu-threads 2 --iterations 9 --min-time 1 "
            "--limit 5 --base b.pt --ema",
            "sweep ckpt.pt --data val --ground-truth v.csv --synsets s.txt --mean 0.5 --std 0.5 --resize 72 --crop 64 "
            "--color BGR --max-size 1MB --max-drop 1 --minimize size --to d --workers 2 --cpu-threads 2 --iterations 9 "
            "--min-time 1.0 --limit 5.0 --base b.pt --ema --save sweep.json",
        ),
        ("sweep ckpt.pt --data val --save a.json", "report a.json"),
        ("ship runs/ckpt.pth.tar --targets cpu", "verify ckpt.release"),
        ("ship ckpt.pt --to 'my release'", "verify 'my release'"),
        ("verify .", None),
        ("bench --suite table1", None),
        ("bench --compare a.json b.json", None),
        ("export ckpt.pt --check net.onnx", None),
        ("fuse ckpt.pt --json", None),
    ],
)
def test_the_next_step_follows_and_is_a_command_line(done: str, then: str | None) -> None:
    said = after(done)
    assert said == (then and f"kdna-deploy {then}")
    if said:
        _, command, *words = shlex.split(said)
        commands()[command].make_context(command, words)


@pytest.mark.parametrize(
    ("done", "readme"),
    [
        ("package net.onnx --for triton", "triton/README.md"),
        ("package net.onnx --for onnxruntime-cpp --to 'my net'", "'my net/README.md'"),
    ],
)
def test_after_a_package_comes_its_readme(done: str, readme: str) -> None:
    assert after(done) == f"read {readme}, which says how to start it"
    assert after(f"{done} --json") is None


def test_a_folder_that_was_emptied_meanwhile_is_no_failure(tmp_path: Path) -> None:
    for path in tmp_path.iterdir():
        path.unlink()
    assert after("verify") is None


@pytest.mark.slow
def test_it_is_the_last_line_on_stderr_and_not_beside_json(cli_here: Cli) -> None:
    ckpt, size = sample_path(RESNET), ("--input-size", "64")
    table = cli_here("inspect", ckpt, *size)
    assert table.stderr.splitlines()[-1] == f"next: kdna-deploy fuse {shlex.quote(str(ckpt))} --input-size 64"
    assert "next:" not in cli_here("inspect", ckpt, *size, "--json").stderr
    assert "next:" not in cli_here("inspect", "missing.pt").stderr
