"""Images from folders and array files."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kdna_deploy.errors import InputError
from kdna_deploy.images.folder import ImageSource, Preprocessing, image_files, other_files, read_image
from kdna_deploy.images.record import images_sha256
from tests.conftest import SAMPLES
from tests.recorded import Recorded

SHAPE = (3, 8, 8)
DIGIT = SAMPLES / "digits" / "0"


def load(path: Path, image_shape: tuple[int, int, int] = SHAPE, batch: int | None = None) -> list[np.ndarray]:
    return list(ImageSource(path, image_shape).batches(batch))


def normalised(pixels: np.ndarray) -> np.ndarray:
    """The published preprocessing of uint8 pixels [h, w, 3], spelt out."""
    mean, std = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    return np.stack([(pixels[:, :, c] / 255 - mean[c]) / std[c] for c in range(3)])


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_an_image_of_the_right_size_is_normalised_and_nothing_else(tmp_path: Path) -> None:
    pixels = noise(6, 10)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    image = read_image(tmp_path / "a.png", (6, 10))
    assert image.dtype == np.float32
    assert image.shape == (3, 6, 10)
    assert np.abs(image - normalised(pixels)).max() < 1e-6


def test_a_folder_of_class_folders_gives_every_image_in_order_of_its_path(tmp_path: Path) -> None:
    for number, name in enumerate(["cat/2.png", "ant/1.PNG", "cat/1.bmp", "top.png"]):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(noise(8, 8, seed=number)).save(path)
    (tmp_path / "cat" / "labels.txt").write_text("not an image")
    (batch,) = load(tmp_path)
    assert batch.shape == (4, *SHAPE)
    for image, seed in zip(batch, [1, 2, 0, 3], strict=True):
        assert np.abs(image - normalised(noise(8, 8, seed))).max() < 1e-6


def test_the_sample_images_come_whole_and_in_batches() -> None:
    batches = load(SAMPLES / "digits", (3, 64, 64))
    assert [len(batch) for batch in batches] == [8, 8, 8, 8, 8, 8, 2]


def test_a_fixed_batch_leaves_the_incomplete_one_out() -> None:
    assert [len(batch) for batch in load(DIGIT, (3, 64, 64), batch=2)] == [2, 2]


def test_images_are_drawn_at_random_each_once_and_equal_seeds_draw_equal_ones(tmp_path: Path) -> None:
    every = np.concatenate(load(SAMPLES / "digits"))
    source = ImageSource(SAMPLES / "digits", SHAPE)
    drawn = np.concatenate(list(source.drawn(1000)))
    assert sorted(map(bytes, drawn)) == sorted(map(bytes, every)) and not np.array_equal(drawn, every)
    some = np.concatenate(list(source.drawn(20, seed=3)))
    assert len({bytes(image) for image in some} & {bytes(image) for image in every}) == len(some) == 20
    assert np.array_equal(some, np.concatenate(list(source.drawn(20, seed=3))))
    np.save(tmp_path / "digits.npy", every)
    of_array = ImageSource(tmp_path / "digits.npy", SHAPE)
    assert np.array_equal(some, np.concatenate(list(of_array.drawn(20, seed=3))))


def test_fewer_images_than_the_fixed_batch_are_refused() -> None:
    with pytest.raises(InputError, match="too few images: 5, at least 6 needed"):
        load(DIGIT, (3, 64, 64), batch=6)


@pytest.mark.parametrize("mode", ["L", "LA", "1", "P"])
def test_a_grey_image_gives_three_equal_channels(tmp_path: Path, mode: str) -> None:
    grey = np.where(noise(8, 8)[:, :, 0] > 127, 255, 0).astype(np.uint8)
    Image.fromarray(grey).convert(mode).save(tmp_path / "grey.png")
    image = read_image(tmp_path / "grey.png", (8, 8))
    assert np.abs(image - normalised(np.repeat(grey[:, :, None], 3, axis=2))).max() < 1e-6


@pytest.mark.parametrize(("height", "width"), [(8, 24), (16, 48), (24, 8), (4, 12)])
def test_an_image_of_another_size_is_resized_to_cover_and_cropped_to_its_centre(
    tmp_path: Path, height: int, width: int
) -> None:
    # Red, green and blue thirds along the longer side: what is left of them is green.
    pixels = np.zeros((height, width, 3), np.uint8)
    along = pixels if width > height else pixels.transpose(1, 0, 2)
    third = max(height, width) // 3
    for colour in range(3):
        along[:, colour * third : (colour + 1) * third, colour] = 255
    Image.fromarray(pixels).save(tmp_path / "thirds.png")
    image = read_image(tmp_path / "thirds.png", (8, 8))
    assert image.shape == SHAPE
    green = normalised(np.full((8, 8, 3), [0, 255, 0], np.uint8))
    assert np.abs(image - green)[:, 2:6, 2:6].max() < 1e-6


def test_resizing_keeps_the_proportions(tmp_path: Path) -> None:
    Image.fromarray(np.full((10, 30, 3), 200, np.uint8)).save(tmp_path / "a.png")
    image = read_image(tmp_path / "a.png", (20, 40))
    assert image.shape == (3, 20, 40)
    assert np.abs(image - normalised(np.full((20, 40, 3), 200, np.uint8))).max() < 1e-6


def resized(pixels: np.ndarray, width: int, height: int, crop: tuple[int, int]) -> np.ndarray:
    """The pixels at another size, and of that the centre (h, w)."""
    whole = Image.fromarray(pixels).resize((width, height), Image.Resampling.BILINEAR)
    left, top = (width - crop[1]) // 2, (height - crop[0]) // 2
    return np.asarray(whole.crop((left, top, left + crop[1], top + crop[0])))


@pytest.mark.parametrize(("resize", "shorter"), [(24, 24), (16, 16), (40, 40)])
def test_a_resize_that_is_asked_for_concerns_images_of_the_input_size_too(
    tmp_path: Path, resize: int, shorter: int
) -> None:
    pixels = noise(16, 16)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    image = read_image(tmp_path / "a.png", (16, 16), Preprocessing(resize=resize))
    assert np.abs(image - normalised(resized(pixels, shorter, shorter, (16, 16)))).max() < 1e-6


def test_a_crop_that_is_asked_for_concerns_images_of_the_input_size_too(tmp_path: Path) -> None:
    """8/7 of the crop's shorter side, 7, is 8: the whole image at half its size, cropped, and scaled to the input."""
    pixels = noise(16, 16)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    image = read_image(tmp_path / "a.png", (16, 16), Preprocessing(crop=(7, 7)))
    cropped = Image.fromarray(resized(pixels, 8, 8, (7, 7))).resize((16, 16), Image.Resampling.BILINEAR)
    assert np.abs(image - normalised(np.asarray(cropped))).max() < 1e-6


