"""Images from disk: folders (class folders too), ``.npy`` and ``.npz`` files → normalised batches.

A folder's images get their shorter side resized and are cropped to the centre, as for ImageNet: to 8/7 of the input
size (256 for 224), then to the input size. An image that already has the input size is taken as it is, unless a
resize or crop is asked for. Array files hold images [n, c, h, w] that are already normalised.
"""

from __future__ import annotations

import itertools
import os
import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from kdna_deploy.errors import InputError
from kdna_deploy.images.arrays import count_arrays, read_arrays
from kdna_deploy.images.batch import Images
from kdna_deploy.images.file import ImageBytes, UnreadableImage, check_pixels, open_image, pillow_silenced
from kdna_deploy.images.interface import Pixels, normalised
from kdna_deploy.images.preprocessing import MEAN, STD, Color, Preprocessing
from kdna_deploy.kinds import IMAGE_SUFFIXES
from kdna_deploy.progress import SILENT, Listener

__all__ = ["MEAN", "STD", "Color", "ImageSource", "Preprocessing", "image_files", "read_image"]

_BATCH = 8


@dataclass(frozen=True)
class ImageSource:
    """A folder or array file of images, read in a stream: any number fits.

    Attributes:
        path: the folder or file.
        image_shape: (c, h, w) that the network takes.
        preprocessing: for image files.
        listener: told each file that is no readable image, with the reason; it is skipped.
    """

    path: Path
    image_shape: tuple[int, int, int]
    preprocessing: Preprocessing = field(default_factory=Preprocessing)
    listener: Listener = SILENT

    def __len__(self) -> int:
        """Number of images, unreadable ones included."""
        if self.path.is_dir():
            return len(self._files())
        return count_arrays(self.path, self.image_shape)

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

    def drawn(self, most: int, seed: int = 0) -> Iterator[Images]:
        """Batches of `most` images at random, of all where there are no more, in random order.

        A folder's own order is that of its classes: the images of a batch of `batches` have one or two of them.

        Raises:
            InputError: no images are there, or an array has another shape or NaN in it.
        """
        places = random.Random(seed).sample(range(len(self)), min(most, len(self)))
        if self.path.is_dir():
            files = self._files()
            images = self._read([files[place] for place in places])
        else:
            wanted = set(places)
            kept = {place: image for place, image in enumerate(self._images()) if place in wanted}
            images = (kept[place] for place in places)
        first = True
        while batch := list(itertools.islice(images, _BATCH)):
            yield np.stack(batch)
            first = False
        if first:
            raise InputError(f"'{self.path}' holds no image that can be read.")

    def _files(self) -> list[Path]:
        return image_files(self.path)

    def _images(self) -> Iterator[Images]:
        if not self.path.is_dir():
            yield from (image for array in read_arrays(self.path, self.image_shape) for image in array)
            return
        yield from self._read(self._files())

    def _read(self, files: Iterable[Path]) -> Iterator[Images]:
        check_channels(self.image_shape, self.preprocessing)
        for path in files:
            try:
                with pillow_silenced():
                    image = read_image(path, self.image_shape[1:], self.preprocessing)
            except UnreadableImage as error:
                self.listener.skip(path, error.reason)
            else:
                yield image


def check_channels(image_shape: tuple[int, int, int], preprocessing: Preprocessing) -> None:
    """Refuse image files of other channels than the network takes.

    Raises:
        InputError: they are.
    """
    if image_shape[0] != preprocessing.channels:
        raise InputError(
            f"The network takes {image_shape[0]} channels, but `mean` has {len(preprocessing.mean)} values and `color` "
            f"is {preprocessing.color}; give `color='L'` for grey images, or an .npz of arrays."
        )


def image_files(folder: Path, deep: bool = True) -> list[Path]:
    """Image files in a folder, and with `deep` in the folders in it, by their suffix, sorted; hidden ones left out.

    Pipes, devices and folders are none; a broken link is told when it is read.
    """
    found = files_within(folder) if deep else (path for path in folder.iterdir() if not path.name.startswith("."))
    return sorted(
        path for path in found if path.suffix.lower() in IMAGE_SUFFIXES if path.is_file() or not path.exists()
    )


