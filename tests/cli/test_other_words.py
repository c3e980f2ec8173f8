"""Words of other tools: each means what the table says, or ends in one sentence that names what there is."""

from __future__ import annotations

import re
import shlex
from typing import Any

import pytest

from kdna_deploy.cli.other_words import WORDS, command_meant, understood
from kdna_deploy.errors import UsageError
from tests.cli.handed import commands
from tests.cli.test_contract import COMMANDS
from tests.conftest import REPOSITORY, Cli

PAIRS = [(command, name, word) for word in WORDS for command in word.commands for name in word.names]


def parsed(line: str) -> dict[str, Any]:
    """What a command makes of its options, without running it."""
    command, *words = shlex.split(line)
    return commands()[command].make_context(command, words).params


def own(command: str) -> set[str]:
    return {name for one in commands()[command].params for name in (*one.opts, *one.secondary_opts)}


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("export ckpt.pt --fp16", "export ckpt.pt --precision fp16"),
        ("export ckpt.pt --half", "export ckpt.pt --precision fp16"),
        ("export ckpt.pt --int8 --data-dir x", None),
        ("export ckpt.pt --int8", "export ckpt.pt --precision int8"),
        ("export ckpt.pt --imgsz 640", "export ckpt.pt --input-size 640"),
        ("export ckpt.pt --img-size=640x480", "export ckpt.pt --input-size 640x480"),
        ("export ckpt.pt --image_size 640", "export ckpt.pt --input-size 640"),
        ("export ckpt.pt --input_size 640", "export ckpt.pt --input-size 640"),
        ("export ckpt.pt --batch-size 8", "export ckpt.pt --batch 8"),
        ("export ckpt.pt --dynamic-batch", "export ckpt.pt --batch dynamic"),
        ("export ckpt.pt --opset-version 20", "export ckpt.pt --opset 20"),
        ("export ckpt.pt --format onnx", "export ckpt.pt --onnx"),
        ("export ckpt.pt --format=engine", "export ckpt.pt --tensorrt"),
        ("export ckpt.pt --format openvino", "export ckpt.pt --openvino"),
        ("export ckpt.pt --format ncnn", "export ckpt.pt --ncnn"),
        ("export ckpt.pt --format mnn", "export ckpt.pt --mnn"),
        ("export ckpt.pt --format tflite", "export ckpt.pt --litert"),
        ("export ckpt.pt --format executorch", "export ckpt.pt --executorch"),
        ("export ckpt.pt --format TensorRT-RTX", "export ckpt.pt --tensorrt-rtx"),
        ("export ckpt.pt --out net.onnx", "export ckpt.pt -o net.onnx"),
        ("export --weights ckpt.pt", "export ckpt.pt"),
        ("export --weights=runs/best", "export runs/best"),
        ("export ckpt.pt --weights fp16", "export ckpt.pt --weights fp16"),
        ("export ckpt.pt --simplify", "export ckpt.pt"),
        ("export ckpt.pt --preprocess", "export ckpt.pt --preprocess nhwc"),
        ("export --preprocess ckpt.pt", "export ckpt.pt --preprocess nhwc"),
        ("export ckpt.pt --preprocess --imgsz 64", "export ckpt.pt --preprocess nhwc --input-size 64"),
        ("export ckpt.pt --preprocess nchw --imgsz 64", "export ckpt.pt --preprocess nchw --input-size 64"),
        ("export ckpt.pt --preprocess=nchw", "export ckpt.pt --preprocess nchw"),
        ("fuse --weights ckpt.pt --use-ema", "fuse ckpt.pt --ema"),
        ("inspect --ckpt ckpt", "inspect ckpt"),
        ("verify a.onnx --ref b.onnx", "verify a.onnx --against b.onnx"),
        ("evaluate a.onnx --val-dir val --batch 8", "evaluate a.onnx --data val --batch-size 8"),
        ("run --weights a.onnx --source a.png --topk 3", "run a.onnx a.png --top 3"),
        ("run --source a.png --weights a.onnx b.png", "run a.onnx b.png a.png"),
        ("run --source=a.png -- a.onnx", "run a.onnx a.png"),
        ("run a.onnx a.png --class-names b.txt", "run a.onnx a.png --labels b.txt"),
        ("bench a.onnx --device cpu --threads 4", "bench a.onnx --cpu-threads 4"),
        ("bench a.onnx --device cuda:0 --half", "bench a.onnx --gpu --precision fp16"),
        ("bench a.onnx --tf32 --fp32", "bench a.onnx --precision tf32 --precision fp32"),
        (
            "sweep --ckpt ckpt.pt --val val --imgsz 64 --threads 2",
            "sweep ckpt.pt --data val --input-size 64 --cpu-threads 2",
        ),
        (
            "ship --ckpt ckpt.pt --license MIT --target cpu --out here",
            "ship ckpt.pt --licence MIT --targets cpu --to here",
        ),
        ("package a.onnx --server triton -o models", "package a.onnx --for triton --to models"),
        ("evaluate a.onnx --data val --num_workers 4", "evaluate a.onnx --data val --workers 4"),
        (
            "report --weights net.pt --val val --imgsz 64 --out a.html",
            "report net.pt --data val --input-size 64 -o a.html",
        ),
        ("bench --save a.json -- --imgsz", "bench --save a.json -- --imgsz"),
    ],
)
def test_a_word_is_understood_as_the_option_that_means_the_same(said: str, meant: str | None) -> None:
    if meant is None:
        with pytest.raises(Exception, match="data-dir"):
            parsed(said)
    else:
        assert parsed(said) == parsed(meant)


