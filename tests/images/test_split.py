"""Which images calibrate and which judge, with which labels, prepared how."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kdna_deploy.errors import InputError
from kdna_deploy.images.folder import Preprocessing, image_files, read_image
from kdna_deploy.images.split import Split, split_images

SHAPE = (3, 8, 10)
PREPROCESSING = Preprocessing((0.1, 0.2, 0.3), (0.5, 0.6, 0.7), color="BGR")


def make(folder: Path, *names: str, seed: int = 0) -> Path:
    random = np.random.default_rng(seed)
    for name in names:
        path = folder / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 256, (12, 14, 3), np.uint8)).save(path)
    return folder


def prepared(folder: Path) -> np.ndarray:
    return np.stack([read_image(path, SHAPE[1:], PREPROCESSING) for path in image_files(folder)])


def of(split: Split) -> tuple[np.ndarray, np.ndarray, list[int | None]]:
    """Images that calibrate, images that judge, and their labels."""
    judging = list(split.held_out())
    labels = [one for batch, given in judging for one in (len(batch) * [None] if given is None else given.tolist())]
    return np.concatenate(list(split.calibration())), np.concatenate([images for images, _ in judging]), labels


@pytest.fixture
def calibration(tmp_path: Path) -> Path:
    return make(tmp_path / "calibration", *(f"{number:02}" for number in range(12)))


def test_held_out_class_folders_judge_with_their_labels_and_all_others_calibrate(
    calibration: Path, tmp_path: Path
) -> None:
    held_out = make(tmp_path / "held", "4/a", "4/b", "2/a", seed=1)
    split = split_images(calibration, held_out, SHAPE, PREPROCESSING, 5)
    calibrating, judging, labels = of(split)
    assert np.array_equal(calibrating, prepared(calibration))
    assert np.array_equal(judging, prepared(held_out))
    assert (labels, split.labelled) == ([2, 4, 4], True)
    assert (split.record["images"], split.record["held_out"]) == ("calibration", "held")
    assert split.record["mean"] == PREPROCESSING.mean and split.record["std"] == PREPROCESSING.std


def test_held_out_images_without_folders_judge_without_labels(calibration: Path, tmp_path: Path) -> None:
    held_out = make(tmp_path / "held", "a", "b", seed=1)
    split = split_images(calibration, held_out, SHAPE, PREPROCESSING, 5)
    calibrating, judging, labels = of(split)
    assert np.array_equal(calibrating, prepared(calibration))
    assert np.array_equal(judging, prepared(held_out))
    assert (labels, split.labelled) == ([None, None], False)


def test_every_fifth_image_judges_and_the_others_calibrate(calibration: Path) -> None:
    split = split_images(calibration, None, SHAPE, PREPROCESSING, 5)
    calibrating, judging, labels = of(split)
    images = prepared(calibration)
    assert np.array_equal(judging, images[[4, 9]])
    assert np.array_equal(calibrating, np.delete(images, [4, 9], axis=0))
    assert (labels, split.labelled) == ([None, None], False)
    assert split.record["held_out"] == "1 in 5"


@pytest.mark.parametrize(("images", "enough"), [(9, False), (10, True)])
def test_ten_images_are_the_fewest_to_split(tmp_path: Path, images: int, enough: bool) -> None:
    folder = make(tmp_path / "few", *map(str, range(images)))
    if enough:
        split_images(folder, None, SHAPE, PREPROCESSING, 5)
        return
    with pytest.raises(InputError, match=r"holds 9 images, too few to calibrate .* give at least 10"):
        split_images(folder, None, SHAPE, PREPROCESSING, 5)


def test_a_fixed_batch_is_kept_on_both_sides(calibration: Path, tmp_path: Path) -> None:
    held_out = make(tmp_path / "held", "0/a", "1/b", "1/c", seed=1)
    split = split_images(calibration, held_out, SHAPE, PREPROCESSING, 2, batch=2)
    assert [len(batch) for batch in split.calibration()] == [2] * 6
    assert [(len(batch), labels.tolist()) for batch, labels in split.held_out()] == [(2, [0, 1]), (2, [1, -1])]


def test_labels_beyond_the_networks_classes_are_refused(calibration: Path, tmp_path: Path) -> None:
    held_out = make(tmp_path / "held", "4/a")
    split_images(calibration, held_out, SHAPE, PREPROCESSING, 5)
    with pytest.raises(InputError, match="the network has 4 classes"):
        split_images(calibration, held_out, SHAPE, PREPROCESSING, 4)
