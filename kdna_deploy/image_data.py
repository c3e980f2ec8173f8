"""Images from disk: folders (class folders too), ``.npy`` and ``.npz`` files → normalised batches.

    pixel/255 → (· − mean) / std        ImageNet's mean and standard deviation by default

A folder's images get their shorter side resized and are cropped to the centre, as for ImageNet: to 8/7 of the input
size (256 for 224), then to the input size. An image that already has the input size is taken as it is, unless a
resize or crop is asked for. Array files hold images [n, c, h, w] that are already normalised.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

from kdna_deploy.errors import InputError
from kdna_deploy.files import IMAGE_SUFFIXES
from kdna_deploy.runtimes.session import Images

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
_SUFFIXES = IMAGE_SUFFIXES
_DEEP_MODES = ("I", "F")
_BATCH = 8

Color = Literal["RGB", "BGR", "L"]


@dataclass(frozen=True)
class Preprocessing:
    """How an image file becomes network input.

    Attributes:
        mean, std: for each channel, of pixels in 0..1.
        resize: shorter side in pixels; None for 8/7 of the shorter side of the input.
        crop: centre crop (h, w); None for the input size. Another crop is scaled to the input size.
        color: channel order.
    """

    mean: tuple[float, ...] = MEAN
    std: tuple[float, ...] = STD
    resize: int | None = None
    crop: tuple[int, int] | None = None
    color: Color = "RGB"


@dataclass(frozen=True)
class ImageSource:
    """A folder or array file of images, read in a stream: any number fits.

    Attributes:
        path: the folder or file.
        image_shape: (c, h, w) that the network takes.
        preprocessing: for image files.
        on_unreadable: told each file that is no readable image; it is skipped.
    """

    path: Path
    image_shape: tuple[int, int, int]
    preprocessing: Preprocessing = field(default_factory=Preprocessing)
    on_unreadable: Callable[[Path], None] = lambda _: None

    def __len__(self) -> int:
        """Number of images, unreadable ones included."""
        if self.path.is_dir():
            return len(self._files())
        return sum(len(array) for array in _arrays(self.path, self.image_shape))

    def batches(self, batch: int | None = None) -> Iterator[Images]:
        """Batches of float32 images [n, c, h, w]; with `batch`, of exactly that size, an incomplete last left out.

        Raises:
            InputError: no images are there, or an array has another shape or NaN in it.
        """
        held: list[Images] = []
        count = 0
        for image in self._images():
            held.append(image)
            if len(held) == (batch or _BATCH):
                count += 1
                yield np.stack(held)
                held = []
        if held and batch is None:
            count += 1
            yield np.stack(held)
        if not count:
            raise InputError(f"'{self.path}' holds too few images: {len(held)}, at least {batch or 1} needed.")

    def _files(self) -> list[Path]:
        return image_files(self.path)

    def _images(self) -> Iterator[Images]:
        if not self.path.is_dir():
            yield from (image for array in _arrays(self.path, self.image_shape) for image in array)
            return
        channels, *size = self.image_shape
        if channels != len(self.preprocessing.mean):
            raise InputError(
                f"The network takes {channels} channels, but --mean has {len(self.preprocessing.mean)} values; "
                "give one for each channel, or an .npz of arrays."
            )
        for path in self._files():
            try:
                yield read_image(path, (size[0], size[1]), self.preprocessing)
            except InputError:
                self.on_unreadable(path)


def image_files(folder: Path) -> list[Path]:
    """Image files in a folder and the folders in it, by their suffix, sorted. Pipes, devices and folders are none."""
    named = (path for path in folder.rglob("*") if path.suffix.lower() in _SUFFIXES)
    return sorted(
        path for path in named if path.is_file() or not path.exists()
    )  # a broken link is told when it is read


def read_image(path: Path, size: tuple[int, int], preprocessing: Preprocessing | None = None) -> Images:
    """One image file as a normalised float32 array [c, h, w], (h, w) being `size`.

    Raises:
        InputError: it cannot be read.
    """
    preprocessing = preprocessing or Preprocessing()
    try:
        with Image.open(path) as opened:
            deep = opened.mode.startswith(_DEEP_MODES)
            image = opened.convert("L" if preprocessing.color == "L" else "RGB")
    except Exception as error:  # damaged bytes lead Pillow's decoders anywhere
        raise InputError(f"'{path}' is not an image that can be read; remove it or convert it to PNG.") from error
    if deep:
        raise InputError(f"'{path}' has more than 8 bits a channel, which Pillow would clip; convert it to 8 bits.")
    pixels = np.asarray(_fitted(image, size, preprocessing), dtype=np.float32) / 255.0
    pixels = pixels[..., np.newaxis] if pixels.ndim == 2 else pixels
    if preprocessing.color == "BGR":
        pixels = pixels[..., ::-1]
    normalised = (pixels - np.asarray(preprocessing.mean, np.float32)) / np.asarray(preprocessing.std, np.float32)
    return np.ascontiguousarray(normalised.transpose(2, 0, 1))


def _fitted(image: Image.Image, size: tuple[int, int], preprocessing: Preprocessing) -> Image.Image:
    height, width = size
    untouched = preprocessing.resize is None and preprocessing.crop is None
    if untouched and image.size == (width, height):
        return image
    crop_height, crop_width = preprocessing.crop or size
    shorter = preprocessing.resize or round(min(crop_height, crop_width) * 8 / 7)
    scale = max(shorter / min(image.size), crop_width / image.width, crop_height / image.height)
    resized = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BILINEAR)
    left, top = (resized.width - crop_width) // 2, (resized.height - crop_height) // 2
    cropped = resized.crop((left, top, left + crop_width, top + crop_height))
    return cropped if cropped.size == (width, height) else cropped.resize((width, height), Image.Resampling.BILINEAR)


def _arrays(path: Path, image_shape: tuple[int, int, int]) -> Iterator[Images]:
    if not path.is_file():
        raise InputError(f"There is no file or folder '{path}'.")
    try:
        loaded = np.load(path, allow_pickle=False)
        names = [None] if isinstance(loaded, np.ndarray) else loaded.files
        for name in names:
            array = loaded if name is None else loaded[name]
            _check(array, path, image_shape)
            yield array.astype(np.float32)
    except InputError:
        raise
    except Exception as error:  # damaged bytes lead NumPy's readers anywhere
        raise InputError(f"'{path}' is not a NumPy file of images; save it with numpy.savez.") from error


def _check(array: Images, path: Path, image_shape: tuple[int, int, int]) -> None:
    if array.shape[1:] != image_shape or array.dtype.kind != "f":
        raise InputError(
            f"'{path}' holds an array {array.dtype} {array.shape}; "
            f"the network takes float32 images [n, {', '.join(map(str, image_shape))}]."
        )
    if not np.isfinite(array).all():
        raise InputError(f"'{path}' holds NaN or infinite values; check how it was made.")
