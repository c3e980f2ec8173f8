"""Labelled images as people have them → image files with labels: which layout a folder has.

    cat/a.png, dog/b.png, n01440764/….JPEG    class folders (`class_folders`)
    metadata.csv, metadata.jsonl              Hugging Face's image folder, where it gives classes (`label_table`)
    validation/…, test/…, train/…             its splits: the first of these that is there
    a.png, b.png and val.txt, labels.csv, …   images in no class folder and a table beside them
    labels.csv                                a table alone: its images lie beside it

A table that is given comes before all of these. One beside class folders that is not Hugging Face's is not read, which
a note says.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from kdna_deploy.errors import InputError
from kdna_deploy.images.class_folders import ClassFolders, class_folders, has_class_folders, read_class_folders
from kdna_deploy.images.class_labels import WORDNET
from kdna_deploy.images.class_names import IMAGENET_CLASSES, imagenet_ids
from kdna_deploy.images.label_table import LabelTable, is_label_table, read_label_table
from kdna_deploy.images.synsets import Synsets, read_synsets

_HUGGING_FACE = ("metadata.csv", "metadata.jsonl")
_TABLES = (
    *("val.txt", "validation.txt", "labels.csv", "labels.tsv", "labels.txt", "labels.jsonl"),
    *("val.csv", "validation.csv", "test.csv", "test.txt"),
    *("ILSVRC2012_validation_ground_truth.txt", "imagenet_2012_validation_synset_labels.txt"),
)
_SPLITS = ("validation", "val", "valid", "dev", "test", "train")


class LabelledFiles(Protocol):
    """Image files with labels.

    Attributes:
        path: the folder that they are in.
        layout: what was recognised, for people.
        files: every image file with its label, class by class.
        labels: label → name of the class.
        left_out: what has no part in it, for people.
        notes: what a user should know, a sentence each.
        remedy: what to do where they cannot be the classes of a network.
    """

    @property
    def path(self) -> Path: ...
    @property
    def layout(self) -> str: ...
    @property
    def files(self) -> tuple[tuple[Path, int], ...]: ...
    @property
    def labels(self) -> dict[int, str]: ...
    @property
    def left_out(self) -> tuple[str, ...]: ...
    @property
    def notes(self) -> tuple[str, ...]: ...
    @property
    def remedy(self) -> str: ...
    def problem(self, outputs: int) -> str | None:
        """Why these cannot be the classes of a network with so many outputs; None where they can."""


def read_labelled(
    path: Path,
    ground_truth: Path | None = None,
    synsets: Path | None = None,
    recorded: Sequence[str] = (),
    outputs: int | None = None,
) -> LabelledFiles:
    """The labelled images at `path`, a folder or a table.

    `ground_truth` is a table of the images in the folder, `synsets` a file of the WordNet ids of the network's classes,
    `recorded` the names of these classes, where known, and `outputs` their number: the ids of as many as ImageNet has
    are ImageNet's, unless others are recorded.

    Raises:
        InputError: nothing is recognised, or what is there is damaged or can be read in two ways.
    """
    ids = read_synsets(synsets) if synsets else None
    if ids is None and outputs == IMAGENET_CLASSES and not any(map(WORDNET.fullmatch, recorded)):
        ids = Synsets(imagenet_ids())
    if not path.is_dir():
        found: ClassFolders | LabelTable = read_label_table(path, path.parent, recorded, ids)
    elif ground_truth is not None:
        found = read_label_table(ground_truth, path, recorded, ids)
    else:
        found = _recognised(path, recorded, ids)
    if synsets and found.found.by != "synset":
        note = f"'{synsets}' was of no use, for the classes are named by {found.found.named}"
        found = replace(found, notes=(*found.notes, note))
    return found


def _recognised(path: Path, recorded: Sequence[str], synsets: Synsets | None) -> ClassFolders | LabelTable:
    described = _first(path, _HUGGING_FACE)
    if described and is_label_table(described):
        found = read_label_table(described, path, recorded, synsets)
        return replace(found, layout=f"Hugging Face image folder, {found.layout}")
    if split := _split(path):
        return _within_split(path, split, recorded, synsets)
    table = _first(path, _TABLES)
    if has_class_folders(path):
        folders = read_class_folders(path, recorded, synsets.ids if synsets else ())
        unread = described or table
        note = f"'{unread}' was not read, for there are class folders; say so with `ground_truth` to use it"
        return replace(folders, notes=(*folders.notes, note)) if unread else folders
    if table is None:
        raise InputError(
            f"'{path}' holds no class folders and no table of classes; sort the images into one folder for each class, "
            "or give a table of files and classes with `ground_truth`."
        )
    return read_label_table(table, path, recorded, synsets)


def _first(path: Path, names: Sequence[str]) -> Path | None:
    return next((path / name for name in names if (path / name).is_file()), None)


def _split(path: Path) -> str | None:
    """The split to evaluate on, where all folders are splits with labelled images."""
    names = [folder.name for folder in class_folders(path)]
    if not names or not set(names) <= set(_SPLITS):
        return None
    found = next(name for name in _SPLITS if name in names)
    return found if has_class_folders(path / found) or _first(path / found, (*_HUGGING_FACE, *_TABLES)) else None


def _within_split(
    path: Path, split: str, recorded: Sequence[str], synsets: Synsets | None
) -> ClassFolders | LabelTable:
    found = _recognised(path / split, recorded, synsets)
    others = [folder.name for folder in class_folders(path) if folder.name != split]
    notes = found.notes
    if others:
        notes = (*notes, f"of the splits in '{path}', '{split}' was read; give '{path / others[0]}' for another")
    return replace(found, layout=f"split '{split}', {found.layout}", notes=notes)
