"""What is said, recorded and assumed about preprocessing, and records that are damaged."""

from __future__ import annotations

import json
import math

import pytest

from kdna_deploy.errors import ArtifactError, UsageError
from kdna_deploy.images.preprocessing import MEAN, STD, AskedPreprocessing, Preprocessing, from_record

HALF = Preprocessing((0.5,) * 3, (0.25,) * 3, 72, (64, 60), "BGR")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"std": (0.2, 0.0, 0.2)}, "greater than 0"),
        ({"std": (0.2, -1.0, 0.2)}, "greater than 0"),
        ({"mean": (math.nan,) * 3}, "finite"),
        ({"std": (math.inf,) * 3}, "finite"),
        ({"mean": (0.5, 0.5)}, "one for each channel, or one for all"),
        ({"std": ()}, "one for each channel, or one for all"),
        ({"color": "L"}, "one for each channel, or one for all"),
        ({"resize": 0}, "sizes in pixels"),
        ({"resize": 10**9}, "sizes in pixels"),
        ({"crop": (8, 0)}, "sizes in pixels"),
    ],
)
def test_what_is_no_preprocessing_is_refused_in_a_sentence(options: dict[str, object], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        Preprocessing(**options)  # type: ignore[arg-type]


def test_what_is_said_comes_before_what_is_recorded_and_that_before_imagenet() -> None:
    nothing = AskedPreprocessing()
    assert nothing.over() == Preprocessing(MEAN, STD, None, None, "RGB")
    assert nothing.over(HALF) == HALF
    said = AskedPreprocessing(std=(1.0,), crop=(8, 8), color="RGB").over(HALF)
    assert said == Preprocessing(HALF.mean, (1.0,), 72, (8, 8), "RGB")
    both = AskedPreprocessing((0.1, 0.2, 0.3), (0.4, 0.5, 0.6)).over(HALF)
    assert (both.mean, both.std) == ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))


def test_grey_images_have_the_average_of_imagenet_whatever_is_recorded_of_colours() -> None:
    for recorded in (None, HALF):
        grey = AskedPreprocessing(color="L").over(recorded)
        assert grey == Preprocessing((sum(MEAN) / 3,), (sum(STD) / 3,), None, None, "L")


def test_a_note_says_what_is_taken_from_the_record_and_what_differs_from_it() -> None:
    assert AskedPreprocessing().note(None, "net.onnx") is None
    same = AskedPreprocessing(mean=(0.5,) * 3).note(HALF, "net.onnx")
    assert same == (
        "images are prepared as net.onnx records: mean 0.5 0.5 0.5, std 0.25 0.25 0.25, resize 72, crop 64×60, BGR"
    )
    other = AskedPreprocessing(resize=80).note(HALF, "net.onnx")
    assert other is not None and "resize 80" in other and "though net.onnx records" in other


@pytest.mark.parametrize("made", [Preprocessing(), HALF, Preprocessing((0.4,), (0.2,), None, None, "L")])
def test_a_record_survives_json(made: Preprocessing) -> None:
    assert from_record(json.loads(json.dumps(made.to_record())), "net.onnx") == made


@pytest.mark.parametrize("record", [None, {}])
def test_nothing_recorded_is_nothing(record: object) -> None:
    assert from_record(record, "net.onnx") is None


@pytest.mark.parametrize(
    "damage",
    [
        {"mean": "0.5"},
        {"mean": [None, 0, 0]},
        {"mean": [True, 0, 0]},
        {"mean": [0.1, 0.2]},
        {"mean": [10**400, 0, 0]},
        {"std": [0, 0, 0]},
        {"std": {"r": 1}},
        {"resize": "256"},
        {"resize": 2.5},
        {"crop": 3},
        {"crop": [1]},
        {"crop": {"h": 1}},
        {"color": "CMYK"},
        {"color": ["RGB"]},
        {"gamma": 2.2},
    ],
)
def test_a_damaged_record_is_one_sentence(damage: dict[str, object]) -> None:
    with pytest.raises(ArtifactError, match=r"The preprocessing recorded in 'net\.onnx' is damaged"):
        from_record({**HALF.to_record(), **damage}, "net.onnx")


@pytest.mark.parametrize("record", [[], [1], "RGB", 3, {"mean": [0.5]}])
def test_a_record_of_another_kind_is_one_sentence(record: object) -> None:
    with pytest.raises(ArtifactError, match="is damaged"):
        from_record(record, "net.onnx")