@pytest.mark.parametrize(
    ("size", "image", "scaled"),
    [
        ((14, 14), (30, 60), (16, 32)),  # 8/7 of 14 is 16, for the image's shorter side
        ((14, 21), (60, 120), (16, 32)),  # the shorter side of the input counts, not its width
        ((21, 14), (120, 60), (32, 16)),
        ((14, 28), (60, 60), (28, 28)),  # 16 would not cover the width
        ((28, 14), (60, 60), (28, 28)),
    ],
)
def test_by_default_the_shorter_side_becomes_8_sevenths_of_the_inputs_shorter_side(
    tmp_path: Path, size: tuple[int, int], image: tuple[int, int], scaled: tuple[int, int]
) -> None:
    pixels = noise(*image)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    found = read_image(tmp_path / "a.png", size)
    assert np.abs(found - normalised(resized(pixels, scaled[1], scaled[0], size))).max() < 1e-6


@pytest.mark.parametrize("content", [b"", b"hello", b"\x89PNG\r\n\x1a\n", b"P6 6m 4 255\n", b"BM" + b"\xff" * 60])
def test_an_unreadable_image_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "broken.png").write_bytes(content)
    with pytest.raises(InputError, match=r"broken\.png' is not an image that can be read"):
        read_image(tmp_path / "broken.png", (8, 8))


