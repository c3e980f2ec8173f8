"""Tables of image files and their classes: every form that people have, and damaged lines by their numbers."""

from __future__ import annotations

from pathlib import Path

import pytest

from kdna_deploy.errors import InputError
from kdna_deploy.images.label_table import LabelTable, is_label_table, read_label_table
from kdna_deploy.images.synsets import Synsets
from tests.images.test_class_folders import make


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make(tmp_path, "a.png", "b.png", "sub/c.png")


def read(folder: Path, name: str, text: str, *recorded: str) -> LabelTable:
    (folder / name).write_text(text, encoding="utf-8")
    return read_label_table(folder / name, folder, recorded)


def labels(table: LabelTable) -> dict[str, int]:
    return {path.relative_to(table.path).as_posix(): label for path, label in table.files}


WANTED = {"a.png": 1, "b.png": 0, "sub/c.png": 1}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("l.csv", "file,label\na.png,1\nb.png,0\nsub/c.png,1\n"),
        ("l.csv", "a.png,1\nb.png,0\nsub/c.png,1"),
        ("l.csv", "1,a.png\r\n0,b.png\r\n1,sub/c.png\r\n"),
        ("l.csv", "\ufefffile_name;width;Label\na.png;2;1\n\nb.png;2;0\nsub/c.png;2; 1\n"),
        ("l.tsv", "class\timage\n1\ta.png\n0\tb.png\n1\tsub/c.png\n"),
        ("l.csv", 'path,class_name\n"a.png",dog\nb.png,"cat"\nsub/c.png,dog\n'),
        ("l.txt", "a.png 1\nb.png 0\nsub/c.png\t1\n"),
        ("l.jsonl", '{"file_name": "a.png", "label": 1}\n{"file_name": "b.png", "label": 0, "more": []}\n'
         '{"file_name": "sub/c.png", "label": "1"}\n'),
    ],
)  # fmt: skip
def test_every_form_of_a_table_gives_the_same_labels(folder: Path, name: str, text: str) -> None:
    table = read(folder, name, text)
    assert labels(table) == WANTED
    assert [label for _, label in table.files] == [0, 1, 1]  # class by class
    assert table.problem(2) is None and table.left_out == ()


def test_names_are_those_that_the_checkpoint_records(folder: Path) -> None:
    text = "a.png,dog\nb.png,cat\nsub/c.png,cow\n"
    table = read(folder, "l.csv", text, "dog", "bee", "cat")
    assert labels(table) == {"a.png": 0, "b.png": 2}
    assert table.left_out == ("1 image of 1 class that the network does not know ('cow')",)
    with pytest.raises(InputError, match=r"records 1 classes .* and none named 'dog', 'cat', 'cow' as in"):
        read(folder, "l.csv", text, "ox")
    problem = read(folder, "l.csv", text).problem(10)
    assert problem is not None and problem.endswith("holds 3 classes, and the network has 10")


def test_images_without_a_line_are_counted(folder: Path) -> None:
    (folder / "notes.md").write_text("x")
    assert read(folder, "l.csv", "a.png,0\n").left_out == ("2 images without a class", "1 other file")


