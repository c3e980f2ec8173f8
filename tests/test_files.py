"""Outputs all or nothing: what they may replace, which errors are theirs, and what a kill at any moment leaves."""

from __future__ import annotations

import errno
import multiprocessing
import os
import re
import signal
import sys
from functools import partial
from pathlib import Path

import pytest

from kdna_deploy.errors import AccuracyError, KdnaError, UsageError
from kdna_deploy.external_data import external_files, weights_name
from kdna_deploy.files import atomic_output, check_folder, check_open, check_output, new_folder, scratch_folder
from tests.test_external_data import model_bytes

needs_signals = pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL")


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("link", ["symlink_to", "hardlink_to"])
def test_an_output_is_never_its_input_under_another_name(tmp_path: Path, link: str) -> None:
    source = tmp_path / "ckpt.pt"
    source.touch()
    other = tmp_path / "other.pt"
    getattr(other, link)(source)
    with pytest.raises(UsageError, match="is the input itself"):
        check_output(other, (source,))


def test_weights_that_an_input_refers_to_are_an_input_as_well(tmp_path: Path) -> None:
    (tmp_path / "net.onnx").write_bytes(model_bytes("weights.bin"))
    (tmp_path / "weights.bin").touch()
    with pytest.raises(UsageError, match=r"weights.bin' holds the weights of '.*net.onnx'"):
        check_output(tmp_path / "weights.bin", (tmp_path / "net.onnx",))
    check_output(tmp_path / "other.bin", (tmp_path / "net.onnx",))


def test_an_image_of_a_folder_that_is_read_is_no_output_and_an_earlier_model_in_it_is(tmp_path: Path) -> None:
    (tmp_path / "0").mkdir()
    (tmp_path / "0" / "a.PNG").touch()
    (tmp_path / "net.onnx").touch()
    with pytest.raises(UsageError, match="is an image of the input"):
        check_output(tmp_path / "0" / "a.PNG", (tmp_path,))
    check_output(tmp_path / "net.onnx", (tmp_path,))


def test_what_is_written_beside_an_output_replaces_no_input_either(tmp_path: Path) -> None:
    source = tmp_path / "net.onnx.data"
    source.write_bytes(b"a checkpoint")
    output = tmp_path / "net.onnx"
    with (
        pytest.raises(UsageError, match=r"net.onnx.data' is the input itself"),
        atomic_output(output, (source,)) as new,
    ):
        new.write_bytes(b"a model")
        new.with_name("net.onnx.data").write_bytes(b"its weights")
    assert source.read_bytes() == b"a checkpoint"
    assert names(tmp_path) == ["net.onnx.data"]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("-", "Outputs are files"),
        (".", "is a folder"),
        ("x" * 300, "cannot be written: File name too long"),
        ("no/net.onnx", "There is no folder 'no'"),
        ("pipe", "is a device"),
        ("file/net.onnx", "There is no folder 'file'"),
    ],
)
def test_a_place_that_takes_no_file_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    if hasattr(os, "mkfifo"):
        os.mkfifo("pipe")
    elif name == "pipe":
        pytest.skip("no named pipes")
    with pytest.raises(UsageError, match=said):
        check_output(Path(name))


@pytest.mark.skipif(sys.platform == "win32", reason="other permissions")
def test_a_folder_that_may_not_be_written_to_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "theirs"
    folder.mkdir()
    folder.chmod(0o555)
    tmp_path.chmod(0o755)
    above = [parent for parent in tmp_path.parents if parent.stat().st_uid == os.geteuid() and parent != Path("/")]
    before = {parent: parent.stat().st_mode for parent in above}
    user, of_figures = os.geteuid(), partial(check_open, word="figures")
    try:
        for parent in above:
            parent.chmod(before[parent] | 0o011)
        if user == 0:  # who may write everywhere
            os.seteuid(65534)
        for check, word in ((check_output, "output"), (check_folder, "to"), (of_figures, "figures")):
            with pytest.raises(UsageError, match=f"'{folder}' may not be written to; choose another with `{word}`"):
                check(folder / "net")
    finally:
        os.seteuid(user)
        for parent in above:
            parent.chmod(before[parent])


@pytest.mark.parametrize("way", ["there", "link", "."])
def test_a_folder_that_is_there_stays_the_one_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    place = tmp_path / "there"
    place.mkdir(0o700)
    (tmp_path / "link").symlink_to(place)
    monkeypatch.chdir(place if way == "." else tmp_path)
    before = place.stat()
    with pytest.raises(ValueError, match="amid the work"), new_folder(Path(way)) as made:
        (made / "a").touch()
        raise ValueError("amid the work")
    assert not list(place.iterdir())
    with new_folder(Path(way)) as made:
        (made / "a").touch()
        (made / "b").mkdir()
    assert sorted(path.name for path in place.iterdir()) == ["a", "b"]
    assert (place.stat().st_ino, place.stat().st_mode) == (before.st_ino, before.st_mode)
    assert (tmp_path / "link").is_symlink() and sorted(path.name for path in tmp_path.iterdir()) == ["link", "there"]


def test_folders_that_killed_processes_left_stop_nobody_and_are_left_alone(tmp_path: Path) -> None:
    left = tmp_path / f".net.onnx.{os.getpid()}.partial"
    left.mkdir()
    (left / "net.onnx").touch()
    with atomic_output(tmp_path / "net.onnx") as new:
        new.write_bytes(b"new")
    assert names(tmp_path) == [left.name, "net.onnx"]


