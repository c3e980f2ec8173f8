"""A table of image files and their classes → labelled files.

    file,label⏎ a.png,cat⏎ …                            CSV (.csv, .tsv), with a header or without, either column first
    {"file_name": "a.png", "label": 3}⏎ …               JSON lines (.jsonl), as Hugging Face's metadata
    ILSVRC2012_val_00000001.JPEG 65⏎ …                  text (.txt): Caffe's list, classes counted from 0
    490⏎ 361⏎ …                                         text: a value a line, of ILSVRC2012_val_00000001 and so on

A value alone is a WordNet id, or one of ILSVRC's own numbers, 1 to 1000. Those are *not* the order of any network's
outputs, which is that of the sorted WordNet ids: `synsets` must tell the id of each number. Classes are told by
`class_labels`. Relative names count from the folder of the images.

Does not apply to several classes for an image.
"""

from __future__ import annotations

import contextlib
import csv
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NoReturn

from kdna_deploy.errors import InputError
from kdna_deploy.images.class_labels import WORDNET, ClassLabels, class_labels, listed
from kdna_deploy.images.folder import image_files, other_files
from kdna_deploy.images.synsets import Synsets
from kdna_deploy.input_files import check_regular
from kdna_deploy.json_schema import is_plain
from kdna_deploy.kinds import IMAGE_SUFFIXES, LABEL_SUFFIXES
from kdna_deploy.words import counted

_LARGEST_FILE = 1 << 30  # bytes
_LONGEST = 1000
_FILE_COLUMNS = ("file_name", "filename", "file", "image", "path", "image_path", "filepath", "img")
_CLASS_COLUMNS = ("label", "class", "class_name", "class_id", "category", "target", "wnid", "synset")
_FRACTION = re.compile(r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)(e[-+]?[0-9]+)?", re.IGNORECASE)
_ILSVRC = re.compile(r"ILSVRC2012_val_([0-9]{8})\.")


@dataclass(frozen=True)
class _Row:
    line: int
    file: str
    label: str


@dataclass(frozen=True)
class LabelTable:
    """A table of image files and their classes: a `LabelledFiles`.

    Attributes:
        path: the folder that relative names count from.
        table: the file.
        layout: what was recognised.
        found: the classes.
        rows: line, image file and class of each.
        unlabelled: how many images in the folder it does not name.
    """

    path: Path
    table: Path
    layout: str
    found: ClassLabels
    rows: tuple[tuple[int, Path, str], ...]
    unlabelled: int = 0
    notes: tuple[str, ...] = ()
    remedy: str = "give each image its class by name, or by number from 0"

    @property
    def labels(self) -> dict[int, str]:
        """Label → name of the class."""
        return self.found.labels

    @cached_property
    def files(self) -> tuple[tuple[Path, int], ...]:
        """Every image file with its label, class by class."""
        label = {name: label for label, name in self.labels.items()}
        known = ((path, label[name]) for _, path, name in self.rows if name in label)
        return tuple(sorted(known, key=lambda entry: entry[1]))

    @cached_property
    def left_out(self) -> tuple[str, ...]:
        others = sum(file.suffix.lower() not in LABEL_SUFFIXES for file in other_files(self.path))
        unknown = set(self.found.unknown)
        found = []
        if self.unlabelled:
            found.append(f"{counted(self.unlabelled, 'image')} without a class")
        if others:
            found.append(f"{counted(others, 'other file')}")
        if unknown:
            rows = sum(name in unknown for *_, name in self.rows)
            found.append(
                f"{counted(rows, 'image')} of {counted(len(unknown), 'class', 'classes')} that the network does not "
                f"know ({listed(self.found.unknown)})"
            )
        return tuple(found)

    def problem(self, outputs: int) -> str | None:
        """Why these cannot be the classes of a network with so many outputs; None where they can."""
        if self.found.fit(outputs):
            return None
        if self.found.by != "number":
            count = self.found.count or len(self.labels)
            return f"'{self.table}' holds {counted(count, 'class', 'classes')}, and the network has {outputs}"
        line, name = next((line, name) for line, _, name in self.rows if int(name) >= outputs)
        return f"'{self.table}', line {line}: there is no class {name}, for the network has 0 to {outputs - 1}"


