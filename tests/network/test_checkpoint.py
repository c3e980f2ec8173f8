"""Weights are read from any container that training leaves; everything else is refused in one sentence."""

from __future__ import annotations

import argparse
import hashlib
import os
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor, nn

from kdna_deploy.errors import CheckpointError
from kdna_deploy.network.checkpoint import load_checkpoint
from tests.data.fill import state_dict

WEIGHTS = {
    "conv.weight": torch.arange(36.0).reshape(4, 1, 3, 3) / 36,
    "conv.bias": torch.tensor([0.5, -1.0, 2.0, 0.0]),
    "bn.running_var": torch.ones(4),
    "bn.num_batches_tracked": torch.tensor(5005),
}
AVERAGED = {name: value / 2 if value.is_floating_point() else value for name, value in WEIGHTS.items()}


def saved(folder: Path, content: Any, name: str = "ckpt.pth", **options: Any) -> Path:
    torch.save(content, folder / name, **options)
    return folder / name


def prefixed(prefix: str, weights: dict[str, Tensor] = WEIGHTS) -> dict[str, Tensor]:
    return {prefix + name: value for name, value in weights.items()}


def assert_weights(found: Any, expected: dict[str, Tensor] = WEIGHTS) -> None:
    assert list(found) == list(expected)
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=0, atol=0)


def refusal(path: Path, ema: bool = False) -> str:
    """The message with which loading is refused, which must be one sentence that names the file."""
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(path, ema)
    message = str(caught.value)
    assert "\n" not in message
    assert message.endswith(".")
    assert f"'{path}'" in message
    return message


@pytest.mark.slow
def test_a_published_checkpoint_gives_its_weights_and_what_training_recorded(
    arch: str, published: Callable[[str], Path]
) -> None:
    found = load_checkpoint(published(arch))
    assert_weights(found.state_dict, state_dict(arch))
    assert (found.arch, found.epoch, found.accuracy, found.ema, found.notes) == (arch, 90, 74.23, False, ())


@pytest.mark.parametrize(
    "content",
    [
        WEIGHTS,
        prefixed("module."),
        prefixed("_orig_mod."),
        prefixed("module._orig_mod."),
        prefixed("_orig_mod.module."),
        {name.replace("conv.", "conv._orig_mod."): value for name, value in WEIGHTS.items()},
        {"n_averaged": torch.tensor(7), **prefixed("module.")},
        {"state_dict": WEIGHTS, "epoch": 3},
        {"model": WEIGHTS, "optimizer": {"state": {}}},
        {"model_state_dict": prefixed("module."), "loss": 0.25},
        {"state_dict": WEIGHTS, "args": argparse.Namespace(lr=0.1, name="kdna", milestones=[30, 60])},
    ],
    ids=[
        "bare",
        "DataParallel",
        "compiled",
        "compiled in DataParallel",
        "DataParallel, compiled",
        "compiled in part",
        "AveragedModel",
        "state_dict",
        "model",
        "model_state_dict",
        "Namespace beside the weights",
    ],
)
@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_every_container_gives_the_same_weights(tmp_path: Path, content: dict[str, Any], zipped: bool) -> None:
    path = saved(tmp_path, content, _use_new_zipfile_serialization=zipped)
    found = load_checkpoint(path)
    assert_weights(found.state_dict)
    assert found.notes == ()


def test_a_prefix_that_only_some_names_carry_is_part_of_the_names(tmp_path: Path) -> None:
    weights = {"module.weight": torch.ones(1), "head.weight": torch.ones(1)}
    assert_weights(load_checkpoint(saved(tmp_path, weights)).state_dict, weights)


def test_safetensors_give_the_same_weights(tmp_path: Path) -> None:
    path = tmp_path / "ckpt.safetensors"
    save_file(prefixed("module."), path)
    found = load_checkpoint(path).state_dict
    assert_weights({name: found[name] for name in WEIGHTS})
    assert len(found) == len(WEIGHTS)


@pytest.mark.parametrize("key", ["state_dict_ema", "model_ema"])
def test_averaged_weights_are_taken_when_asked_for(tmp_path: Path, key: str) -> None:
    path = saved(tmp_path, {"state_dict": WEIGHTS, key: prefixed("module.", AVERAGED)})
    averaged, trained = load_checkpoint(path, ema=True), load_checkpoint(path)
    assert_weights(averaged.state_dict, AVERAGED)
    assert (averaged.ema, averaged.notes) == (True, ())
    assert_weights(trained.state_dict, WEIGHTS)
    assert not trained.ema
    assert trained.notes == (f"the checkpoint also keeps averaged weights ({key}); `ema` takes those",)


