"""Labelled images: a folder with one folder of images for each class → normalised batches with labels.

Which label a folder stands for is told in `class_folders.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kdna_deploy.errors import InputError
from kdna_deploy.images.batch import Images
from kdna_deploy.images.class_folders import ClassFolders, read_class_folders
from kdna_deploy.images.file import UnreadableImage
from kdna_deploy.images.folder import Preprocessing, check_channels, image_files, read_image
from kdna_deploy.progress import SILENT, Listener

Labels = NDArray[np.int64]

FILLER = -1  # label of an image that only fills up a batch


@dataclass(frozen=True)
class LabelledImages:
    """A folder of class folders, read in a stream.

    Attributes:
        path: the folder.
        image_shape: (c, h, w) that the network takes.
        preprocessing: of the images.
        listener: told each file that is no readable image, with the reason; it is skipped.
        class_names: of the network's classes, in their order; empty where they are not known.
    """

    path: Path
    image_shape: tuple[int, int, int]
    preprocessing: Preprocessing = field(default_factory=Preprocessing)
    listener: Listener = SILENT
    class_names: tuple[str, ...] = ()

    def __len__(self) -> int:
        """Number of images, unreadable ones included."""
        return len(self.files)

    @cached_property
    def folders(self) -> ClassFolders:
        """The class folders.

        Raises:
            InputError: there are none, or they can be read in two ways.
        """
        return read_class_folders(self.path, self.class_names)

    @property
    def classes(self) -> dict[int, str]:
        """Label → name of its folder."""
        return self.folders.labels

    def check(self, outputs: int) -> None:
        """Refuse folders that cannot be the classes of a network with so many outputs.

        Raises:
            InputError: they cannot.
        """
        problem = self.folders.problem(outputs)
        if problem:
            raise InputError(
                f"{problem}; give a folder for every class, or name the folders by the numbers of their classes."
            )

    def stream(self, files: Iterable[tuple[Path, int]] | None = None) -> Iterator[tuple[Images, int]]:
        """Each image [c, h, w] that can be read, with its label; of `files`, or of all."""
        check_channels(self.image_shape, self.preprocessing)
        for path, label in self.files if files is None else files:
            try:
                image = read_image(path, self.image_shape[1:], self.preprocessing)
            except UnreadableImage as error:
                self.listener.skip(path, error.reason)
                continue
            yield image, label

    def batches(self, batch: int, fixed: bool = False) -> Iterator[tuple[Images, Labels]]:
        """Batches of float32 images [n, c, h, w] with their labels [n].

        With `fixed`, the last batch is filled up by repeating its last image, with the label `FILLER`.

        Raises:
            InputError: no image can be read.
        """
        count = 0
        for images, labels in in_batches(self.stream(), batch, fixed):
            count += len(images)
            yield images, labels
        if not count:
            raise InputError(f"None of the {len(self)} files in '{self.path}' is an image that can be read.")

    @cached_property
    def files(self) -> tuple[tuple[Path, int], ...]:
        """Every image file with its label, class by class."""
        found = ((file, label) for label, name in self.classes.items() for file in image_files(self.path / name))
        return tuple(found)


def in_batches(images: Iterator[tuple[Images, int]], batch: int, fixed: bool) -> Iterator[tuple[Images, Labels]]:
    """Images with their labels, `batch` at a time; with `fixed`, the last batch is filled up."""
    held: list[tuple[Images, int]] = []
    for entry in images:
        held.append(entry)
        if len(held) == batch:
            yield _stacked(held)
            held = []
    if held:
        missing = batch - len(held) if fixed else 0
        yield _stacked(held + [(held[-1][0], FILLER)] * missing)


def _stacked(entries: list[tuple[Images, int]]) -> tuple[Images, Labels]:
    return np.stack([image for image, _ in entries]), np.asarray([label for _, label in entries], np.int64)
