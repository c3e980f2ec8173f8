"""Images from disk: folders (class folders too), ``.npy`` and ``.npz`` files → normalised batches.

    pixel/255 → (· − mean) / std     RGB, ImageNet mean and standard deviation

A folder's images are resized so that they cover the wanted size and cropped to its centre; where they already have
it, they stay as they are. Array files hold images [n, c, h, w] that are already normalised.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from kdna_deploy.errors import InputError
from kdna_deploy.runtimes.session import Images

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".gif"})
_BATCH = 8


def load_batches(path: Path, image_shape: tuple[int, int, int], batch: int | None = None) -> Iterator[Images]:
    """Batches of float32 images [n, c, h, w]; with `batch`, of exactly that size, an incomplete last one left out.

    Raises:
        InputError: no images are there, an image cannot be read, or an array has another shape.
    """
    images = _from_folder(path, image_shape) if path.is_dir() else _from_arrays(path, image_shape)
    held: list[np.ndarray] = []
    count = 0
    for image in images:
        held.append(image)
        if len(held) == (batch or _BATCH):
            count += 1
            yield np.stack(held)
            held = []
    if held and batch is None:
        count += 1
        yield np.stack(held)
    if not count:
        raise InputError(f"'{path}' holds too few images: {len(held)}, at least {batch or 1} needed.")


def read_image(path: Path, size: tuple[int, int]) -> Images:
    """One image file as a normalised float32 array [3, h, w].

    Raises:
        InputError: it cannot be read.
    """
    height, width = size
    try:
        with Image.open(path) as opened:
            image = opened.convert("RGB")
    except (UnidentifiedImageError, OSError) as error:
        raise InputError(f"'{path}' is not an image that can be read; remove it or convert it to PNG.") from error
    if image.size != (width, height):
        image = ImageOps.fit(image, (width, height), Image.Resampling.BILINEAR)
    pixels = np.asarray(image, dtype=np.float32) / 255.0
    normalised = (pixels - np.asarray(MEAN, np.float32)) / np.asarray(STD, np.float32)
    return np.ascontiguousarray(normalised.transpose(2, 0, 1))


def _from_folder(folder: Path, image_shape: tuple[int, int, int]) -> Iterator[Images]:
    channels, *size = image_shape
    if channels != len(MEAN):
        raise InputError(f"Image folders are RGB, but the network takes {channels} channels; give an .npz instead.")
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in _SUFFIXES)
    return (read_image(path, (size[0], size[1])) for path in files)


def _from_arrays(path: Path, image_shape: tuple[int, int, int]) -> Iterator[Images]:
    if not path.is_file():
        raise InputError(f"There is no file or folder '{path}'.")
    try:
        loaded = np.load(path, allow_pickle=False)
        arrays = [loaded] if isinstance(loaded, np.ndarray) else [loaded[name] for name in loaded.files]
    except (ValueError, OSError, EOFError) as error:
        raise InputError(f"'{path}' is not a NumPy file of images; save it with numpy.savez.") from error
    for array in arrays:
        if array.shape[1:] != image_shape or array.dtype.kind != "f":
            raise InputError(
                f"'{path}' holds an array {array.dtype} {array.shape}; "
                f"the network takes float32 images [n, {', '.join(map(str, image_shape))}]."
            )
    return (image.astype(np.float32) for array in arrays for image in array)
