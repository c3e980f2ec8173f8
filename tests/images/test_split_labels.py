"""Which images judge int8, and by which labels: some of them wrong, so that a label that reaches nothing is noticed."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from kdna_deploy.errors import InputError
from kdna_deploy.evaluation.accuracy import evaluate
from kdna_deploy.images.folder import Preprocessing, read_image
from kdna_deploy.images.labelled import FILLER
from kdna_deploy.images.split import Split, split_images
from kdna_deploy.runtimes.pytorch import TorchSession
from tests.conftest import SAMPLES
from tests.samples import SIZE, fused_sample

DIGITS = SAMPLES / "digits"
SHAPE = (3, *SIZE)
FILES = sorted(DIGITS.glob("*/*.png"))  # five of each class, class by class


def split(calibration: Path, held_out: Path | None = None, outputs: int = 10, batch: int | None = None) -> Split:
    return split_images(calibration, held_out, SHAPE, Preprocessing(), outputs, batch)


@pytest.fixture
def mislabelled(tmp_path: Path) -> Path:
    """The digits, those of class 3 in the folder of class 8 and the other way round."""
    shutil.copytree(DIGITS, tmp_path / "digits")
    (tmp_path / "digits" / "3").rename(tmp_path / "digits" / "x")
    (tmp_path / "digits" / "8").rename(tmp_path / "digits" / "3")
    (tmp_path / "digits" / "x").rename(tmp_path / "digits" / "8")
    return tmp_path / "digits"


def scored(images: Split) -> tuple[int, float]:
    """Images and top-1 of the sample network, which recognises every digit."""
    session = TorchSession(fused_sample().network.module, "the network")
    result = evaluate(session, images.held_out(), session)
    return result.images, result.top1


@pytest.mark.slow
def test_every_fifth_image_of_class_folders_judges_with_its_label(mislabelled: Path) -> None:
    right, wrong = split(DIGITS), split(mislabelled)
    assert right.labelled and wrong.labelled
    assert [label for _, labels in right.held_out() for label in labels.tolist()] == list(range(10))
    assert (scored(right), scored(wrong)) == ((10, 1.0), (10, 0.8))


@pytest.mark.slow
def test_class_folders_to_judge_by_give_labels(mislabelled: Path) -> None:
    assert (scored(split(DIGITS, DIGITS)), scored(split(DIGITS, mislabelled))) == ((50, 1.0), (50, 0.8))


def test_calibration_images_are_those_that_do_not_judge(tmp_path: Path) -> None:
    for images in (split(DIGITS), split(flat(tmp_path))):
        calibrating = np.concatenate(list(images.calibration()))
        judging = np.concatenate([batch for batch, _ in images.held_out()])
        expected = [read_image(file, SIZE) for file in FILES]
        assert np.array_equal(judging, expected[4::5])
        assert np.array_equal(calibrating, [image for n, image in enumerate(expected) if n % 5 != 4])


def test_given_images_judge_and_all_others_calibrate(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    for file in FILES[:3]:
        shutil.copy(file, other)
    images = split(DIGITS, other)
    judging = np.concatenate([batch for batch, _ in images.held_out()])
    assert np.array_equal(judging, [read_image(file, SIZE) for file in sorted(other.iterdir())])
    assert sum(map(len, images.calibration())) == 50
    assert not images.labelled and all(labels is None for _, labels in images.held_out())


def flat(folder: Path) -> Path:
    for number, file in enumerate(FILES):
        shutil.copy(file, folder / f"{number:02}.png")
    return folder


def test_a_folder_without_class_folders_has_no_labels(tmp_path: Path) -> None:
    images = split(flat(tmp_path))
    assert (images.labelled, images.notes) == (False, ())
    assert scored(images) == (10, 1.0)  # the network agrees with itself


@pytest.mark.parametrize(
    ("folders", "outputs", "why"),
    [
        (None, 5, "holds 10 class folders, and the network has 5 classes"),
        (("monday", "tuesday"), 10, "holds 2 class folders, and the network has 10 classes"),
        (("1", "01"), 10, "would be one class"),
        (("1", "cat"), 10, "name all of them in one way"),
    ],
)
def test_folders_that_cannot_be_the_classes_give_no_labels_and_a_note_says_why(
    tmp_path: Path, folders: tuple[str, ...] | None, outputs: int, why: str
) -> None:
    data = DIGITS
    if folders:
        data = tmp_path
        for number, file in enumerate(FILES):
            place = data / folders[number % 2]
            place.mkdir(exist_ok=True)
            shutil.copy(file, place / f"{number}.png")
    images = split(data, outputs=outputs)
    assert not images.labelled
    (note,) = images.notes
    assert note.startswith("the class folders are no labels, and the file is judged by its agreement") and why in note
    assert sum(len(batch) for batch, _ in images.held_out()) == 10
    with pytest.raises(InputError):  # asked for by name, they are refused
        split(DIGITS, data, outputs=outputs)


def test_a_fixed_batch_of_labelled_images_is_filled_up_and_the_filling_never_counts(mislabelled: Path) -> None:
    images = split(mislabelled, batch=16)
    ((batch, labels),) = images.held_out()
    assert len(batch) == 16
    assert labels is not None and labels.tolist() == [*range(10), *[FILLER] * 6]
    assert scored(images) == (10, 0.8)


def test_class_names_that_the_checkpoint_records_tell_the_labels(tmp_path: Path) -> None:
    words = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
    for number, word in enumerate(words):
        shutil.copytree(DIGITS / str(number), tmp_path / word)
    named = split_images(tmp_path, None, SHAPE, Preprocessing(), 10, class_names=words)
    alphabetical = split_images(tmp_path, None, SHAPE, Preprocessing(), 10)
    assert scored(named) == (10, 1.0)
    assert scored(alphabetical)[1] < 0.5
