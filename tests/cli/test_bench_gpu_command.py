"""``kdna-deploy bench --gpu`` as a user types it: what is refused without a GPU or by mistake, and a run on one."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from kdna_deploy.benchmark.saved import read_run
from tests.benchmark.gpu.results import BASE, FULL, NET, gpu_result
from tests.cli.test_bench_command import refusal
from tests.conftest import Cli
from tests.gpu import no_gpu
from tests.reports.test_gpu_reports import save
from tests.samples import RESNET, sample_path

WITHOUT_GPU = pytest.mark.skipif(no_gpu() is None, reason="there is a GPU")


@WITHOUT_GPU
@pytest.mark.parametrize(
    "arguments",
    [
        ("net.pth.tar",),
        ("net.onnx", "--batch-size", "8", "--precision", "fp16", "--streams", "2", "--host-copies"),
        ("--suite", "table1", "--runtime", "pytorch-cuda", "--no-cuda-graphs"),
        (),
    ],
)
def test_without_a_gpu_one_sentence_says_so_before_anything_is_read(
    cli: Cli, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    sentence = refusal(cli, tmp_path, "--gpu", *arguments, code=4)
    assert "bench --gpu measures on an NVIDIA GPU, and there is none here: " in sentence
    assert sentence.endswith("run this on a machine with one, or leave --gpu out to measure on the CPU.\n")


@pytest.mark.parametrize(
    "option",
    [("--precision", "fp16"), ("--streams", "2"), ("--cuda-graphs",), ("--no-cuda-graphs",), ("--host-copies",)],
)
def test_an_option_for_the_gpu_is_refused_without_it(cli: Cli, tmp_path: Path, option: tuple[str, ...]) -> None:
    sentence = refusal(cli, tmp_path, "net.onnx", *option, code=2)
    assert f"{option[0].replace('--no-', '--')} belongs to --gpu; add that, or leave it out." in sentence


@pytest.mark.parametrize(
    "option",
    [("--cpu-threads", "2"), ("--profile",), ("--cold-start",), ("--no-cold-start",), ("--protocol", "paper")],
)
def test_an_option_for_the_cpu_is_refused_with_gpu(cli: Cli, tmp_path: Path, option: tuple[str, ...]) -> None:
    sentence = refusal(cli, tmp_path, "net.onnx", "--gpu", *option, code=2)
    assert f"{option[0].replace('--no-', '--')} is for the CPU; leave it out, or --gpu." in sentence


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--runtime", "tensorrt"), "--runtime tensorrt runs on the GPU; add --gpu."),
        (("--gpu", "--runtime", "openvino"), "--runtime openvino runs on the CPU; with --gpu choose from tensorrt, "),
        (("--gpu", "--suite", "layouts"), "--suite layouts measures on the CPU; with --gpu there is --suite table1."),
        (("--gpu", "net.onnx", "--baseline", "pytorch"), "--baseline is a model file, not the runtime 'pytorch'."),
        (
            ("--gpu", "net.onnx", "--baseline", "run.json"),
            "not the saved run 'run.json'; compare saved runs by --compare.",
        ),
        (("--gpu", "--compare", "a.json", "b.json"), "--compare measures nothing; leave --gpu out."),
    ],
)
def test_what_belongs_to_the_other_device_is_refused(
    cli: Cli, tmp_path: Path, arguments: tuple[str, ...], sentence: str
) -> None:
    assert sentence in refusal(cli, tmp_path, *arguments, code=2)


@pytest.mark.parametrize("option", [("--streams", "0"), ("--precision", "fp8"), ("--batch-size", "0")])
def test_a_value_out_of_range_is_refused(cli: Cli, option: tuple[str, ...]) -> None:
    done = cli("bench", "--gpu", "net.onnx", *option)
    assert done.returncode == 2 and done.stdout == "" and "Traceback" not in done.stderr


@pytest.mark.slow
def test_two_saved_runs_of_a_gpu_are_compared_anywhere(cli: Cli, tmp_path: Path) -> None:
    save(tmp_path, FULL, "a.json")
    save(tmp_path, gpu_result(BASE, NET), "b.json")
    done = cli("bench", "--compare", "a.json", "b.json")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""  # the same GPU and options
    assert "tensorrt, fp16" in done.stdout and "cannot tell" in done.stdout


@pytest.mark.gpu
def test_a_checkpoint_is_measured_saved_and_gated(cli: Cli, tmp_path: Path) -> None:
    shutil.copy(sample_path(RESNET), tmp_path / "net.pth.tar")
    quick = ("--input-size", "64", "--batch-size", "16", "--iterations", "30", "--min-time", "0")
    runtimes = ("--runtime", "pytorch-cuda-graph", "--precision", "fp32", "--precision", "fp16")
    gates = ("--fail-if", "throughput<1", "--fail-if", "kept<1")
    done = cli("bench", "net.pth.tar", "--gpu", *quick, *runtimes, *gates, "--save", "run.json", "--json")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert [row["precision"] for row in document["rows"]] == ["fp32", "fp32", "fp16", "fp16"]
    assert all(row["throughput"] > 0 for row in document["rows"])
    assert document["environment"]["gpu"] and document["options"]["device"] == "gpu"
    assert len(read_run(tmp_path / "run.json").rows) == 4
    crossed = cli("bench", "net.pth.tar", "--gpu", *quick, *runtimes, "--fail-if", "throughput>1")
    assert crossed.returncode == 1 and "--fail-if 'throughput>1': " in crossed.stderr
    assert "Throughput, and what is kept" in crossed.stdout


@pytest.mark.slow
def test_an_engine_is_measured_on_the_gpu_alone(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "net.rtx.engine").touch()
    sentence = refusal(cli, tmp_path, "net.rtx.engine", code=2)
    assert sentence == "error: 'net.rtx.engine' is an engine, which runs on a GPU; add --gpu.\n"
