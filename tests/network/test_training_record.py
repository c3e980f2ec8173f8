"""What training scripts record of their images, as it is found and as an attacker would write it."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest
import torch

from kdna_deploy.images.preprocessing import MEAN, STD, Preprocessing
from kdna_deploy.network.checkpoint import load_checkpoint
from kdna_deploy.network.input_size import choose_size
from kdna_deploy.network.training_record import TrainingRecord, training_record


@pytest.mark.parametrize(
    ("args", "size"),
    [
        ({"img_size": 64}, (64, 64)),
        ({"input_size": [3, 160, 192]}, (160, 192)),
        ({"input_size": None, "img_size": 96}, (96, 96)),
        ({"image_size": (32, 48)}, (32, 48)),
        ({"crop_size": "128"}, (128, 128)),
        ({"train_crop_size": 176, "val_crop_size": 224}, (224, 224)),
        ({"img_size": 64, "val_crop_size": 72}, (72, 72)),
        ({"img_size": "large"}, None),
        ({"img_size": 0}, None),
        ({"img_size": 10**9}, None),
        ({"img_size": "9" * 10**5}, None),
        ({"img_size": True}, None),
        ({"img_size": 64.5}, None),
        ({"img_size": float("nan")}, None),
        ({"img_size": [64]}, None),
        ({"img_size": [64, -1]}, None),
        ({"img_size": {"h": 64}}, None),
        ({"img_size": np.zeros(2)}, None),
        ({"img_size": torch.zeros(2)}, None),
        ({}, None),
    ],
)
def test_the_size_is_read_where_it_is_one(args: dict[str, object], size: tuple[int, int] | None) -> None:
    for content in ({"args": Namespace(**args)}, {"hyper_parameters": args}, args):
        assert training_record(content).size == size


@pytest.mark.parametrize(
    ("content", "licence"),
    [
        ({"license": "Apache-2.0"}, "Apache-2.0"),
        ({"args": {"licence": " MIT "}}, "MIT"),
        ({"license": ""}, ""),
        ({"license": {"name": "MIT"}}, ""),
        ({"license": "MIT\x1b[2J"}, ""),
        ({}, ""),
    ],
)
def test_the_licence_is_read_where_it_is_a_name(content: dict[str, object], licence: str) -> None:
    assert training_record(content).licence == licence


def test_options_come_before_the_container() -> None:
    assert training_record({"img_size": 32, "args": {"img_size": 64}}).size == (64, 64)


@pytest.mark.parametrize(
    ("args", "prepared"),
    [
        ({"mean": [0.5, 0.4, 0.3], "std": (0.2, 0.2, 0.1)}, Preprocessing((0.5, 0.4, 0.3), (0.2, 0.2, 0.1))),
        ({"mean": [0.5, 0.4, 0.3]}, Preprocessing((0.5, 0.4, 0.3), STD)),
        ({"mean": [0.1307], "std": [0.3081]}, Preprocessing((0.1307,), (0.3081,), color="L")),
        ({"val_resize_size": 256}, Preprocessing(MEAN, STD, 256)),
        ({"img_size": 224, "crop_pct": 0.95}, Preprocessing(MEAN, STD, 235)),
        ({"mean": None, "std": None}, None),
        ({"mean": [0.5] * 3, "std": [0.0, 1.0, 1.0]}, None),
        ({"mean": [float("nan")] * 3}, None),
        ({"mean": [10**400] * 3}, None),
        ({"mean": "0.5"}, None),
        ({"mean": ["a", "b", "c"]}, None),
        ({"std": [0.5] * 3, "mean": [0.5]}, None),
        ({"crop_pct": 0.95}, None),
        ({"crop_pct": -1, "img_size": 224}, None),
        ({"mean": [123.675, 116.28, 103.53], "std": [58.395, 57.12, 57.375], "val_resize_size": 256}, None),
        ({"mean": [103.939, 116.779, 123.68], "std": [1.0] * 3}, None),
        ({"mean": [-0.5] * 3}, None),
    ],
)
def test_the_normalisation_is_read_where_it_is_one(args: dict[str, object], prepared: Preprocessing | None) -> None:
    assert training_record({"args": args}).preprocessing == prepared


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (
            {"mean": [123.675, 116.28, 103.53], "std": [58.395] * 3},
            "mean (123.7 116.3 103.5) and std (58.4 58.4 58.4) are",
        ),
        ({"mean": [0.0], "std": [255]}, "std (255) is"),
        ({"mean": [0.0] * 3, "std": [1.0] * 3}, None),
        ({"mean": "123.675"}, None),
    ],
)
def test_values_of_other_pixels_are_told(tmp_path: Path, args: dict[str, object], said: str | None) -> None:
    torch.save({"state_dict": {"w": torch.ones(1)}, "args": args}, tmp_path / "net.pth")
    sentence = f"the recorded {said} not of pixels in 0..1, so that how images were prepared is not known"
    assert load_checkpoint(tmp_path / "net.pth").notes == ((sentence,) if said else ())


@pytest.mark.parametrize(
    ("content", "names"),
    [
        ({"classes": ["cat", "dog"]}, ("cat", "dog")),
        ({"class_to_idx": {"dog": 0, "cat": 1}}, ("dog", "cat")),
        ({"class_to_idx": {"dog": 1, "cat": 1}}, ()),
        ({"class_to_idx": {"dog": 0, "cat": 2}}, ()),
        ({"class_to_idx": {0: "dog"}}, ()),
        ({"class_to_idx": {1: 0, 2: 1}}, ()),
        ({"classes": 10}, ()),
        ({"classes": ["a", "a"]}, ()),
        ({"classes": ["a", 3]}, ()),
        ({"classes": []}, ()),
    ],
)
def test_class_names_are_read_in_the_order_of_the_logits(content: dict[str, object], names: tuple[str, ...]) -> None:
    assert training_record(content).class_names == names


@pytest.mark.parametrize("content", [None, [], {}, {"args": 3}, {"args": Namespace()}, {1: 2}, {"state_dict": {}}])
def test_nothing_is_recorded_where_nothing_is(content: object) -> None:
    assert training_record(content) == TrainingRecord()


def test_a_checkpoint_tells_what_it_records(tmp_path: Path) -> None:
    content = {"state_dict": {"w": torch.ones(1)}, "args": Namespace(img_size=64, mean=[0.5] * 3, std=[0.5] * 3)}
    torch.save(content, tmp_path / "net.pth")
    training = load_checkpoint(tmp_path / "net.pth").training
    assert training == TrainingRecord((64, 64), Preprocessing((0.5,) * 3, (0.5,) * 3))


def test_what_is_said_comes_before_what_is_recorded_and_that_before_the_default() -> None:
    recorded = TrainingRecord((64, 48))
    said, found, assumed = (
        choose_size((32, 32), recorded),
        choose_size(None, recorded),
        choose_size(None, TrainingRecord()),
    )
    assert (said.size, said.assumed, said.notes) == ((32, 32), False, ())
    assert (found.size, found.assumed, found.notes) == (
        (64, 48),
        False,
        ("the input size is 64×48, as the checkpoint records",),
    )
    assert (assumed.size, assumed.assumed, assumed.notes) == (
        (224, 224),
        True,
        ("assumed 224×224: nothing in the checkpoint tells the size it was trained on; give `input_size`",),
    )