def other_files(folder: Path) -> list[Path]:
    """Files in a folder and the folders in it whose suffix is no image's; hidden ones left out."""
    return sorted(path for path in files_within(folder) if path.suffix.lower() not in IMAGE_SUFFIXES and path.is_file())


def files_within(folder: Path) -> Iterator[Path]:
    """All but folders in a folder and the folders in it; what is hidden is left out.

    Links to folders are followed, once each and after what lies in the folder itself, unless they lead back to a folder
    that they lie in.
    """
    here, seen, tops = os.path.realpath(folder), set[str](), [folder]
    for top in tops:  # links add to them
        for place, folders, files in os.walk(top):
            real = os.path.realpath(place)
            if real in seen:
                folders.clear()
                continue
            seen.add(real)
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            links = (path for name in folders if (path := Path(place, name)).is_symlink())
            tops += [path for path in links if not _leads_back(path, here, real)]
            yield from (Path(place, name) for name in files if not name.startswith("."))


def _leads_back(link: Path, *places: str) -> bool:
    target = os.path.realpath(link)
    return any(Path(place).is_relative_to(target) for place in places)


def read_image(source: Path | ImageBytes, size: tuple[int, int], preprocessing: Preprocessing | None = None) -> Images:
    """One image file as a normalised float32 array [c, h, w], (h, w) being `size`.

    Raises:
        UnreadableImage: it cannot be read.
    """
    preprocessing = preprocessing or Preprocessing()
    path = source.path if isinstance(source, ImageBytes) else source
    return prepared(decoded(source, preprocessing), size, preprocessing, path)


def decoded(source: Path | ImageBytes, preprocessing: Preprocessing) -> Image.Image:
    """The picture in an image file, upright, in the colours that `preprocessing` starts from.

    Raises:
        UnreadableImage: it cannot be read.
    """
    return open_image(source, "L" if preprocessing.color == "L" else "RGB")


def prepared(image: Image.Image, size: tuple[int, int], preprocessing: Preprocessing, path: Path) -> Images:
    """A picture as a normalised float32 array [c, h, w], (h, w) being `size`; `path` is what it is called.

    Raises:
        UnreadableImage: it would have to be enlarged beyond bounds.
    """
    return normalised(pixels_of(image, size, preprocessing, path), preprocessing)


def pixels_of(image: Image.Image, size: tuple[int, int], preprocessing: Preprocessing, path: Path) -> Pixels:
    """The same, resized and cropped alone: uint8 [h, w, c], in RGB or grey.

    Raises:
        UnreadableImage: as `prepared`.
    """
    pixels = np.asarray(_fitted(image, size, preprocessing, path))
    return pixels[..., np.newaxis] if pixels.ndim == 2 else pixels


def _fitted(image: Image.Image, size: tuple[int, int], preprocessing: Preprocessing, path: Path) -> Image.Image:
    untouched = preprocessing.resize is None and preprocessing.crop is None
    if untouched and image.size == size[::-1]:
        return image
    crop_height, crop_width = preprocessing.crop or size
    shorter = preprocessing.resize or round(min(crop_height, crop_width) * 8 / 7)
    scale = max(shorter / min(image.size), crop_width / image.width, crop_height / image.height)
    width, height = round(image.width * scale), round(image.height * scale)
    check_pixels(path, width, height, f"{image.width}×{image.height} pixels would have to be resized to")
    resized = image.resize((width, height), Image.Resampling.BILINEAR)
    left, top = (resized.width - crop_width) // 2, (resized.height - crop_height) // 2
    cropped = resized.crop((left, top, left + crop_width, top + crop_height))
    return cropped if cropped.size == size[::-1] else cropped.resize(size[::-1], Image.Resampling.BILINEAR)
