"""Which layout a folder of labelled images has."""

from __future__ import annotations

from pathlib import Path

import pytest

from kdna_deploy.errors import InputError
from kdna_deploy.images.labelled_files import read_labelled
from tests.images.test_class_folders import make

TABLE = "file_name,label\na.png,1\nb.png,0\n"


def write(folder: Path, name: str, text: str = TABLE) -> Path:
    (folder / name).write_text(text)
    return folder / name


def test_a_table_beside_loose_images_is_found(tmp_path: Path) -> None:
    make(tmp_path, "a.png", "b.png")
    write(tmp_path, "val.txt", "a.png 1\nb.png 0\n")
    found = read_labelled(tmp_path)
    assert found.layout == "list 'val.txt', classes as numbers"
    assert [(path.name, label) for path, label in found.files] == [("b.png", 0), ("a.png", 1)]


def test_a_table_is_given_alone_or_beside_a_folder(tmp_path: Path) -> None:
    make(tmp_path, "images/a.png", "images/b.png", "a.png", "b.png")
    (tmp_path / "elsewhere").mkdir()
    for found in (
        read_labelled(write(tmp_path, "mine.csv")),
        read_labelled(tmp_path / "images", write(tmp_path / "elsewhere", "mine.csv")),
    ):
        assert found.layout == "table 'mine.csv', classes as numbers"
        assert {path.parent for path, _ in found.files} == {found.path}


def test_hugging_faces_metadata_comes_before_folders_where_it_gives_classes(tmp_path: Path) -> None:
    make(tmp_path, "cat/a.png", "dog/b.png")
    write(tmp_path, "metadata.csv", "file_name,label\ncat/a.png,dog\ndog/b.png,dog\n")
    found = read_labelled(tmp_path)
    assert found.layout == "Hugging Face image folder, table 'metadata.csv', classes as words"
    assert found.labels == {0: "dog"}
    write(tmp_path, "metadata.csv", "file_name,text\ncat/a.png,a cat\ndog/b.png,a dog\n")
    found = read_labelled(tmp_path)
    assert found.labels == {0: "cat", 1: "dog"}
    (note,) = found.notes
    assert "metadata.csv' was not read, for there are class folders" in note


def test_of_splits_validation_is_read_and_the_others_are_noted(tmp_path: Path) -> None:
    make(tmp_path, "train/cat/a.png", "train/dog/b.png", "validation/cat/c.png", "validation/dog/d.png")
    found = read_labelled(tmp_path)
    assert found.layout == "split 'validation', class folders named by words"
    assert [path.name for path, _ in found.files] == ["c.png", "d.png"]
    train = tmp_path / "train"
    assert found.notes == (f"of the splits in '{tmp_path}', 'validation' was read; give '{train}' for another",)


def test_a_split_may_have_a_table(tmp_path: Path) -> None:
    make(tmp_path, "test/a.png", "test/b.png")
    write(tmp_path / "test", "metadata.jsonl", '{"file_name": "a.png", "label": "x"}\n')
    found = read_labelled(tmp_path)
    assert found.layout.startswith("split 'test', Hugging Face image folder, JSON lines 'metadata.jsonl'")
    assert found.left_out == ("1 image without a class",)


def test_folders_named_as_splits_that_hold_images_are_classes(tmp_path: Path) -> None:
    assert read_labelled(make(tmp_path, "train/a.png", "test/b.png")).labels == {0: "test", 1: "train"}


def test_class_folders_come_before_a_table_that_is_not_given(tmp_path: Path) -> None:
    make(tmp_path, "0/a.png", "1/b.png")
    table = write(tmp_path, "labels.csv", "file,label\n0/a.png,1\n1/b.png,0\n")
    found = read_labelled(tmp_path)
    assert [label for _, label in found.files] == [0, 1]
    assert found.notes == (
        f"'{table}' was not read, for there are class folders; say so with `ground_truth` to use it",
    )
    assert [path.name for path, _ in read_labelled(tmp_path, table).files] == ["b.png", "a.png"]


def test_ids_of_a_network_with_more_classes_than_folders(tmp_path: Path) -> None:
    make(tmp_path / "data", "n02100735/a.png")
    ids = write(tmp_path, "ids.txt", "n01440764 tench\nn02100735 setter\n")
    assert read_labelled(tmp_path / "data", synsets=ids).labels == {1: "n02100735"}


def test_a_network_of_a_thousand_classes_has_imagenets_unless_it_records_others(tmp_path: Path) -> None:
    goldfish, shark = "n01443537", "n01484850"  # 1 and 2 of ImageNet's
    make(tmp_path, f"{shark}/a.png", f"{goldfish}/b.png", "n99999999/c.png")
    found = read_labelled(tmp_path, outputs=1000)
    assert (found.labels, found.problem(1000)) == ({1: goldfish, 2: shark}, None)
    assert found.left_out == ("1 class that the network does not know ('n99999999')",)
    assert read_labelled(tmp_path, recorded=("tench",) * 1000, outputs=1000).labels == found.labels
    assert read_labelled(tmp_path, recorded=(shark, goldfish), outputs=1000).labels == {0: shark, 1: goldfish}
    assert read_labelled(tmp_path, outputs=3).labels == {0: goldfish, 1: shark, 2: "n99999999"}


def test_ids_that_were_of_no_use_are_noted(tmp_path: Path) -> None:
    make(tmp_path / "data", "cat/a.png")
    ids = write(tmp_path, "ids.txt", "n01440764 tench\n")
    found = read_labelled(tmp_path / "data", synsets=ids)
    assert found.labels == {0: "cat"}
    assert found.notes == (f"'{ids}' was of no use, for the classes are named by words",)


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    for make_one in (lambda: None, lambda: make(tmp_path, "a.png")):
        make_one()
        with pytest.raises(InputError, match=r"holds no class folders and no table of classes; sort .* `ground_truth`"):
            read_labelled(tmp_path)
