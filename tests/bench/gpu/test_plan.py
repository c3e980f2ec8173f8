"""What is measured beside what, and which runtimes and precisions stay in the plan with a reason."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from kdna_deploy.bench.gpu.files import Reports
from kdna_deploy.bench.gpu.plan import (
    DEFAULT_BATCH,
    GpuOptions,
    available,
    chosen_runtimes,
    images_for,
    missing_runtimes,
    plan,
)
from kdna_deploy.bench.gpu.suite import build_table1
from kdna_deploy.bench.paper import TABLE1
from kdna_deploy.errors import CheckpointError, RuntimeFailure, UsageError
from kdna_deploy.runtimes.gpu_catalogue import GPU_RUNTIMES
from tests.samples import RESNET, export_sample, sample_path

PLAIN = "resnet18_plain 64×64"
WITHOUT_CUDA = pytest.mark.skipif(torch.cuda.is_available(), reason="PyTorch can use a GPU")


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample network for TensorRT; its checkpoint lies beside it."""
    path = tmp_path_factory.mktemp("gpu-plan") / "net.onnx"
    export_sample(path, target="tensorrt", simplify=False)
    shutil.copy(sample_path(RESNET), path.parent)
    return path


@WITHOUT_CUDA
def test_every_runtime_and_precision_has_a_group_beside_the_plain_backbone(net: Path, tmp_path: Path) -> None:
    options = GpuOptions(batch=2, runtimes=("pytorch-cuda", "torch-compile"))
    groups = plan([net], options, tmp_path)
    assert [[one.name for one in group.candidates] for group in groups] == [
        [f"{PLAIN}, {runtime}, {precision}", f"net.onnx, {runtime}, {precision}"]
        for runtime in options.runtimes
        for precision in ("fp32", "fp16")
    ]
    assert not any(available(group) for group in groups)
    reasons = {one.unavailable for group in groups for one in group.candidates}
    assert any(reason.startswith(f"PyTorch {torch.__version__} cannot use the GPU; run: ") for reason in reasons)


@WITHOUT_CUDA
def test_a_baseline_of_the_users_takes_the_place_of_the_plain_backbone(net: Path, tmp_path: Path) -> None:
    options = GpuOptions(batch=2, runtimes=("pytorch-cuda",), precisions=("tf32",), baseline=net)
    (group,) = plan([net, net], options, tmp_path)
    assert [one.network.name for one in group.candidates] == ["net.onnx", str(net), f"{net} #2"]


@WITHOUT_CUDA
def test_networks_with_the_same_plain_backbone_share_it(net: Path, tmp_path: Path) -> None:
    options = GpuOptions(batch=2, runtimes=("pytorch-cuda",), precisions=("fp16",))
    (group,) = plan([net, net], options, tmp_path)
    assert [one.network.name for one in group.candidates] == [PLAIN, "net.onnx", str(net)]


def test_a_fixed_batch_of_another_size_is_refused(tmp_path: Path) -> None:
    export_sample(tmp_path / "net.onnx", target="tensorrt", simplify=False, batch=2)
    with pytest.raises(UsageError, match=r"'net.onnx' takes batches of 2 alone; add `batch_size=2`\."):
        plan([tmp_path / "net.onnx"], GpuOptions(), tmp_path)


def test_a_file_that_cannot_be_opened_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError):
        plan([tmp_path / "missing.pt"], GpuOptions(), tmp_path)


@WITHOUT_CUDA
def test_without_any_runtime_every_one_says_how_to_get_it() -> None:
    installed = [name for name, entry in GPU_RUNTIMES.items() if not entry.missing]
    assert len(missing_runtimes(GpuOptions())) == len(GPU_RUNTIMES) - len(installed)
    assert missing_runtimes(GpuOptions(runtimes=("tensorrt",))) == ()
    if not installed:
        with pytest.raises(RuntimeFailure, match="No runtime on the GPU is installed"):
            chosen_runtimes(GpuOptions())
    else:
        assert chosen_runtimes(GpuOptions()) == tuple(installed)


@WITHOUT_CUDA
def test_table_1_has_every_architecture_beside_its_plain_backbone(tmp_path: Path) -> None:
    options = GpuOptions(runtimes=("pytorch-cuda",), size=(32, 32))
    suite = build_table1(options, tmp_path, Reports())
    pairs = {tuple(one.network.name for one in group.candidates) for group in suite.groups}
    assert pairs == {(f"{name}_plain", name) for name in TABLE1 if not name.endswith("_plain")}
    assert [group.candidates[0].precision for group in suite.groups] == ["fp32", "fp16"] * len(pairs)
    assert suite.printed == {}  # another image size than the paper's


def test_images_are_the_same_for_every_candidate() -> None:
    assert images_for((3, 4, 4), 2) is images_for((3, 4, 4), 2)
    assert images_for((3, 4, 4), 2).shape == (2, 3, 4, 4)
    assert GpuOptions().batch == DEFAULT_BATCH == 128