def test_averaged_weights_that_stand_alone_are_taken_and_said_to_be(tmp_path: Path) -> None:
    found = load_checkpoint(saved(tmp_path, {"model_ema": AVERAGED}))
    assert_weights(found.state_dict, AVERAGED)
    assert found.notes == ("only averaged weights (model_ema) are in the checkpoint",)


def test_averaged_weights_that_are_not_there_are_refused(tmp_path: Path) -> None:
    assert "keeps no averaged weights" in refusal(saved(tmp_path, {"state_dict": WEIGHTS}), ema=True)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_half_precision_weights_become_float32_with_a_note(tmp_path: Path, dtype: torch.dtype, suffix: str) -> None:
    halved = {name: v.to(dtype) if v.is_floating_point() else v for name, v in WEIGHTS.items()}
    path = tmp_path / f"ckpt{suffix}"
    if suffix == ".pth":
        torch.save({"state_dict": halved}, path)
    else:
        save_file(halved, path)
    found = load_checkpoint(path)
    for name, value in halved.items():
        expected = value.float() if value.is_floating_point() else value
        torch.testing.assert_close(found.state_dict[name], expected, rtol=0, atol=0)
    kind = str(dtype).removeprefix("torch.")
    assert found.notes == (f"the weights are stored in {kind}; all computing is done in float32",)


@pytest.mark.parametrize(
    ("recorded", "accuracy"),
    [
        ({"best_acc1": torch.tensor(74.23)}, 74.23),
        ({"best_acc1": torch.tensor([74.23])}, 74.23),
        ({"best_acc": np.float64(74.23)}, 74.23),
        ({"best_acc": np.float32(74.23)}, 74.23),
        ({"best_acc": np.int64(74)}, 74.0),
        ({"acc1": 74}, 74.0),
        ({"best_acc1": float("nan"), "acc1": 74.23}, 74.23),
        ({"best_acc1": "74.23"}, None),
        ({}, None),
    ],
)
@pytest.mark.parametrize("numpy_1", [False, True], ids=["", "numpy 1 names"])
def test_a_recorded_accuracy_is_read_in_any_type(
    tmp_path: Path, recorded: dict[str, Any], accuracy: float | None, numpy_1: bool
) -> None:
    path = saved(tmp_path, {"state_dict": WEIGHTS, **recorded}, _use_new_zipfile_serialization=False)
    if numpy_1:  # which kept its scalar constructor in a module of another name
        path.write_bytes(path.read_bytes().replace(b"numpy._core", b"numpy.core"))
    assert load_checkpoint(path).accuracy == accuracy


def test_the_hash_is_that_of_the_files_bytes(tmp_path: Path) -> None:
    path = saved(tmp_path, WEIGHTS)
    assert load_checkpoint(path).sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_weights_of_a_diverged_training_are_refused(tmp_path: Path, value: float) -> None:
    weights = {**WEIGHTS, "conv.bias": torch.tensor([0.5, value, 2.0, 0.0])}
    assert "NaN or infinite values in conv.bias" in refusal(saved(tmp_path, {"state_dict": weights}))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ([1, 2], "holds a list, not a state dict"),
        (torch.ones(3), "holds a Tensor, not a state dict"),
        ({}, "holds no state dict"),
        ({"state_dict": {}}, "holds no state dict"),
        ({"n_averaged": torch.tensor(3)}, "holds no state dict"),
        ({"epoch": 3, "loss": 0.5}, "holds no state dict"),
        ({"weight": torch.ones(3), "epoch": 3}, "holds no state dict"),
    ],
    ids=["list", "tensor", "empty", "empty state dict", "counter alone", "no weights", "weights among other things"],
)
def test_a_file_without_a_state_dict_is_refused(tmp_path: Path, content: Any, reason: str) -> None:
    assert reason in refusal(saved(tmp_path, content))


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    assert "There is no file" in refusal(tmp_path / "absent.pth")
    assert "There is no file" in refusal(tmp_path)


