"""Folders of images, one for each class → which label each stands for.

    label = the folder's number, where every folder is named by a number
          = the place of its name among those that the checkpoint records, where it records any
          = its place in the sorted list of names otherwise, as PyTorch's ImageFolder counts

A folder without images counts in that list, for it was a class in training. Hidden folders are no classes. What could
be read in two ways is refused: numbers beside words, `1` beside `01`, `Cat` beside `cat`, a link to another class.

Does not apply to a folder that lacks some of the network's classes and names the others by words that are recorded
nowhere: their places in the list would not be their classes.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from kdna_deploy.errors import InputError
from kdna_deploy.images.folder import image_files

_NAMED = 3


@dataclass(frozen=True)
class ClassFolders:
    """Class folders.

    Attributes:
        path: the folder that they are in.
        labels: label → name of its folder, of those that hold images.
        empty: names of those that hold none.
        by: what tells the label.
        notes: what a user should know, a sentence each.
    """

    path: Path
    labels: dict[int, str]
    empty: tuple[str, ...]
    by: str
    notes: tuple[str, ...]

    def problem(self, outputs: int) -> str | None:
        """Why the folders cannot be the classes of a network with so many outputs; None where they can."""
        count = len(self.labels) + (len(self.empty) if self.by == "place" else 0)
        if max(self.labels) < outputs and (self.by != "place" or count == outputs):
            return None
        empty = f" (without images: {_listed(self.empty)})" if self.empty else ""
        return f"'{self.path}' holds {count} class folders{empty}, and the network has {outputs} classes"


def has_class_folders(path: Path) -> bool:
    """Whether a folder holds folders of images."""
    return path.is_dir() and any(image_files(folder) for folder in _folders(path))


def read_class_folders(path: Path, recorded: Sequence[str] = ()) -> ClassFolders:
    """The class folders in the folder at `path`. `recorded` are the names of the network's classes, where known.

    Raises:
        InputError: there are none, or they can be read in two ways.
    """
    if not path.is_dir():
        raise InputError(f"There is no folder '{path}'; give one that holds a folder of images for each class.")
    folders = _folders(path)
    _check_links(path, folders)
    names = [folder.name for folder in folders if image_files(folder)]
    empty = tuple(folder.name for folder in folders if folder.name not in names)
    if not names:
        raise InputError(f"'{path}' holds no class folders; sort the images into one folder for each class.")
    numbers, words = [n for n in names if _is_number(n)], [n for n in names if not _is_number(n)]
    if numbers and words:
        raise InputError(
            f"'{path}' has class folders named by numbers ({_listed(numbers)}) and by words ({_listed(words)}); name "
            "all of them in one way."
        )
    if numbers:
        _check_different(path, numbers, int)
        labels, by = {int(name): name for name in sorted(numbers, key=int)}, "number"
    else:
        _check_different(path, words, _folded)
        labels, by = _places(path, words, empty, recorded), "record" if recorded else "place"
    return ClassFolders(path, labels, empty, by, _notes(path, labels, empty))


def _folders(path: Path) -> list[Path]:
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


def _check_different(path: Path, names: Sequence[str], key: Callable[[str], object]) -> None:
    seen: dict[object, str] = {}
    for name in names:
        if key(name) in seen:
            raise InputError(
                f"The class folders '{seen[key(name)]}' and '{name}' of '{path}' would be one class; rename or join "
                "them."
            )
        seen[key(name)] = name


def _places(path: Path, words: Sequence[str], empty: Sequence[str], recorded: Sequence[str]) -> dict[int, str]:
    if not recorded:
        places = sorted([*words, *empty])
        return {places.index(name): name for name in sorted(words)}
    place = {name: label for label, name in enumerate(recorded)}
    unknown = [name for name in words if name not in place]
    if unknown:
        raise InputError(
            f"The checkpoint records {len(recorded)} classes ({_listed(recorded)}), and none named {_listed(unknown)} "
            f"as in '{path}'; rename the folders."
        )
    twice = [name for name in words if recorded.count(name) > 1]  # ImageNet has two cranes
    if twice:
        raise InputError(
            f"Of the recorded classes several are called {_listed(twice)}; name the folders in '{path}' by the numbers "
            "of their classes."
        )
    return {place[name]: name for name in sorted(words, key=lambda name: place[name])}


def _notes(path: Path, labels: dict[int, str], empty: Sequence[str]) -> tuple[str, ...]:
    notes = []
    if empty:
        what = "class folder holds no image" if len(empty) == 1 else "class folders hold no images"
        notes.append(f"{len(empty)} {what}: {_listed(empty)}")
    loose = sum(file.parent == path for file in image_files(path))
    if loose:
        notes.append(f"images beside the class folders of '{path}' have no label and were left out: {loose}")
    nested = [name for name in labels.values() if all(f.parent != path / name for f in image_files(path / name))]
    if nested:
        inner = {file.relative_to(path / nested[0]).parts[0] for file in image_files(path / nested[0])}
        notes.append(
            f"'{nested[0]}' has its images in folders of its own ({_listed(sorted(inner))}), which count as one class; "
            f"if those are the classes, give '{path / nested[0]}'"
        )
    return tuple(notes)


def _is_number(name: str) -> bool:
    return name.isascii() and name.isdecimal()


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


def _listed(names: Sequence[str]) -> str:
    return ", ".join(f"'{name}'" for name in names[:_NAMED]) + (", …" if len(names) > _NAMED else "")