def is_label_table(path: Path) -> bool:
    """Whether a table gives classes: one of captions or boxes does not.

    Raises:
        InputError: it is damaged.
    """
    return _columns(path) is not None if path.suffix in (".csv", ".tsv") else "label" in _first(path)


def read_label_table(
    table: Path, images: Path, recorded: Sequence[str] = (), synsets: Synsets | None = None
) -> LabelTable:
    """The table in the file `table`, of images in the folder `images`.

    Raises:
        InputError: it cannot be read, a line is damaged (its number is told), a file that it names is not there, or its
            classes can be read in two ways.
    """
    check_regular(table)
    there = image_files(images)
    layout, rows = _rows(table, images, there, synsets)
    if not rows:
        raise InputError(f"'{table}' names no images; write a line with the file and the class of each.")
    present = set(there)
    files, seen = [], dict[Path, int]()
    for row in rows:
        path = images / row.file
        if not (is_plain(row.file) and is_plain(row.label)) or max(len(row.file), len(row.label)) > _LONGEST:
            _refuse(table, row.line, f"a file or class is no plain text of up to {_LONGEST} characters")
        if path not in present and not _is_file(path):
            _refuse(table, row.line, f"there is no file '{row.file}' in '{images}'")
        if path in seen:
            _refuse(table, row.line, f"'{row.file}' has been given a class in line {seen[path]}")
        if not row.label:
            _refuse(table, row.line, f"'{row.file}' has no class")
        if _FRACTION.fullmatch(row.label) and not row.label.isdecimal():
            _refuse(table, row.line, f"class '{row.label}' is no whole number from 0")
        seen[path] = row.line
        files.append((row.line, path, row.label))
    names = tuple(dict.fromkeys(row.label for row in rows))
    found = class_labels(names, table, "classes", recorded=recorded, synsets=synsets.ids if synsets else ())
    unlabelled = len(present - seen.keys())
    return LabelTable(images, table, f"{layout}, classes as {found.named}", found, tuple(files), unlabelled)


def _is_file(path: Path) -> bool:
    with contextlib.suppress(OSError, ValueError):  # what can be no name
        return path.is_file()
    return False


def _rows(table: Path, images: Path, there: Sequence[Path], synsets: Synsets | None) -> tuple[str, list[_Row]]:
    if table.suffix.lower() not in LABEL_SUFFIXES:
        raise InputError(f"'{table}' is no table that is read; give a .csv, .tsv, .jsonl or .txt file.")
    if table.suffix == ".jsonl":
        return f"JSON lines '{table.name}'", list(_json_rows(table))
    if table.suffix != ".txt":
        return f"table '{table.name}'", list(_csv_rows(table))
    lines = [(number, line.strip()) for number, line in enumerate(_text(table).splitlines(), 1) if line.strip()]
    if all(len(line.split()) == 1 for _, line in lines) and lines:
        return f"ILSVRC's ground truth '{table.name}'", list(_ilsvrc_rows(table, lines, images, there, synsets))
    return f"list '{table.name}'", list(_list_rows(table, lines))


def _list_rows(table: Path, lines: Sequence[tuple[int, str]]) -> Iterator[_Row]:
    for number, line in lines:
        file, *label = line.rsplit(None, 1)
        if not label:
            _refuse(table, number, f"'{line}' is not a file and its class")
        yield _Row(number, file, label[0])