@pytest.mark.parametrize(
    "text",
    [b"", b"\n", b"hello", b"epoch,loss\n1,2\n", b"<!DOCTYPE html>", b"version https://git-lfs.github.com/spec/v1\n"],
    ids=["empty", "newline", "word", "csv", "html", "LFS pointer"],
)
def test_a_file_that_is_no_checkpoint_is_refused(tmp_path: Path, text: bytes) -> None:
    path = tmp_path / "ckpt.pth"
    path.write_bytes(text)
    assert "is not a PyTorch checkpoint or is damaged" in refusal(path)


@pytest.mark.parametrize("kept", [0.1, 0.5, 0.9, 0.999])
def test_a_checkpoint_cut_short_is_refused(tmp_path: Path, kept: float) -> None:
    path = saved(tmp_path, {"state_dict": WEIGHTS})
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * kept)])
    assert "is damaged or cut short; copy or download it again" in refusal(path)


@pytest.mark.parametrize("kept", [0, 4, 50, -1])
def test_a_safetensors_file_cut_short_is_refused(tmp_path: Path, kept: int) -> None:
    path = tmp_path / "ckpt.safetensors"
    save_file(WEIGHTS, path)
    path.write_bytes(path.read_bytes()[:kept])
    assert "is not a complete safetensors file" in refusal(path)


@pytest.fixture(scope="module")
def legacy_bytes(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    folder = tmp_path_factory.mktemp("legacy")
    return saved(folder, {"state_dict": WEIGHTS}, _use_new_zipfile_serialization=False).read_bytes()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200, deadline=None)
@given(edits=st.lists(st.tuples(st.integers(0, 1 << 20), st.integers(0, 255)), max_size=4), end=st.integers(0, 1 << 20))
def test_damaged_bytes_give_weights_or_a_refusal_and_nothing_else(
    tmp_path: Path, legacy_bytes: bytes, edits: list[tuple[int, int]], end: int
) -> None:
    content = bytearray(legacy_bytes)
    for position, value in edits:
        content[position % len(content)] = value
    path = tmp_path / "ckpt.pth"
    path.write_bytes(content[: 1 + end % len(content)])
    try:
        assert load_checkpoint(path).state_dict
    except CheckpointError as error:
        assert "\n" not in str(error)


class Trap:
    """Leaves a folder behind when it is unpickled by anything that runs what a pickle asks for."""

    def __init__(self, function: Callable[..., Any], marker: Path) -> None:
        self.function, self.marker = function, marker

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self.function, (str(self.marker),)


TRAPS = pytest.mark.parametrize("function", [os.mkdir, os.makedirs], ids=["system call", "library function"])


@TRAPS
@pytest.mark.parametrize("where", ["alone", "beside the weights", "as a weight", "as a key"])
@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_code_in_a_checkpoint_is_refused_and_never_run(
    tmp_path: Path, function: Callable[..., Any], where: str, zipped: bool
) -> None:
    marker = tmp_path / "marker"
    trap = Trap(function, marker)
    content = {
        "alone": trap,
        "beside the weights": {"state_dict": WEIGHTS, "args": trap},
        "as a weight": {"state_dict": {**WEIGHTS, "conv.extra": trap}},
        "as a key": {trap: WEIGHTS},
    }[where]
    path = saved(tmp_path, content, _use_new_zipfile_serialization=zipped)
    assert re.search(rf"asks to run code on loading \(\w+\.{function.__name__}\)", refusal(path))
    assert not marker.exists()


@TRAPS
def test_the_traps_of_the_test_above_do_spring(tmp_path: Path, function: Callable[..., Any]) -> None:
    marker = tmp_path / "marker"
    pickle.loads(pickle.dumps(Trap(function, marker)))
    assert marker.exists()


def test_a_pickled_module_is_refused_with_what_to_save_instead(tmp_path: Path) -> None:
    for content in (nn.Linear(2, 2), {"model": nn.Linear(2, 2)}):
        message = refusal(saved(tmp_path, content))
        assert "torch.nn.modules.linear.Linear" in message
        assert "save it again with its state dict alone" in message


@pytest.mark.filterwarnings("ignore:'torch.load' received a zip file that looks like a TorchScript archive")
def test_a_torchscript_archive_is_refused_by_that_name(tmp_path: Path) -> None:
    path = tmp_path / "ckpt.pt"
    torch.jit.save(torch.jit.script(nn.Linear(2, 2)), path)
    assert "is a TorchScript archive; give the training checkpoint instead" in refusal(path)
