"""What a path names is told truthfully, whatever is behind it."""

from __future__ import annotations

import os
import socket
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from kdna_deploy.errors import InputError
from kdna_deploy.input_files import MODELS, Kind, check_images, check_input, check_labelled

unix = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes")


def checkpoint(path: Path) -> None:
    torch.save({"state_dict": {"w": torch.zeros(1)}}, path)


def archive(*members: str) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        with zipfile.ZipFile(path, "w") as file:
            for member in members:
                file.writestr(member, b"")

    return make


def picture(path: Path) -> None:
    Image.new("RGB", (2, 2)).save(path, "PNG")


def numbers(path: Path) -> None:
    np.savez(path.open("wb"), a=np.zeros(1))


def a_socket(path: Path) -> None:
    # The path of a socket is short.
    here = Path.cwd()
    os.chdir(path.parent)
    socket.socket(socket.AF_UNIX).bind(path.name)
    os.chdir(here)


def link_to_nothing(path: Path) -> None:
    path.symlink_to("nowhere.pt")


def link_to_itself(path: Path) -> None:
    path.symlink_to(path.name)


@pytest.mark.parametrize(
    ("name", "make", "said"),
    [
        ("gone.pt", lambda path: None, "There is no file 'gone.pt'."),
        ("zero\0byte.pt", lambda path: None, "There is no file 'zero\0byte.pt'."),
        ("folder.pt", Path.mkdir, "'folder.pt' is a folder; fuse takes a checkpoint."),
        pytest.param("p.pt", lambda path: os.mkfifo(path), "'p.pt' is a named pipe, not a file; ", marks=unix),
        pytest.param("s.pt", a_socket, "'s.pt' is a socket, not a file; ", marks=unix),
        pytest.param("l.pt", link_to_nothing, "'l.pt' is a link to 'nowhere.pt', which is not there.", marks=unix),
        pytest.param("o.pt", link_to_itself, "'o.pt' is a link that leads back to itself.", marks=unix),
        ("n" * 300, lambda path: None, "may not be read: file name too long."),
        (
            "net.onnx",
            lambda path: path.write_bytes(b"\x08\x08\x12\x07pytorch"),
            "is an ONNX file, and fuse takes a che",
        ),
        ("a.engine", lambda path: path.write_bytes(b"ftrt"), "is an engine, and fuse takes a checkpoint."),
        (
            "net.pt2",
            archive("net/archive_format", "net/models/model.json"),
            "is a fused graph, and fuse takes a checkp",
        ),
        ("net.pt", archive("net/archive_format"), "is a fused graph, and fuse takes a checkpoint."),
        ("net.pt", picture, "is an image, and fuse takes a checkpoint."),
        ("net.pt", numbers, "is a NumPy file, and fuse takes a checkpoint."),
        ("run.json", lambda path: path.write_text(' {"kind"'), "is a JSON file, and fuse takes a checkpoint."),
    ],
)
def test_what_is_no_checkpoint_is_told_as_what_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, make: Callable[[Path], None], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    make(Path(name))
    with pytest.raises(InputError) as caught:
        check_input(Path(name), (Kind.checkpoint,), "fuse")
    assert said in str(caught.value)


@pytest.mark.parametrize("model", ["net.ncnn.param", "net.xml"])
def test_weights_alone_are_told_by_the_file_that_is_to_be_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: str
) -> None:
    monkeypatch.chdir(tmp_path)
    weights = Path(model).with_suffix(".bin")
    weights.write_bytes(b"\x47\x6b\x30\x01" + bytes(60))
    check_input(weights, MODELS, "run")  # where nothing lies beside it, its reader says what it is
    Path(model).touch()
    with pytest.raises(InputError, match=rf"^'{weights}' holds the weights of '{model}'; give that\.$"):
        check_input(weights, MODELS, "run")
    with pytest.raises(InputError, match=rf"holds the weights of '{model}'; fuse takes a checkpoint\.$"):
        check_input(weights, (Kind.checkpoint,), "fuse")
    checkpoint(weights)
    check_input(weights, MODELS, "run")


@pytest.mark.parametrize("name", ["net.pt", "net.pth.tar", "net.onnx", "net.pt2", "no suffix"])
def test_a_checkpoint_is_taken_under_any_name(tmp_path: Path, name: str) -> None:
    checkpoint(tmp_path / name)
    check_input(tmp_path / name, (Kind.checkpoint,), "fuse")


@pytest.mark.parametrize("content", [b"", b"text", b"PK\3\4 cut short", b"\x00" * 100])
def test_what_cannot_be_told_is_left_to_the_reader(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "net.pt").write_bytes(content)
    check_input(tmp_path / "net.pt", (Kind.checkpoint,), "fuse")


@pytest.mark.parametrize(("name", "renamed"), [("net.onnx", "net.pt"), ("net.engine", "net.pt"), ("net.pt2", "net.pt")])
def test_a_model_whose_name_would_mislead_its_reader_is_told_so(tmp_path: Path, name: str, renamed: str) -> None:
    checkpoint(tmp_path / name)
    with pytest.raises(InputError, match=f"is a checkpoint, which its name does not say; rename it to '{renamed}'"):
        check_input(tmp_path / name, MODELS, "verify")


@pytest.mark.parametrize(
    ("check", "make", "said"),
    [
        (check_images, lambda path: None, "There is no file or folder"),
        (check_images, picture, "is an image, and --x takes a NumPy file; give the folder that it lies in."),
        (check_images, checkpoint, "is a checkpoint, and --x takes a NumPy file."),
        pytest.param(check_images, lambda path: os.mkfifo(path), "is a named pipe, not a file", marks=unix),
        (check_labelled, lambda path: None, "There is no folder"),
        (
            check_labelled,
            checkpoint,
            "is a file; --x takes a folder that holds a folder of images for each class, or a table",
        ),
        pytest.param(check_labelled, lambda path: os.mkfifo(path), "is a named pipe; --x takes a folder", marks=unix),
    ],
)
def test_what_holds_no_images_is_told_as_what_it_is(
    tmp_path: Path, check: Callable[[Path, str], None], make: Callable[[Path], None], said: str
) -> None:
    make(tmp_path / "images")
    with pytest.raises(InputError, match=said):
        check(tmp_path / "images", "--x")


def test_folders_and_arrays_of_images_are_taken(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros(1))
    numbers(tmp_path / "a.npz")
    for path in (tmp_path, tmp_path / "a.npy", tmp_path / "a.npz"):
        check_images(path, "--inputs")
    check_labelled(tmp_path, "--data")


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="other permissions")
def test_what_may_not_be_read_is_told_so(tmp_path: Path) -> None:
    path = tmp_path / "net.pt"
    checkpoint(path)
    path.chmod(0)
    if os.access(path, os.R_OK):
        pytest.skip("this user may read everything")
    with pytest.raises(InputError, match="may not be read: permission denied"):
        check_input(path, (Kind.checkpoint,), "fuse")