@pytest.mark.parametrize(
    ("said", "named"),
    [
        ("export --dynamic", "--batch dynamic"),
        ("sweep --int8", "in every precision"),
        ("ship --int8", "--targets cpu,cpu-int8"),
        ("package --force", "never replaced"),
        ("verify --num-workers 4", "--workers"),
        ("export --device cuda", "bench --gpu"),
        ("bench --device 1", "CUDA_VISIBLE_DEVICES"),
        ("export --format torchscript", "--tensorrt-rtx"),
        ("export --data coco.yaml", "--calibration"),
        ("verify --weights ckpt.pt", "--against"),
        ("fuse --fp16", "export --precision"),
        ("bench --ema", "fuse --ema"),
        ("inspect --num_classes 10", "told from the weights"),
    ],
)
def test_a_word_without_an_equal_is_answered_by_one_sentence_that_points_on(said: str, named: str) -> None:
    command, word, *_ = said.split()
    with pytest.raises(UsageError, match=re.escape(named)) as refused:
        parsed(said)
    assert str(refused.value).startswith(f"{command} has no option {word.replace('_', '-')}: ")


@pytest.mark.parametrize(("command", "name", "word"), PAIRS, ids=[f"{c} {n}" for c, n, _ in PAIRS])
def test_an_entry_can_be_reached_and_says_options_that_there_are(command: str, name: str, word: Any) -> None:
    mine = own(command)
    if name in mine and not word.file:
        pytest.skip("the command has it")
    before = [one for one in WORDS if name in one.names and command in one.commands]
    if before[0] is not word:
        pytest.skip("an entry for this command alone comes first")
    for said in (word.says, *word.by_value.values()):
        assert {part for part in said if part.startswith("--")} <= mine
    if word.points:
        assert word.points.endswith(".")
        with pytest.raises(UsageError):
            understood(command, [name, "value"], mine)


def test_the_reference_lists_every_word_that_is_understood() -> None:
    section = (
        (REPOSITORY / "docs" / "cli.md").read_text().split("**Words of other tools**")[1].split("\n\n| exit code")[0]
    )
    listed = set(re.findall(r"(?<![\w-])--?[a-z][a-z0-9-]*", section))
    assert {name for word in WORDS if not (word.points and not word.by_value) for name in word.names} <= listed


def test_no_entry_is_dead() -> None:
    for word in WORDS:
        reached = [
            (command, name)
            for command in word.commands
            for name in word.names
            if (word.file or word.alone or name not in own(command))
            and next(one for one in WORDS if name in one.names and command in one.commands) is word
        ]
        assert reached, word.names
        assert set(word.commands) <= set(COMMANDS)


@pytest.mark.parametrize(
    ("said", "suggested"),
    [
        ("export --calib x", ["--calibration", "--calibration-method"]),
        ("export --precison fp16", ["--precision"]),
        ("export --imagsize 4", []),
        ("bench --emma", []),
    ],
)
def test_suggestions_are_slips_of_the_pen_not_any_option_that_looks_alike(said: str, suggested: list[str]) -> None:
    with pytest.raises(Exception, match="No such option") as refused:
        parsed(said)
    assert list(refused.value.possibilities or ()) == suggested  # type: ignore[attr-defined]


def test_a_pointer_is_a_usage_error_of_one_sentence(cli: Cli) -> None:
    done = cli("export", "--dynamic")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: export has no option --dynamic: ") and done.stderr.count("\n") == 1


def test_a_command_by_a_name_of_other_tools(cli_here: Cli) -> None:
    assert {command_meant(name) for name in ("release", "bundle", "ship")} == {"ship"}
    assert command_meant("bench") == "bench"
    done = cli_here("bundle", "gone.pt")
    assert (done.returncode, done.stderr) == (3, "error: There is no file 'gone.pt'.\n")
    done = cli_here("deploy", "ckpt.pt")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "There is no command deploy: ship CKPT --to DIR makes a release" in done.stderr
