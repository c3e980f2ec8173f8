"""Decoding in threads: what comes out is what one thread reads, in the same order."""

from __future__ import annotations

import threading
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kdna_deploy.images.decoding import decoded_in_order
from kdna_deploy.images.file import UnreadableImage
from kdna_deploy.images.folder import read_image
from kdna_deploy.images.preprocessing import Preprocessing


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """Images of very different sizes, so that threads overtake each other, and two that are none."""
    for n in range(12):
        side = 400 if n % 5 == 0 else 9
        noise = np.random.default_rng(n).integers(0, 256, (side, side, 3), np.uint8)
        Image.fromarray(noise).save(tmp_path / f"{n:02}.png")
    (tmp_path / "05.png").write_bytes(b"no image")
    return [*sorted(tmp_path.iterdir()), tmp_path / "gone.png"]


@pytest.mark.parametrize("threads", [None, 1, 3, 40])
def test_threads_change_neither_the_images_nor_their_order(files: list[Path], threads: int | None) -> None:
    found = list(decoded_in_order(files, (8, 8), Preprocessing(), threads))
    assert [path for path, _ in found] == files
    for path, image in found:
        if path.name in ("05.png", "gone.png"):
            assert isinstance(image, UnreadableImage)
        else:
            assert np.array_equal(image, read_image(path, (8, 8)))


def test_what_is_not_wanted_any_more_ends_and_leaves_nothing(files: list[Path]) -> None:
    before, filters = threading.active_count(), list(warnings.filters)
    images = decoded_in_order(files * 20, (8, 8), Preprocessing(), 2)
    next(images)
    images.close()  # type: ignore[attr-defined]
    assert threading.active_count() == before and warnings.filters == filters


def test_pillows_warnings_are_silenced_and_no_others(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.jpg", exif=b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01")
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        read_image(tmp_path / "a.jpg", (8, 8))
        alone = len(heard)
        for _ in decoded_in_order([tmp_path / "a.jpg"], (8, 8), Preprocessing(), 2):
            warnings.warn("of somebody else", stacklevel=1)
    assert alone > 0
    assert [str(one.message) for one in heard[alone:]] == ["of somebody else"]
