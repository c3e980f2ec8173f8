"""Labelled images: a folder with one folder of images for each class → normalised batches with labels.

    label = the folder's number, where every folder is named by a number
          = the folder's place in the sorted list of names otherwise, as PyTorch's ImageFolder counts

Does not apply to a folder that lacks some of the network's classes and names the others by words: their places in the
list would not be their classes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kdna_deploy.errors import InputError
from kdna_deploy.image_data import Preprocessing, image_files, read_image
from kdna_deploy.runtimes.session import Images

Labels = NDArray[np.int64]


@dataclass(frozen=True)
class LabelledImages:
    """A folder of class folders, read in a stream.

    Attributes:
        path: the folder.
        image_shape: (c, h, w) that the network takes.
        preprocessing: of the images.
        on_unreadable: told each file that is no readable image; it is skipped.
    """

    path: Path
    image_shape: tuple[int, int, int]
    preprocessing: Preprocessing = field(default_factory=Preprocessing)
    on_unreadable: Callable[[Path], None] = lambda _: None

    def __len__(self) -> int:
        """Number of images, unreadable ones included."""
        return len(self._files)

    @cached_property
    def classes(self) -> dict[int, str]:
        """Label → name of its folder.

        Raises:
            InputError: there are no class folders.
        """
        if not self.path.is_dir():
            raise InputError(
                f"There is no folder '{self.path}'; give one that holds a folder of images for each class."
            )
        names = sorted(folder.name for folder in self.path.iterdir() if folder.is_dir() and image_files(folder))
        if not names:
            raise InputError(f"'{self.path}' holds no class folders; sort the images into one folder for each class.")
        if all(name.isdecimal() for name in names):
            return {int(name): name for name in sorted(names, key=int)}
        return dict(enumerate(names))

    def check(self, outputs: int) -> None:
        """Refuse folders that cannot be the classes of a network with so many outputs.

        Raises:
            InputError: they cannot.
        """
        named = not all(name.isdecimal() for name in self.classes.values())
        if max(self.classes) >= outputs or (named and len(self.classes) != outputs):
            raise InputError(
                f"'{self.path}' holds {len(self.classes)} class folders, and the network has {outputs} classes; "
                "give a folder for every class, or name the folders by the numbers of their classes."
            )

    def batches(self, batch: int, fixed: bool = False) -> Iterator[tuple[Images, Labels]]:
        """Batches of float32 images [n, c, h, w] with their labels [n].

        With `fixed`, the last batch is filled up by repeating its last image, with label −1.

        Raises:
            InputError: no image can be read.
        """
        held: list[Images] = []
        labels: list[int] = []
        count = 0
        for path, label in self._files:
            try:
                held.append(read_image(path, self.image_shape[1:], self.preprocessing))
            except InputError:
                self.on_unreadable(path)
                continue
            labels.append(label)
            count += 1
            if len(held) == batch:
                yield np.stack(held), np.asarray(labels)
                held, labels = [], []
        if held:
            missing = batch - len(held) if fixed else 0
            yield np.stack([*held, *[held[-1]] * missing]), np.asarray([*labels, *[-1] * missing])
        if not count:
            raise InputError(f"None of the {len(self)} files in '{self.path}' is an image that can be read.")

    @cached_property
    def _files(self) -> list[tuple[Path, int]]:
        return [(file, label) for label, name in self.classes.items() for file in image_files(self.path / name)]
