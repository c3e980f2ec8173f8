"""A process may end at any moment: the output is there and whole, or not there, and nothing else is left."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from kdna_deploy.graph.file import load_fused
from kdna_deploy.runtimes.ort import OrtSession
from tests.hostile_inputs.processes import After, At, Full, command, ended, run, start

pytestmark = pytest.mark.slow
# The temporary folder, the file in it, its name: every change that `fuse` makes, and one that it does not make.
MOMENTS = range(1, 6)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "work").mkdir()
    return tmp_path / "work"


def left_over(files: frozenset[str]) -> set[str]:
    return {name for name in files if not name.endswith(".partial")}


def test_killed_at_any_moment_the_output_is_whole_or_not_there(folder: Path) -> None:
    for moment in MOMENTS:  # what a killed process leaves stops none of those after it
        done = run(folder, command("fuse"), At(moment, signal.SIGKILL))
        assert done.code in (0, -signal.SIGKILL), (moment, done.stderr)
        assert left_over(done.files) <= {"out.fused.pt2"}
        if "out.fused.pt2" in done.files:
            load_fused(folder / "out.fused.pt2")
            (folder / "out.fused.pt2").unlink()
    again = run(folder, command("fuse"))
    assert again.code == 0, again.stderr
    load_fused(folder / "out.fused.pt2")


def test_killed_while_it_replaces_a_model_with_weights_of_its_own_one_of_the_two_is_whole(folder: Path) -> None:
    assert run(folder, command("external")).code == 0
    for moment in MOMENTS:
        done = run(folder, command("external"), At(moment, signal.SIGKILL))
        assert done.code in (0, -signal.SIGKILL), (moment, done.stderr)
        OrtSession(folder / "out.onnx")


@pytest.mark.parametrize(
    ("moment", "number"), [(1, signal.SIGINT), (1, signal.SIGTERM), (2, signal.SIGINT), (3, signal.SIGTERM)]
)
def test_told_to_end_while_it_writes_it_leaves_nothing(folder: Path, moment: int, number: signal.Signals) -> None:
    done = run(folder, command("fuse"), At(moment, number))
    assert done.code == 128 + number, done.stderr
    assert done.files <= {"out.fused.pt2"}  # told after its renaming, it is there
    assert not done.temporary
    assert done.stderr in ("error: interrupted.\n", "error: ended by SIGTERM.\n")


@pytest.mark.parametrize(
    ("seconds", "number"),
    [(0.05, signal.SIGINT), (0.1, signal.SIGTERM), (0.2, signal.SIGINT), (0.4, signal.SIGTERM), (0.8, signal.SIGINT)],
)
def test_told_to_end_at_any_time_it_leaves_nothing(folder: Path, seconds: float, number: signal.Signals) -> None:
    done = run(folder, command("export"), meddle=After(seconds, number))
    assert done.code in (0, 128 + number), done.stderr
    assert done.files <= {"out.onnx"}
    assert not done.temporary
    assert done.code == 0 or done.stderr in ("error: interrupted.\n", "error: ended by SIGTERM.\n")


@pytest.mark.parametrize(("name", "size"), [("fuse", 100), ("fuse", 16_000), ("export", 0), ("export", 4096)])
def test_on_a_full_disk_there_is_one_sentence_and_no_output(folder: Path, name: str, size: int) -> None:
    done = run(folder, command(name), Full(size))
    assert done.code == 1
    assert not done.files
    assert not done.temporary
    if size >= 4096:  # the sentence itself goes into a file
        assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
        assert "make room" in done.stderr


def test_two_writers_of_one_output_leave_one_that_is_whole(folder: Path) -> None:
    both = [start(folder, command("fuse")) for _ in range(2)]
    outcomes = [ended(folder, process) for process in both]
    assert [done.code for done in outcomes] == [0, 0], [done.stderr for done in outcomes]
    assert outcomes[-1].files == {"out.fused.pt2"}
    load_fused(folder / "out.fused.pt2")