def test_two_writers_do_not_meet(tmp_path: Path) -> None:
    with atomic_output(tmp_path / "net.onnx") as first, atomic_output(tmp_path / "net.onnx") as second:
        first.write_bytes(b"first")
        second.write_bytes(b"second")
    assert (tmp_path / "net.onnx").read_bytes() == b"first"  # whose block ended last
    assert names(tmp_path) == ["net.onnx"]


def test_the_current_folder_may_change_while_an_output_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(tmp_path)
    with atomic_output(Path("net.onnx")) as new:
        monkeypatch.chdir(elsewhere)
        new.write_bytes(b"new")
    assert names(tmp_path) == ["elsewhere", "net.onnx"]


@pytest.mark.parametrize("context", ["output", "scratch"])
def test_an_error_in_reading_something_else_is_told_as_what_it_is(tmp_path: Path, context: str) -> None:
    missing = tmp_path / "images" / "a.png"
    folder = atomic_output(tmp_path / "net.onnx") if context == "output" else scratch_folder("test")
    with pytest.raises(FileNotFoundError) as caught, folder:
        missing.read_bytes()
    assert caught.value.filename == str(missing)
    assert names(tmp_path) == []


@pytest.mark.parametrize("named", [True, False])
@pytest.mark.parametrize("context", ["output", "scratch"])
def test_an_error_in_writing_names_the_place_and_the_remedy(tmp_path: Path, context: str, named: bool) -> None:
    folder = atomic_output(tmp_path / "net.onnx") if context == "output" else scratch_folder("test")
    with (
        pytest.raises(KdnaError, match=r"could not be written.*: No space left on device; make room there"),
        folder as at,
    ):
        place = at if context == "output" else at / "file"
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), *([str(place)] if named else []))
    assert names(tmp_path) == []


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES, errno.EPERM])
@pytest.mark.parametrize("context", ["output", "folder", "scratch"])
def test_where_nothing_may_be_written_room_is_no_remedy(tmp_path: Path, context: str, number: int) -> None:
    target = tmp_path / "net.onnx"
    folder = {"output": atomic_output, "folder": new_folder}[context](target) if context != "scratch" else None
    remedy = "set TMPDIR to another folder" if folder is None else "choose another place"
    with (
        pytest.raises(KdnaError, match=rf"could not be written.*: {os.strerror(number)}; {remedy}\."),
        folder or scratch_folder("test") as at,
    ):
        raise OSError(number, os.strerror(number), str(at / "file"))
    assert names(tmp_path) == []


def test_an_error_of_a_file_in_a_new_folder_names_it_where_it_was_to_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    said = f"'{Path('release', 'net.onnx')}' could not be written: No space left on device; make room there"
    with (
        pytest.raises(KdnaError, match=f"^{re.escape(said)}"),
        new_folder(Path("release")) as made,
        atomic_output(made / "net.onnx"),
    ):
        raise full
    with pytest.raises(AccuracyError) as caught, new_folder(Path("release")) as made:
        raise AccuracyError(f"'{made / 'net.onnx'}' loses too much.", ("a layer",))  # type: ignore[arg-type]
    assert str(caught.value) == f"'{Path('release', 'net.onnx')}' loses too much."
    assert caught.value.sensitivities == ("a layer",)
    assert names(tmp_path) == []


def test_without_any_temporary_folder_the_remedy_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "gone"))
    with pytest.raises(KdnaError, match="set TMPDIR to another folder"), scratch_folder("test"):
        pass


def writer(folder: Path, content: str, dies: int) -> None:
    """Write a model with weights of its own content, as `onnx.save` does, and die before the renaming `dies`."""
    renamed = 0
    replace = Path.replace

    def counted(path: Path, target: Path) -> Path:
        nonlocal renamed
        if renamed == dies:
            os.kill(os.getpid(), signal.SIGKILL)
        renamed += 1
        return replace(path, target)

    Path.replace = counted  # type: ignore[assignment,method-assign]
    with atomic_output(folder / "net.onnx") as new:
        name = weights_name("net.onnx", content * 16)
        new.with_name(name).write_text(content)
        new.write_bytes(model_bytes(name))


def write(folder: Path, content: str, dies: int = -1) -> int:
    """Exit code of a process that does so."""
    process = multiprocessing.get_context("fork").Process(target=writer, args=(folder, content, dies))
    process.start()
    process.join(60)
    assert process.exitcode is not None
    return process.exitcode


@pytest.mark.slow
@needs_signals
@pytest.mark.parametrize("dies", [0, 1])
def test_a_kill_at_the_moment_of_renaming_leaves_the_old_model_with_its_own_weights(tmp_path: Path, dies: int) -> None:
    assert write(tmp_path, "a") == 0
    assert write(tmp_path, "b", dies) < 0
    (weights,) = external_files(tmp_path / "net.onnx")
    assert weights.read_text() == "a"
    # What was left over stops nobody, and weights that nothing refers to go with the next export.
    assert write(tmp_path, "c") == 0
    (weights,) = external_files(tmp_path / "net.onnx")
    assert weights.read_text() == "c"
    visible = [name for name in names(tmp_path) if not name.startswith(".")]
    still_named = [weights_name("net.onnx", "b" * 16)]  # by the model in the folder that the killed process left
    assert visible == sorted(["net.onnx", weights.name, *still_named * dies])


def test_what_a_killed_process_left_in_a_folder_that_was_there_stops_nothing(tmp_path: Path) -> None:
    (tmp_path / "out" / ".out.abc.partial").mkdir(parents=True)
    with new_folder(tmp_path / "out") as made:
        (made / "net.onnx").touch()
    assert (tmp_path / "out" / "net.onnx").is_file()
