"""A file of class names → one name for each class, in the order of the network's outputs.

    cat⏎ dog⏎ …                                     text: a name on each line
    ["cat", "dog"]                                  JSON: a list
    {"0": "cat", "1": "dog"}                        class → name
    {"0": ["n02123045", "tabby"], …}                class → identifier and name, as Keras has ImageNet's
    {"cat": 0, "dog": 1}                            name → class, as torchvision's `class_to_idx`

`IMAGENET` in place of a file stands for the classes of ImageNet, which are in `imagenet_classes.txt`. Names need not
differ: some lists of ImageNet's have two cranes. Imports nothing heavy.
"""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path
from typing import Any

from kdna_deploy.errors import InputError
from kdna_deploy.input_files import check_regular
from kdna_deploy.json_schema import is_plain

IMAGENET = "imagenet"
IMAGENET_CLASSES = 1000
_LARGEST_FILE = 16 << 20  # bytes
_LONGEST_NAME = 1000  # as provenance holds them


def read_class_names(path: Path) -> tuple[str, ...]:
    """The names in the file at `path`, or ImageNet's where that is its name and there is no such file.

    Raises:
        InputError: it cannot be read, or holds no such names.
    """
    if str(path) == IMAGENET and not path.exists():
        return imagenet_classes()
    check_regular(path)
    try:
        if path.stat().st_size > _LARGEST_FILE:
            raise ValueError("it is larger than 16 MB")
        text = path.read_bytes().decode("utf-8-sig")
        is_json = path.suffix == ".json" or text.lstrip()[:1] in ("[", "{")
        names = _of_json(json.loads(text)) if is_json else _lines(text)
        return tuple(_checked(name, number) for number, name in enumerate(names))
    except UnicodeDecodeError as error:
        raise InputError(f"'{path}' holds no class names: it is no text in UTF-8.") from error
    except (ValueError, RecursionError) as error:
        why = "it is no JSON" if isinstance(error, (json.JSONDecodeError, RecursionError)) else str(error)
        raise InputError(
            f"'{path}' holds no class names: {why}; write one name a line, or a JSON list of them."
        ) from error


def imagenet_classes() -> tuple[str, ...]:
    """Names of the 1000 classes of ImageNet (ILSVRC 2012), in the order of their WordNet identifiers."""
    return tuple(name for _, name in _imagenet())


def imagenet_ids() -> tuple[str, ...]:
    """Their WordNet identifiers, in the same order."""
    return tuple(identifier for identifier, _ in _imagenet())


def known_names(recorded: tuple[str, ...], outputs: int) -> tuple[str, ...]:
    """Names of so many `outputs`: those `recorded`, if they are as many; if there are none, ImageNet's of 1000."""
    if not recorded:
        return imagenet_classes() if outputs == IMAGENET_CLASSES else ()
    return recorded if len(recorded) == outputs else ()


def _imagenet() -> list[tuple[str, str]]:
    lines = files("kdna_deploy.images").joinpath("imagenet_classes.txt").read_text(encoding="utf-8").splitlines()
    parts = (line.partition(" ") for line in lines if not line.startswith("#"))
    return [(identifier, name) for identifier, _, name in parts]


def check_class_names(names: tuple[str, ...], outputs: int, where: str) -> None:
    """Refuse names that are not as many as the network has outputs; `where` they are from.

    Raises:
        InputError: they are not.
    """
    if len(names) != outputs:
        raise InputError(f"'{where}' names {len(names)} classes, and the network has {outputs}; give a name for each.")


def _lines(text: str) -> list[str]:
    lines = text.rstrip().splitlines()
    if not lines:
        raise ValueError("it is empty")
    return [line.strip() for line in lines]


def _of_json(value: Any) -> list[Any]:
    if isinstance(value, list) and value:
        return value
    if not isinstance(value, dict) or not value:
        raise ValueError("neither a list nor a mapping of names")
    numbered = {_whole(label): name for name, label in value.items()}
    if None in numbered:  # the other way round
        numbered = {_whole(label): name for label, name in value.items()}
    if len(numbered) != len(value) or set(numbered) != set(range(len(value))):
        raise ValueError(f"its {len(value)} classes are not numbered from 0 to {len(value) - 1}")
    return [numbered[label] for label in range(len(value))]


def _whole(value: Any) -> int | None:
    """A class: a number, or a key of JSON, which is always text."""
    if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) < 10:
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _checked(name: Any, number: int) -> str:
    name = name[-1] if isinstance(name, list) and len(name) == 2 else name
    if not isinstance(name, str) or not name.strip() or len(name) > _LONGEST_NAME or not is_plain(name):
        raise ValueError(f"that of class {number} is no plain text of up to {_LONGEST_NAME} characters")
    return name