def test_a_number_that_is_no_class_is_told_with_its_line(folder: Path) -> None:
    problem = read(folder, "l.csv", "file,label\na.png,0\nb.png,10\n").problem(10)
    assert problem is not None and problem.endswith("l.csv', line 3: there is no class 10, for the network has 0 to 9")


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("l.csv", "a.png,0\nb.png\n", "line 2: it has 1 column where the others have 2"),
        ("l.csv", "file,label\na.png,0\nb.png,0,1\n", "line 3: it has 3 columns where the others have 2"),
        ("l.csv", "a.png,0\nc.png,1\n", "line 2: there is no file 'c.png' in"),
        ("l.csv", "a.png,0\n\na.png,1\n", "line 3: 'a.png' has been given a class in line 1"),
        ("l.csv", "a.png,\n", "line 1: 'a.png' has no class"),
        ("l.csv", "a.png,-1\n", "line 1: class '-1' is no whole number from 0"),
        ("l.csv", "a.png,1.0\n", "line 1: class '1.0' is no whole number from 0"),
        ("l.csv", "a.png,1\nb.png,cat\n", r"has classes named by numbers \('1'\) and by words \('cat'\)"),
        ("l.csv", "left,right\n1,2\n", r"line 1: its columns \('left', 'right'\) name no file and class"),
        ("l.csv", 'a.png,"0\n', "line 1: it is no CSV"),
        ("l.csv", "", "line 1: its columns .* name no file and class|names no images"),
        ("l.csv", "file,label\n", "names no images"),
        ("l.txt", "a.png 0\nb.png\n", "line 2: 'b.png' is not a file and its class"),
        ("l.txt", "", "names no images"),
        ("l.jsonl", '{"file_name": "a.png", "label": 1}\n{"file_name"\n', "line 2: it is no JSON object"),
        ("l.jsonl", '{"file_name": "a.png", "text": "a cat"}\n', "line 1: it has no 'file_name' with a 'label'"),
        ("l.jsonl", '{"file_name": "a.png", "label": true}\n', "line 1: it has no 'file_name' with a 'label'"),
        ("l.md", "a.png 0", "is no table that is read"),
        ("l.csv", f"a.png,{'9' * 5000}\n", "line 1: a file or class is no plain text of up to 1000 characters"),
        ("l.csv", 'a.png,"c\nat"\n', "line 2: a file or class is no plain text"),
        ("l.csv", "a\0.png,1\n", "line 1: (it is no CSV|a file or class is no plain text)"),
        ("l.csv", f"{'a' * 400}.png,1\n", "line 1: there is no file 'aaaa"),
    ],
)
def test_a_damaged_line_is_told_by_its_number(folder: Path, name: str, text: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        read(folder, name, text)


def test_bytes_that_are_no_text_are_told_by_their_line(folder: Path) -> None:
    (folder / "l.csv").write_bytes(b"a.png,0\nb.png,\xff\n")
    with pytest.raises(InputError, match=r"l\.csv', line 2: it is no text in UTF-8"):
        read_label_table(folder / "l.csv", folder)


def test_a_table_of_captions_gives_no_classes(tmp_path: Path) -> None:
    for name, text, gives in (
        ("a.csv", "file_name,text\na.png,a cat\n", False),
        ("b.csv", "file_name,label\n", True),
        ("c.jsonl", '{"file_name": "a.png", "text": ""}', False),
        ("d.jsonl", '{"file_name": "a.png", "label": 0}', True),
    ):
        (tmp_path / name).write_text(text)
        assert is_label_table(tmp_path / name) is gives


IDS = ("n01440764", "n02100735", "n02119789")
SYNSETS = Synsets(IDS, {"1": "n02119789", "2": "n02100735", "3": "n01440764"})


@pytest.fixture
def flat(tmp_path: Path) -> Path:
    """The second and the fourth of ILSVRC's images."""
    return make(tmp_path, "ILSVRC2012_val_00000002.JPEG", "ILSVRC2012_val_00000004.JPEG", "other.png")


def ilsvrc(folder: Path, text: str, synsets: Synsets | None = SYNSETS) -> list[int]:
    (folder / "truth.txt").write_text(text)
    return [label for _, label in sorted(read_label_table(folder / "truth.txt", folder, (), synsets).files)]


def test_ilsvrcs_numbers_are_told_by_their_ids_and_never_taken_for_the_networks(flat: Path) -> None:
    assert ilsvrc(flat, "3\n1\n3\n3\n") == [2, 0]  # lines 2 and 4
    assert ilsvrc(flat, "n01440764\nn02119789\nn01440764\nn01440764\n") == [2, 0]
    with pytest.raises(InputError, match="numbers, which are not the order of a network's outputs; give `synsets`"):
        ilsvrc(flat, "3\n1\n3\n3\n", None)
    with pytest.raises(InputError, match="class numbers, which are not the order"):
        ilsvrc(flat, "3\n1\n3\n3\n", Synsets(IDS))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("1\n0\n2\n3\n", "line 2: there is no class 0 in the file of `synsets`"),
        ("1\n2\n3\n", "has 3 lines, and none for 'ILSVRC2012_val_00000004.JPEG'"),
    ],
)
def test_a_ground_truth_of_others_is_refused(flat: Path, text: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        ilsvrc(flat, text)


def test_a_value_a_line_needs_ilsvrcs_names(folder: Path) -> None:
    with pytest.raises(InputError, match="goes by the numbers of ILSVRC2012_val_00000001"):
        ilsvrc(folder, "1\n2\n")
