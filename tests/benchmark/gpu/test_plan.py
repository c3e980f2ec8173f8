"""What is measured beside what, and which runtimes and precisions stay in the plan with a reason."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from kdna_deploy.benchmark.device import BenchOptions
from kdna_deploy.benchmark.gpu.device import Gpu, installed, missing_runtimes
from kdna_deploy.benchmark.paper import TABLE1
from kdna_deploy.benchmark.plan import images_for, plan
from kdna_deploy.benchmark.suites import build_suite
from kdna_deploy.errors import CheckpointError, RuntimeFailure, UsageError
from kdna_deploy.images.interface import PLAIN as AS_THE_NETWORK
from kdna_deploy.runtimes.table import runtimes_on
from tests.samples import RESNET, exported_sample, sample_path

pytestmark = pytest.mark.usefixtures("fused_once")

PLAIN = "resnet18_plain 64×64"
WITHOUT_CUDA = pytest.mark.skipif(torch.cuda.is_available(), reason="PyTorch can use a GPU")


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample network for TensorRT; its checkpoint lies beside it."""
    path = tmp_path_factory.mktemp("gpu-plan") / "net.onnx"
    exported_sample(path, target="tensorrt", simplify=False)
    shutil.copy(sample_path(RESNET), path.parent)
    return path


@pytest.mark.slow
@WITHOUT_CUDA
def test_every_runtime_and_precision_has_a_group_beside_the_plain_backbone(net: Path, tmp_path: Path) -> None:
    options = BenchOptions(Gpu(), batch=2, runtimes=("pytorch-cuda", "torch-compile"))
    groups = plan([net], options, tmp_path)
    assert [[one.name for one in group.candidates] for group in groups] == [
        [f"{PLAIN}, {runtime}, {precision}", f"net.onnx, {runtime}, {precision}"]
        for runtime in options.runtimes
        for precision in ("fp32", "fp16")
    ]
    assert not any(group.available for group in groups)
    reasons = {one.unavailable for group in groups for one in group.candidates}
    assert any(reason.startswith(f"PyTorch {torch.__version__} cannot use the GPU; run: ") for reason in reasons)


@WITHOUT_CUDA
def test_a_baseline_of_the_users_takes_the_place_of_the_plain_backbone(net: Path, tmp_path: Path) -> None:
    options = BenchOptions(Gpu(("tf32",)), batch=2, runtimes=("pytorch-cuda",), baseline=net)
    (group,) = plan([net, net], options, tmp_path)
    assert [one.subject.name for one in group.candidates] == ["net.onnx", str(net), f"{net} #2"]


@pytest.mark.slow
@WITHOUT_CUDA
def test_networks_with_the_same_plain_backbone_share_it(net: Path, tmp_path: Path) -> None:
    options = BenchOptions(Gpu(("fp16",)), batch=2, runtimes=("pytorch-cuda",))
    (group,) = plan([net, net], options, tmp_path)
    assert [one.subject.name for one in group.candidates] == [PLAIN, "net.onnx", str(net)]


@pytest.mark.slow
def test_a_fixed_batch_of_another_size_is_refused(tmp_path: Path) -> None:
    exported_sample(tmp_path / "net.onnx", target="tensorrt", simplify=False, batch=2)
    with pytest.raises(UsageError, match=r"'net.onnx' takes batches of 2 alone; add `batch_size=2`\."):
        plan([tmp_path / "net.onnx"], BenchOptions(Gpu(), batch=Gpu.batch), tmp_path)


def test_a_file_that_cannot_be_opened_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError):
        plan([tmp_path / "missing.pt"], BenchOptions(Gpu()), tmp_path)


@WITHOUT_CUDA
def test_without_any_runtime_every_one_says_how_to_get_it() -> None:
    entries = runtimes_on("gpu")
    there = [name for name, entry in entries.items() if not entry.missing]
    assert len(missing_runtimes(BenchOptions(Gpu()))) == len(entries) - len(there)
    assert missing_runtimes(BenchOptions(Gpu(), runtimes=("tensorrt",))) == ()
    if not there:
        with pytest.raises(RuntimeFailure, match="No runtime on the GPU is installed"):
            installed()
    else:
        assert installed() == tuple(there)


@pytest.mark.slow
@WITHOUT_CUDA
def test_table_1_has_every_architecture_beside_its_plain_backbone(tmp_path: Path) -> None:
    options = BenchOptions(Gpu(), runtimes=("pytorch-cuda",), size=(32, 32))
    suite = build_suite("table1", options, tmp_path)
    pairs = {tuple(one.subject.name for one in group.candidates) for group in suite.groups}
    assert pairs == {(f"{name}_plain", name) for name in TABLE1 if not name.endswith("_plain")}
    assert [group.candidates[0].variant.precision for group in suite.groups] == ["fp32", "fp16"] * len(pairs)
    assert {entry.printed for entry in suite.entries} == {None}  # another image size than the paper's


def test_images_are_the_same_for_every_candidate() -> None:
    assert images_for((3, 4, 4), 2, AS_THE_NETWORK) is images_for((3, 4, 4), 2, AS_THE_NETWORK)
    assert images_for((3, 4, 4), 2, AS_THE_NETWORK).shape == (2, 3, 4, 4)
    assert Gpu.batch == 128  # the paper's


@pytest.mark.parametrize("name", ["layouts", "runtimes"])
def test_other_suites_are_refused_on_the_gpu(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match=f"There is no suite '{name}' on the GPU; choose from table1"):
        build_suite(name, BenchOptions(Gpu()), tmp_path)
