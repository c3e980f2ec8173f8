"""Folders of images, one for each class → which label each stands for (`class_labels` has the rule).

A folder without images counts in the list of names, for it was a class in training. Hidden folders are no classes. A
link to another class, or back, is refused.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from kdna_deploy.errors import InputError
from kdna_deploy.images.class_labels import ClassLabels, class_labels, listed
from kdna_deploy.images.folder import image_files, other_files
from kdna_deploy.words import counted

_REMEDY = "give a folder for every class, or name the folders by the numbers of their classes"


@dataclass(frozen=True)
class ClassFolders:
    """Class folders: a `LabelledFiles`.

    Attributes:
        path: the folder that they are in.
        layout: what was recognised.
        found: the classes of those that hold images.
        images: the image files of each.
        empty: names of those that hold none.
        notes: what a user should know, a sentence each.
    """

    path: Path
    layout: str
    found: ClassLabels
    images: dict[str, tuple[Path, ...]]
    empty: tuple[str, ...]
    notes: tuple[str, ...]
    remedy: str = _REMEDY

    @property
    def labels(self) -> dict[int, str]:
        """Label → name of the folder."""
        return self.found.labels

    @cached_property
    def files(self) -> tuple[tuple[Path, int], ...]:
        """Every image file with its label, class by class."""
        return tuple((file, label) for label, name in self.labels.items() for file in self.images[name])

    @cached_property
    def left_out(self) -> tuple[str, ...]:
        return tuple(_left_out(self.path, self.found.unknown))

    def problem(self, outputs: int) -> str | None:
        """Why the folders cannot be the classes of a network with so many outputs; None where they can."""
        if self.found.fit(outputs):
            return None
        by_place = self.found.by == "place"
        count = len(self.labels) + (len(self.empty) if by_place else 0)
        empty = f" (without images: {listed(self.empty)})" if self.empty else ""
        return f"'{self.path}' holds {count} class folders{empty}, and the network has {outputs} classes"


def has_class_folders(path: Path) -> bool:
    """Whether a folder holds folders of images."""
    return path.is_dir() and any(image_files(folder) for folder in class_folders(path))


def read_class_folders(path: Path, recorded: Sequence[str] = (), synsets: Sequence[str] = ()) -> ClassFolders:
    """The class folders in the folder at `path`.

    `recorded` are the names of the network's classes, `synsets` its WordNet ids, where known.

    Raises:
        InputError: there are none, or they can be read in two ways.
    """
    if not path.is_dir():
        raise InputError(f"There is no folder '{path}'; give one that holds a folder of images for each class.")
    folders = class_folders(path)
    _check_links(path, folders)
    images = {folder.name: files for folder in folders if (files := tuple(image_files(folder)))}
    empty = tuple(folder.name for folder in folders if folder.name not in images)
    if not images:
        raise InputError(f"'{path}' holds no class folders; sort the images into one folder for each class.")
    found = class_labels(tuple(images), path, empty=empty, recorded=recorded, synsets=synsets)
    notes = tuple(_notes(path, images, empty))
    return ClassFolders(path, f"class folders named by {found.named}", found, images, empty, notes)


def class_folders(path: Path) -> list[Path]:
    """Folders in a folder, hidden ones left out."""
    return sorted(folder for folder in path.iterdir() if folder.is_dir() and not folder.name.startswith("."))


def _check_links(path: Path, folders: Sequence[Path]) -> None:
    here, seen = path.resolve(), dict[Path, str]()
    for folder in folders:
        target = folder.resolve()
        if target == here or target in here.parents:
            raise InputError(f"The class folder '{folder}' is a link to a folder that it lies in; remove it.")
        if target in seen:
            raise InputError(f"The class folders '{seen[target]}' and '{folder.name}' of '{path}' are the same folder.")
        seen[target] = folder.name


def _notes(path: Path, images: dict[str, tuple[Path, ...]], empty: Sequence[str]) -> Iterator[str]:
    if empty:
        what = "class folder holds no image" if len(empty) == 1 else "class folders hold no images"
        yield f"{len(empty)} {what}: {listed(empty)}"
    loose = len(image_files(path, deep=False))
    if loose:
        yield f"images beside the class folders of '{path}' have no label and were left out: {loose}"
    nested = [name for name, files in images.items() if all(file.parent != path / name for file in files)]
    if nested:
        inner = {file.relative_to(path / nested[0]).parts[0] for file in images[nested[0]]}
        yield (
            f"'{nested[0]}' has its images in folders of its own ({listed(sorted(inner))}), which count as one class; "
            f"if those are the classes, give '{path / nested[0]}'"
        )


def _left_out(path: Path, unknown: Sequence[str]) -> Iterator[str]:
    others = other_files(path)
    if others:
        yield f"{counted(len(others), 'file')} that {'is no image' if len(others) == 1 else 'are no images'}"
    if unknown:
        yield f"{counted(len(unknown), 'class', 'classes')} that the network does not know ({listed(unknown)})"
