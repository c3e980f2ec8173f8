"""Which label a class folder stands for, and folders that could be read in two ways."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from PIL import Image

from kdna_deploy.errors import InputError
from kdna_deploy.images.class_folders import has_class_folders, read_class_folders


def make(folder: Path, *images: str) -> Path:
    """Files below `folder`; a name that ends in a slash is an empty folder."""
    for name in images:
        path = folder / name
        if name.endswith("/"):
            path.mkdir(parents=True)
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (2, 2)).save(path, "PNG")
    return folder


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (("1", "01"), "'01' and '1' of '.*' would be one class|'1' and '01'"),
        (("0", "7", "007"), "would be one class"),
        (("Cat", "cat"), "'Cat' and 'cat' of '.*' would be one class"),
        (("caf\u00e9", "cafe\u0301"), "would be one class"),
        (("STRASSE", "straße"), "would be one class"),
        (("1", "cat"), r"named by numbers \('1'\) and by words \('cat'\); name all of them in one way"),
        (("0", "٣"), "by numbers .* and by words"),
        (("²", "2"), "by numbers .* and by words"),
        (("-1", "1"), "by numbers .* and by words"),
    ],
)
def test_what_could_be_read_in_two_ways_is_refused_with_both_names(
    tmp_path: Path, names: tuple[str, ...], said: str
) -> None:
    make(tmp_path, *(f"{name}/a.png" for name in names))
    if len(list(tmp_path.iterdir())) < len(names):
        pytest.skip("this file system takes the names for one")
    with pytest.raises(InputError, match=said):
        read_class_folders(tmp_path)


def test_a_class_without_images_keeps_its_place(tmp_path: Path) -> None:
    folders = read_class_folders(make(tmp_path, "ant/a.png", "bee/", "cat/a.png"))
    assert folders.labels == {0: "ant", 2: "cat"}
    assert folders.notes == ("1 class folder holds no image: 'bee'",)
    assert folders.problem(3) is None
    problem = folders.problem(2)
    assert problem is not None and "holds 3 class folders (without images: 'bee')" in problem


def test_a_numbered_folder_without_images_is_noted(tmp_path: Path) -> None:
    folders = read_class_folders(make(tmp_path, "0/a.png", "3/a.png", "5/", "notes/"))
    assert folders.labels == {0: "0", 3: "3"}
    assert folders.notes == ("2 class folders hold no images: '5', 'notes'",)
    assert folders.problem(4) is None and folders.problem(3) is not None


def test_hidden_folders_and_files_are_no_classes_and_no_images(tmp_path: Path) -> None:
    make(tmp_path, "ant/a.png", "ant/._a.png", "ant/.cache/a.png", ".git/a.png", "cat/a.png")
    folders = read_class_folders(tmp_path)
    assert (folders.labels, folders.notes) == ({0: "ant", 1: "cat"}, ())


def test_images_beside_the_folders_are_noted(tmp_path: Path) -> None:
    notes = read_class_folders(make(tmp_path, "0/a.png", "b.png", "c.png")).notes
    assert len(notes) == 1 and notes[0].endswith("have no label and were left out: 2")


def test_folders_of_a_further_level_are_noted(tmp_path: Path) -> None:
    make(tmp_path, *(f"{part}/{label}/a.png" for part in ("train", "val") for label in (0, 1)))
    (note,) = read_class_folders(tmp_path).notes
    assert "'train' has its images in folders of its own ('0', '1')" in note and f"give '{tmp_path / 'train'}'" in note


@pytest.mark.skipif(os.name == "nt", reason="links need rights")
def test_links_that_lead_back_or_twice_to_one_folder_are_refused(tmp_path: Path) -> None:
    make(tmp_path, "data/ant/a.png", "data/bee/a.png")
    data = tmp_path / "data"
    (data / "cow").symlink_to(data)
    with pytest.raises(InputError, match="cow' is a link to a folder that it lies in"):
        read_class_folders(data)
    (data / "cow").unlink()
    (data / "cow").symlink_to(tmp_path)
    with pytest.raises(InputError, match="is a link to a folder that it lies in"):
        read_class_folders(data)
    (data / "cow").unlink()
    (data / "cow").symlink_to(data / "ant")
    with pytest.raises(InputError, match=r"'ant' and 'cow' of '.*' are the same folder"):
        read_class_folders(data)
    (data / "cow").unlink()
    (data / "ant" / "loop").symlink_to(data / "ant")
    (data / "dead").symlink_to(data / "nowhere")
    assert read_class_folders(data).labels == {0: "ant", 1: "bee"}


def test_recorded_names_tell_the_labels(tmp_path: Path) -> None:
    make(tmp_path, "ant/a.png", "cow/a.png")
    folders = read_class_folders(tmp_path, ("cow", "bee", "ant"))
    assert folders.labels == {0: "cow", 2: "ant"}
    assert folders.problem(3) is None  # a class may be missing: the record tells the others' labels
    with pytest.raises(InputError, match=r"records 2 classes \('bee', 'cat'\), and none named 'ant', 'cow' as in"):
        read_class_folders(tmp_path, ("bee", "cat"))


def test_what_has_no_part_is_counted_and_named(tmp_path: Path) -> None:
    make(tmp_path, "ant/a.png", "cow/a.png")
    for name in ("readme.txt", "ant/a.json", "ant/.DS_Store"):
        (tmp_path / name).write_text("{}")
    folders = read_class_folders(tmp_path, ("ant", "bee"))
    assert folders.files == ((tmp_path / "ant" / "a.png", 0),)
    assert folders.left_out == ("2 files that are no images", "1 class that the network does not know ('cow')")


IDS = ("n01440764", "n01443537", "n01484850")


def test_wordnet_ids_are_counted_in_their_order_also_where_words_are_recorded(tmp_path: Path) -> None:
    make(tmp_path, *(f"{name}/a.JPEG" for name in reversed(IDS)))
    for recorded in ((), ("tench", "goldfish", "shark")):
        folders = read_class_folders(tmp_path, recorded)
        assert folders.layout == "class folders named by WordNet ids"
        assert folders.labels == dict(enumerate(IDS))
        assert folders.problem(3) is None and folders.problem(1000) is not None
    assert read_class_folders(tmp_path, IDS[::-1]).labels == dict(enumerate(IDS[::-1]))  # these are the record's own


def test_a_list_of_ids_tells_the_places_of_a_few(tmp_path: Path) -> None:
    make(tmp_path, f"{IDS[2]}/a.png", "n99999999/a.png")
    folders = read_class_folders(tmp_path, synsets=IDS)
    assert (folders.labels, folders.found.unknown) == ({2: IDS[2]}, ("n99999999",))
    assert folders.problem(3) is None and folders.problem(4) is not None


def test_recorded_names_do_not_concern_folders_named_by_numbers(tmp_path: Path) -> None:
    assert read_class_folders(make(tmp_path, "0/a.png", "2/a.png"), ("a", "b", "c")).labels == {0: "0", 2: "2"}


def test_a_folder_of_images_has_no_class_folders(tmp_path: Path) -> None:
    assert not has_class_folders(make(tmp_path, "a.png", "empty/", ".hidden/a.png"))
    assert not has_class_folders(tmp_path / "a.png")
    assert has_class_folders(make(tmp_path, "deep/er/a.png"))
    with pytest.raises(InputError, match="There is no folder"):
        read_class_folders(tmp_path / "nowhere")


def test_a_number_beyond_every_class_is_refused(tmp_path: Path) -> None:
    folders = read_class_folders(make(tmp_path, f"{'9' * 100}/a.png", "0/a.png"))
    problem = folders.problem(10)
    assert problem is not None and "the network has 10 classes" in problem