def test_unreadable_images_of_a_folder_are_skipped_and_reported(tmp_path: Path) -> None:
    whole = next(DIGIT.glob("*.png")).read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "whole.png").write_bytes(whole)
    heard = Recorded()
    (batch,) = ImageSource(tmp_path, (3, 64, 64), listener=heard).batches()
    assert len(batch) == 1
    assert [(path.name, "truncated" in reason) for path, reason in heard.skipped] == [("cut.png", True)]


def test_an_image_of_32_bits_is_refused_rather_than_clipped(tmp_path: Path) -> None:
    Image.fromarray(np.full((8, 8), 1000, np.int32)).save(tmp_path / "deep.tif")
    with pytest.raises(InputError, match="convert it to 8 bits"):
        read_image(tmp_path / "deep.tif", (8, 8))


def test_preprocessing_is_what_it_says(tmp_path: Path) -> None:
    pixels = noise(32, 48)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    centre = pixels[8:24, 16:32]
    plain = Preprocessing(mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0), resize=32, crop=(16, 16))
    read = read_image(tmp_path / "a.png", (16, 16), plain)
    assert np.abs(read - centre.transpose(2, 0, 1) / 255).max() < 1e-6
    swapped = read_image(tmp_path / "a.png", (16, 16), replace(plain, color="BGR"))
    assert np.array_equal(swapped, read[::-1])
    grey = read_image(tmp_path / "a.png", (16, 16), Preprocessing((0.0,), (1.0,), 32, (16, 16), "L"))
    assert grey.shape == (1, 16, 16)


def test_images_are_resized_to_eight_sevenths_and_cropped_as_for_imagenet(tmp_path: Path) -> None:
    ramp = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 256, axis=0).repeat(3, axis=2)
    Image.fromarray(ramp).save(tmp_path / "ramp.png")
    plain = Preprocessing(mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    image = read_image(tmp_path / "ramp.png", (224, 224), plain)
    assert np.array_equal(image[0, 0] * 255, np.arange(16, 240))


def test_a_folder_is_refused_when_the_network_does_not_take_rgb() -> None:
    with pytest.raises(InputError, match=r"takes 1 channels, but `mean` has 3 values"):
        load(DIGIT, (1, 64, 64))


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
def test_an_npy_file_holds_images_as_the_network_takes_them(tmp_path: Path, dtype: type) -> None:
    images = np.random.default_rng(0).normal(size=(11, *SHAPE)).astype(dtype)
    np.save(tmp_path / "images.npy", images)
    batches = load(tmp_path / "images.npy")
    assert [len(batch) for batch in batches] == [8, 3]
    assert all(batch.dtype == np.float32 for batch in batches)
    assert np.array_equal(np.concatenate(batches), images.astype(np.float32))


def test_an_npz_file_gives_the_images_of_all_its_arrays(tmp_path: Path) -> None:
    first, second = np.zeros((2, *SHAPE), np.float32), np.ones((3, *SHAPE), np.float32)
    np.savez(tmp_path / "images.npz", first=first, second=second)
    (batch,) = load(tmp_path / "images.npz")
    assert np.array_equal(batch, np.concatenate([first, second]))


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((2, 3, 9, 8), np.float32),
        np.zeros((2, 8, 8, 3), np.float32),
        np.zeros((3, 8, 8), np.float32),
        np.zeros((), np.float32),
        np.zeros((2, 3, 8, 8), np.uint8),
        np.zeros((2, 3, 8, 8), np.complex64),
    ],
)
def test_an_array_of_another_shape_or_type_is_refused_with_the_wanted_one(tmp_path: Path, array: np.ndarray) -> None:
    np.save(tmp_path / "a.npy", array)
    with pytest.raises(InputError, match=r"takes float32 images \[n, 3, 8, 8\]"):
        load(tmp_path / "a.npy")


