"""`export --tensorrt-rtx` and `--tensorrt`: the real command, on a machine without a GPU."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import onnx
import pytest
import torch

from tests.conftest import SAMPLES, Cli
from tests.dynamic import Mixture, network
from tests.samples import RESNET, sample_path

DIGITS = SAMPLES / "digits"

needs_rtx = pytest.mark.skipif(not importlib.util.find_spec("tensorrt_rtx"), reason="TensorRT-RTX is not installed")


@needs_rtx
@pytest.mark.slow
def test_a_checkpoint_becomes_an_engine_with_its_graph_and_its_record(cli_here: Cli, tmp_path: Path) -> None:
    done = cli_here(
        "export", sample_path(RESNET), "--input-size", "64", "--tensorrt-rtx", "--batch", "1:4:16", "--layers"
    )
    assert done.returncode == 0, done.stderr
    engine = f"{RESNET}.rtx.engine"
    written = {engine, f"{engine}.json", f"{engine}.layers.json", f"{RESNET}.tensorrt.onnx"}
    assert {path.name for path in tmp_path.iterdir()} == written
    assert "Against the original network" in done.stdout
    assert "4 parents are stored as 10 modulated copies" in " ".join(done.stdout.split())
    record = json.loads((tmp_path / f"{engine}.json").read_text())
    assert record["batches"] == {"smallest": 1, "typical": 4, "largest": 16}
    # The command that it records builds the engine again.
    again = cli_here(*record["rebuild"].split()[1:])
    assert again.returncode == 0, again.stderr


@needs_rtx
@pytest.mark.slow
def test_int8_goes_into_an_engine_through_one_command(cli_here: Cli, tmp_path: Path) -> None:
    arguments = ("export", sample_path(RESNET), "--input-size", "64", "--tensorrt-rtx", "-o", "small.rtx.engine")
    done = cli_here(*arguments, "--precision", "int8", "--calibration", DIGITS, "--json")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert (document["format"], document["record"]["precision"]) == ("tensorrt-rtx", "int8")
    assert document["graph"]["target"] == "tensorrt"
    assert document["graph"]["agreement"]["same_top1"] == 1.0
    assert document["inspection"]["kernels"]["found"] == 36
    assert (tmp_path / "small.tensorrt.onnx").is_file()
    refused = cli_here("verify", "small.rtx.engine")
    assert refused.returncode == 4
    assert "runs engines on a GPU, and there is none here" in refused.stderr


@needs_rtx
@pytest.mark.slow
@pytest.mark.parametrize(("batch", "loops"), [("1", False), ("1:2:4", True)])
def test_kernels_for_each_image_take_a_loop_where_the_batch_is_open(
    batch: str, loops: bool, cli_here: Cli, tmp_path: Path
) -> None:
    model, folder = network(Mixture(c_in=3, padding=1)), tmp_path / "net"
    folder.mkdir()
    torch.save(model.state_dict(), folder / "net.pt")
    (folder / "net.py").write_text(
        "from tests.dynamic import Mixture, network\n\n\ndef build():\n    return network(Mixture(c_in=3, padding=1))\n"
    )
    build = ("--model", f"{folder / 'net.py'}:build", "--input-size", "16", "--batch", batch)
    done = cli_here("export", folder / "net.pt", *build, "--tensorrt-rtx", "-o", "net.rtx.engine")
    assert done.returncode == 0, done.stderr
    nodes = onnx.load(tmp_path / "net.tensorrt.onnx").graph.node
    assert ("Loop" in {node.op_type for node in nodes}) == loops
    assert (tmp_path / "net.rtx.engine").is_file()


@pytest.mark.skipif(importlib.util.find_spec("tensorrt") is not None, reason="TensorRT is installed")
def test_without_tensorrt_the_install_command_is_given_at_once(cli: Cli, tmp_path: Path) -> None:
    done = cli("export", sample_path(RESNET), "--tensorrt")
    assert done.returncode == 4
    assert done.stderr == "error: TensorRT is not installed; run: pip install 'kdna-deploy[tensorrt]'.\n"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--tensorrt", "--tensorrt-rtx"], "An engine is of one library"),
        (["--layers"], "concern engines"),
        (["--no-tf32"], "concern engines"),
        (["--compute-capability", "8.6"], "concern engines"),
        (["--tensorrt-rtx", "--target", "cpu"], "leave --target cpu out"),
        (["--tensorrt-rtx", "--precision", "fp16", "--half-io"], "leave --half-io out"),
        (["--tensorrt-rtx", "--children", "share"], "--children materialize"),
        (["--batch", "1:8:128"], "not a batch size"),
    ],
)
def test_options_that_make_no_sense_are_exit_code_2(
    cli_here: Cli, tmp_path: Path, arguments: list[str], said: str
) -> None:
    done = cli_here("export", sample_path(RESNET), "--input-size", "64", *arguments)
    assert done.returncode == 2
    assert said in done.stderr and "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


OF_GRAPHS = {
    "--attention": "keep",
    "--input-size": "64",
    "--max-bloat": "2",
    "--weights": "fp16",
    "--precision": "fp16",
    "--arch": "resnet18",
    "--layout": "FS-FSF",
    "--no-channel": None,
    "--model": "package.net:build",
    "--ema": None,
    "--children": "materialize",
    "--freeze-below": "1",
    "--calibration": ".",
    "--mean": "0.5",
    "--color": "BGR",
    "--target": "tensorrt",
    "--opset": "20",
    "--no-simplify": None,
    "--external-data": None,
    "--labels": "imagenet",
    "--preprocess": "nchw",
    "--postprocess": "softmax",
    "--calibration-method": "entropy",
}


@pytest.mark.parametrize("option", OF_GRAPHS)
def test_an_onnx_file_takes_no_option_that_shapes_a_graph(cli_here: Cli, tmp_path: Path, option: str) -> None:
    (tmp_path / "net.onnx").write_bytes(b"never opened")
    value = OF_GRAPHS[option]
    done = cli_here("export", "net.onnx", "--tensorrt-rtx", option, *([value] if value else []))
    said = "'net.onnx' is an ONNX file already, and an engine is built of its graph as that is"
    assert done.stderr == f"error: {said}; leave {option} out, or give the fused graph or the checkpoint.\n"
    assert done.returncode == 2 and [path.name for path in tmp_path.iterdir()] == ["net.onnx"]


def test_every_option_that_shapes_a_graph_is_named(cli_here: Cli, tmp_path: Path) -> None:
    (tmp_path / "net.onnx").write_bytes(b"never opened")
    (tmp_path / "net.pt").write_bytes(b"never opened")
    options = ("--max-bloat", "2", "--batch", "4", "--source", "net.pt", "--layers", "--no-filter", "--no-tf32")
    done = cli_here("export", "net.onnx", "--tensorrt", *options)
    assert "; leave --source, --max-bloat and --no-filter out, or " in done.stderr


@needs_rtx
@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--batch", "8:1:128"], 2, "is not in order"),
        (["--batch", "some"], 2, "no batch range"),
        (["--compute-capability", "9.9"], 2, "cannot build for compute capability '9.9'"),
        (["--precision", "int8", "--calibration", str(DIGITS)], 2, "ONNX file already"),
        ([], 3, "is no ONNX file"),
    ],
)
def test_what_an_engine_cannot_be_built_from_or_for(
    cli_here: Cli, tmp_path: Path, arguments: list[str], code: int, said: str
) -> None:
    (tmp_path / "net.onnx").write_bytes(b"\xff\x00 damaged")
    done = cli_here("export", "net.onnx", "--tensorrt-rtx", *arguments)
    assert (done.returncode, said in done.stderr) == (code, True), done.stderr
    assert "Traceback" not in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["net.onnx"]