def _ilsvrc_rows(
    table: Path, lines: Sequence[tuple[int, str]], images: Path, there: Sequence[Path], synsets: Synsets | None
) -> Iterator[_Row]:
    ids = all(WORDNET.fullmatch(value) for _, value in lines)
    if not ids and (synsets is None or not synsets.of_number):
        raise InputError(
            f"'{table}' holds ILSVRC's own class numbers, which are not the order of a network's outputs; give "
            "`synsets`, a file with lines such as 'n02119789 1' (map_clsloc.txt of the development kit), or a list of "
            "'FILE CLASS'."
        )
    found = [(match, file) for file in there if (match := _ILSVRC.match(file.name))]
    if not found:
        raise InputError(
            f"'{table}' goes by the numbers of ILSVRC2012_val_00000001.JPEG and so on, and '{images}' holds no such "
            "file; give the folder that they lie in."
        )
    for match, file in found:
        place = int(match[1])
        if not 1 <= place <= len(lines):
            raise InputError(f"'{table}' has {len(lines)} lines, and none for '{file.name}'.")
        number, value = lines[place - 1]
        wnid = value if ids else (synsets.of_number.get(value) if synsets else None)
        if wnid is None:
            _refuse(table, number, f"there is no class {value} in the file of `synsets`")
        yield _Row(number, str(file.relative_to(images)), wnid)


def _json_rows(table: Path) -> Iterator[_Row]:
    for number, line in enumerate(_text(table).splitlines(), 1):
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError):
            entry = None
        if not isinstance(entry, dict):
            _refuse(table, number, "it is no JSON object")
        file, label = entry.get("file_name"), entry.get("label")
        if not isinstance(file, str) or not isinstance(label, (str, int)) or isinstance(label, bool):
            _refuse(table, number, "it has no 'file_name' with a 'label' that is a name or a number")
        yield _Row(number, file, str(label).strip())


def _csv_rows(table: Path) -> Iterator[_Row]:
    columns = _columns(table)
    records = _records(table)
    if columns is None:
        number, first = next(records, (1, [""]))
        _refuse(
            table, number, f"its columns ({listed(first)}) name no file and class; call them 'file_name' and 'label'"
        )
    header, file, label = columns
    width = None
    for number, record in records:
        if width is not None and len(record) != width:
            _refuse(table, number, f"it has {counted(len(record), 'column')} where the others have {width}")
        if width is not None or not header:
            yield _Row(number, record[file].strip(), record[label].strip())
        width = len(record)


def _columns(table: Path) -> tuple[bool, int, int] | None:
    """Whether there is a header, and the columns of the file and the class; None where that cannot be told."""
    records = _records(table)
    _, first = next(records, (1, []))
    cells = [cell.strip().lower() for cell in first]
    images = [place for place, cell in enumerate(cells) if Path(cell).suffix in IMAGE_SUFFIXES]
    if images:
        return (False, images[0], 1 - images[0]) if len(cells) == 2 else None
    file, label = (
        next((cells.index(name) for name in names if name in cells), None) for names in (_FILE_COLUMNS, _CLASS_COLUMNS)
    )
    return None if file is None or label is None else (True, file, label)


def _records(table: Path) -> Iterator[tuple[int, list[str]]]:
    """Line number and cells of each line that is not empty."""
    text = _text(table)
    first = text.lstrip().partition("\n")[0]
    delimiter = max(",", ";", "\t", key=first.count)
    reader = csv.reader(text.splitlines(keepends=True), delimiter=delimiter, strict=True)
    try:
        for record in reader:
            if any(cell.strip() for cell in record):
                yield reader.line_num, record
    except csv.Error as error:
        _refuse(table, reader.line_num, f"it is no CSV ({error})")


def _first(table: Path) -> dict[str, object]:
    """The first of JSON lines; empty where there is none."""
    entry = next((line for line in _text(table).splitlines() if line.strip()), "{}")
    try:
        found = json.loads(entry)
    except (ValueError, RecursionError):
        _refuse(table, 1, "it is no JSON object")
    return found if isinstance(found, dict) else {}


def _text(table: Path) -> str:
    if table.stat().st_size > _LARGEST_FILE:
        raise InputError(f"'{table}' is larger than 1 GB, which no table of labels is.")
    try:
        return table.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = table.read_bytes()[: error.start].count(b"\n") + 1
        raise InputError(f"'{table}', line {line}: it is no text in UTF-8.") from error


def _refuse(table: Path, line: int, why: str) -> NoReturn:
    raise InputError(f"'{table}', line {line}: {why}.")
