"""What a file takes and returns: pixels there and back, exactly; what sessions return; records that are no such."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from kdna_deploy.errors import ArtifactError, InputError
from kdna_deploy.images.interface import KEY, PLAIN, Interface, interface_of, normalised
from kdna_deploy.images.preprocessing import Preprocessing

IMAGENET = Preprocessing()
KINDS = [
    IMAGENET,
    Preprocessing((0.5,), (0.5,)),
    Preprocessing((0.1, 0.2, 0.3), (1.0, 0.9, 0.002), color="BGR"),
    Preprocessing((0.13,), (0.31,), color="L"),
]


def every_pixel(channels: int) -> np.ndarray:
    """[2, 16, 8, c]: each value from 0 to 255 in each channel."""
    values = np.random.default_rng(0)
    return np.stack([values.permutation(256).astype(np.uint8) for _ in range(channels)], -1).reshape(2, 16, 8, channels)


@pytest.mark.parametrize("preprocessing", KINDS)
def test_pixels_are_found_again_exactly_in_either_layout(preprocessing: Preprocessing) -> None:
    pixels = every_pixel(preprocessing.channels)
    images = normalised(pixels, preprocessing)
    assert images.dtype == np.float32 and images.shape == (2, preprocessing.channels, 16, 8)
    last, first = Interface("nhwc", preprocessing), Interface("nchw", preprocessing)
    assert np.array_equal(last.taken(images), pixels)
    assert np.array_equal(first.taken(images), pixels.transpose(0, 3, 1, 2))
    assert first.taken(images).flags.c_contiguous
    assert last.taken(pixels) is pixels
    assert np.array_equal(first.laid_out(pixels[0]), pixels[0].transpose(2, 0, 1))
    assert last.shape(images.shape[1:]) == (16, 8, preprocessing.channels)  # type: ignore[arg-type]
    assert last.image_shape((16, 8, 3)) == first.image_shape((3, 16, 8)) == (3, 16, 8)


@pytest.mark.parametrize("preprocessing", KINDS[:2])
def test_pixels_are_normalised_as_torchvision_does_bit_for_bit(preprocessing: Preprocessing) -> None:
    torch = pytest.importorskip("torch")
    pixels = every_pixel(3)
    mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (preprocessing.mean, preprocessing.std))
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous().float().div(255)
    assert np.array_equal(normalised(pixels, preprocessing), images.sub_(mean).div_(std).numpy())


def test_images_that_were_never_pixels_become_the_nearest() -> None:
    black_and_white = Interface("nchw", Preprocessing((0.0,), (1.0,)))
    taken = black_and_white.taken(np.array([-3.0, 0.5001, 7.0], np.float32).reshape(1, 3, 1, 1))
    assert taken.ravel().tolist() == [0, 128, 255]
    images = np.zeros((1, 3, 2, 2), np.float32)
    assert PLAIN.plain and PLAIN.taken(images) is images


def test_classes_that_are_not_named_are_minus_infinity() -> None:
    named = [np.array([[0.75, 0.125]], np.float32), np.array([[3, 0]])]
    ((row,),) = Interface(softmax=True, top=2, classes=4).returned(named)
    assert row.tolist() == [0.125, -np.inf, -np.inf, 0.75]
    assert Interface(softmax=True).returned(named[:1]) == (named[0],)


@pytest.mark.parametrize("interface", [Interface("nhwc", KINDS[2]), Interface("nchw", IMAGENET, True, 5, 10), PLAIN])
def test_a_record_is_read_as_it_was_written(interface: Interface) -> None:
    options = json.loads(json.dumps({KEY: interface.to_record()}))
    assert interface_of(options, interface.preprocessing.to_record(), "net.onnx") == interface
    assert interface_of({}, {}, "net.onnx") is PLAIN


@pytest.mark.parametrize(
    ("changed", "preprocessing", "says"),
    [
        ({"layout": "hwc"}, IMAGENET.to_record(), "is damaged"),
        ({"top": -1}, IMAGENET.to_record(), "is damaged"),
        ({"classes": 1 << 40}, IMAGENET.to_record(), "is damaged"),
        ({"top": 3, "classes": 2}, IMAGENET.to_record(), "is incomplete"),
        ({"top": 3}, IMAGENET.to_record(), "is incomplete"),
        ({}, {}, "is incomplete"),
        ({}, {"mean": 1}, "preprocessing recorded in 'net.onnx' is damaged"),
    ],
)
def test_a_damaged_record_is_refused(changed: dict[str, Any], preprocessing: dict[str, Any], says: str) -> None:
    record = {**Interface("nhwc").to_record(), **changed}
    with pytest.raises(ArtifactError, match=says):
        interface_of({KEY: record}, preprocessing, "net.onnx")


def test_images_prepared_otherwise_are_refused_where_the_file_does_it() -> None:
    takes = Interface("nhwc", Preprocessing((0.5,), (0.25,)))
    takes.require_preprocessing(Preprocessing((0.5, 0.5, 0.5), (0.25,), resize=40), "net.onnx")
    PLAIN.require_preprocessing(Preprocessing((0.1,), (0.1,)), "net.onnx")
    for other in (Preprocessing((0.4,), (0.25,)), Preprocessing((0.5,), (0.25,), color="BGR"), IMAGENET):
        with pytest.raises(InputError, match=r"net\.onnx takes pixels and normalises them by itself, with mean 0\.5"):
            takes.require_preprocessing(other, "net.onnx")