class Spy:
    """Leaves a mark when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return Path.touch, (self.mark,)


@pytest.mark.parametrize("name", ["a.npy", "a.npz"])
def test_a_pickled_array_is_refused_and_never_unpickled(tmp_path: Path, name: str) -> None:
    mark = tmp_path / "mark"
    array = np.empty(1, dtype=object)
    array[0] = Spy(mark)
    (np.save if name.endswith("npy") else np.savez)(tmp_path / name, array)
    with pytest.raises(InputError, match="is not a NumPy file of images"):
        load(tmp_path / name)
    assert not mark.exists()


@pytest.mark.parametrize("name", ["a.npy", "a.npz"])
def test_a_damaged_array_file_is_refused(tmp_path: Path, name: str) -> None:
    (np.save if name.endswith("npy") else np.savez)(tmp_path / name, np.zeros((2, *SHAPE), np.float32))
    whole = (tmp_path / name).read_bytes()
    for damaged in (whole[: len(whole) // 2], whole[:9], b"", b"text"):
        (tmp_path / name).write_bytes(damaged)
        with pytest.raises(InputError, match=name):
            load(tmp_path / name)


def test_an_empty_folder_an_empty_array_and_a_missing_path_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="too few images: 0"):
        load(tmp_path)
    np.save(tmp_path / "none.npy", np.zeros((0, *SHAPE), np.float32))
    with pytest.raises(InputError, match="too few images: 0"):
        load(tmp_path / "none.npy")
    with pytest.raises(InputError, match="There is no file or folder"):
        load(tmp_path / "nowhere")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes")
def test_pipes_and_folders_with_the_name_of_an_image_are_none_and_a_broken_link_is_told(tmp_path: Path) -> None:
    Image.fromarray(noise(8, 8)).save(tmp_path / "a.png")
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "link.png").symlink_to("nowhere")
    heard = Recorded()
    source = ImageSource(tmp_path, SHAPE, listener=heard)
    assert [len(batch) for batch in source.batches()] == [1]
    assert [path for path, _ in heard.skipped] == [tmp_path / "link.png"]


def linked(folder: Path, links: dict[str, str]) -> Path:
    """The folder ``data`` with links, beside a folder of pictures elsewhere."""
    for number, name in enumerate(["data/ant/1.png", "data/cow.png", "elsewhere/n01/1.png", "elsewhere/n01/.2.png"]):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(noise(8, 8, seed=number)).save(folder / name)
    (folder / "elsewhere" / "list.txt").write_text("not an image")
    for name, target in links.items():
        (folder / name).symlink_to(folder / target, target_is_directory=True)
    return folder / "data"


BEE = ["ant/1.png", "bee/1.png", "cow.png"]


@pytest.mark.skipif(os.name == "nt", reason="links need rights")
@pytest.mark.parametrize(
    ("links", "found"),
    [
        ({}, ["ant/1.png", "cow.png"]),
        ({"data/bee": "elsewhere/n01"}, BEE),
        ({"data/all": "elsewhere"}, ["all/n01/1.png", "ant/1.png", "cow.png"]),
        # Once each, and by their own names where they lie in the folder.
        ({"data/aaa": "data/ant", "data/bee": "elsewhere/n01", "data/fly": "elsewhere/n01"}, BEE),
        # None that leads back, from wherever it lies.
        ({"data/bee": "elsewhere/n01", "data/same": "data", "data/ant/up": "data", "data/over": "."}, BEE),
        ({"data/bee": "elsewhere/n01", "elsewhere/n01/back": "data", "elsewhere/n01/over": "elsewhere"}, BEE),
        ({"data/bee": "elsewhere/n01", "data/.hidden": "elsewhere"}, BEE),
    ],
)
def test_links_to_folders_are_followed_once_and_never_back(
    tmp_path: Path, links: dict[str, str], found: list[str]
) -> None:
    data = linked(tmp_path, links)
    assert image_files(data) == [data / name for name in found]
    assert other_files(data) == ([data / "all" / "list.txt"] if "data/all" in links else [])


@pytest.mark.skipif(os.name == "nt", reason="links need rights")
def test_images_of_linked_folders_calibrate_and_are_recorded(tmp_path: Path) -> None:
    data = linked(tmp_path, {"data/bee": "elsewhere/n01"})
    (images,) = load(data)
    expected = [normalised(noise(8, 8, seed)) for seed in (0, 2, 1)]
    assert np.abs(images - np.stack(expected)).max() < 1e-6
    shutil.copytree(data, tmp_path / "copied")  # what the links lead to
    assert images_sha256(data) == images_sha256(tmp_path / "copied")
