"""Files of class names, in every form that people have them in, and what is none."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kdna_deploy.errors import InputError
from kdna_deploy.images import class_names
from kdna_deploy.images.class_names import IMAGENET_CLASSES, check_class_names, imagenet_classes, read_class_names

NAMES = ("tench", "great white shark", "crane", "crane")


def written(folder: Path, content: str | bytes, name: str = "names.txt") -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_imagenets_classes_are_built_in_unless_a_file_has_that_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    names = read_class_names(Path("imagenet"))
    assert len({name.lower() for name in names}) == len(names) == IMAGENET_CLASSES
    # By their places in the lists that come with networks trained on ImageNet.
    assert (names[0], names[281], names[207], names[999]) == ("tench", "tabby", "golden retriever", "toilet tissue")
    written(tmp_path, "cat\ndog\n", "imagenet")
    assert read_class_names(Path("imagenet")) == ("cat", "dog")


def test_the_identifiers_of_imagenets_classes_are_in_order() -> None:
    text = (Path(class_names.__file__).parent / "imagenet_classes.txt").read_text(encoding="utf-8")
    identifiers = [line.split()[0] for line in text.splitlines() if not line.startswith("#")]
    assert identifiers == sorted(set(identifiers)) and len(identifiers) == len(imagenet_classes())


@pytest.mark.parametrize(
    ("content", "name"),
    [
        ("tench\ngreat white shark\ncrane\ncrane\n", "names.txt"),
        ("\ufefftench\r\n great white shark \r\ncrane\r\ncrane\r\n\r\n", "names.txt"),
        (json.dumps(NAMES), "names.json"),
        (json.dumps(NAMES), "names.txt"),
        (json.dumps({str(n): NAMES[n] for n in (2, 0, 3, 1)}), "names.json"),
        (json.dumps({str(n): [f"n{n:08}", name] for n, name in enumerate(NAMES)}), "imagenet_class_index.json"),
    ],
)
def test_names_are_in_the_order_of_the_outputs_in_every_form(tmp_path: Path, content: str, name: str) -> None:
    assert read_class_names(written(tmp_path, content, name)) == NAMES


def test_a_mapping_of_names_to_classes_is_read_the_other_way_round(tmp_path: Path) -> None:
    assert read_class_names(written(tmp_path, '{"cat": 1, "ant": 0}')) == ("ant", "cat")
    assert read_class_names(written(tmp_path, '{"7": 1, "cat": 0}')) == ("cat", "7")


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("", "it is empty"),
        (" \n\n", "it is empty"),
        ("cat\n\ndog\n", "that of class 1 is no plain text"),
        ("cat\n\x1b[31mdog\n", "that of class 1 is no plain text"),
        (b"\xff\xfe\0", "it is no text in UTF-8"),
        ("[1, 2", "it is no JSON"),
        ("[" * 100_000, "it is no JSON"),
        ("[]", "neither a list nor a mapping"),
        ("[1, 2]", "that of class 0 is no plain text"),
        ('{"0": "ant", "2": "cat"}', "its 2 classes are not numbered from 0 to 1"),
        ('{"ant": 0, "cat": 0}', "its 2 classes are not numbered from 0 to 1"),
        ('{"0": "ant", "00": "cat"}', "its 2 classes are not numbered from 0 to 1"),
    ],
)
def test_what_holds_no_names_is_refused_with_the_reason(tmp_path: Path, content: str | bytes, why: str) -> None:
    with pytest.raises(InputError, match=f"'.*names.txt' holds no class names: (?:{why})") as refused:
        read_class_names(written(tmp_path, content))
    assert str(refused.value).endswith("write one name a line, or a JSON list of them.") or "UTF-8" in why
    assert "\n" not in str(refused.value) and "\x1b" not in str(refused.value)


def test_names_that_are_not_as_many_as_the_classes_are_refused(tmp_path: Path) -> None:
    check_class_names(NAMES, 4, "names.txt")
    with pytest.raises(InputError, match=r"'names\.txt' names 4 classes, and the network has 1000"):
        check_class_names(NAMES, 1000, "names.txt")
    with pytest.raises(InputError, match="There is no file"):
        read_class_names(tmp_path / "none.txt")
