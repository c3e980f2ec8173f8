"""What is shown while a longer job runs: a line that moves in a terminal, a line a step in a log."""

from __future__ import annotations

import io
import re
import time
from contextlib import suppress
from pathlib import Path

import pytest
from rich.console import Console

from kdna_deploy.cli.console import Sink
from kdna_deploy.cli.progress import Shown
from kdna_deploy.errors import InputError
from kdna_deploy.reports.report import Report


def console(terminal: bool) -> Console:
    return Console(file=io.StringIO(), force_terminal=terminal, width=80, highlight=False)


def written(told: Console) -> str:
    assert isinstance(told.file, io.StringIO)
    return told.file.getvalue()


def test_a_log_has_a_line_for_each_planned_step_as_it_begins() -> None:
    told = console(terminal=False)
    with Shown(told, told.is_terminal) as shown:
        shown.plan(["load", "fuse [x]", "write"])
        shown.step("load")
        assert written(told) == "[1/3] load … (0 s)\n"
        shown.step("fuse [x]")
        shown.step("fold batchnorm")  # a part of it
        shown.step("write")
    assert written(told) == "[1/3] load … (0 s)\n[2/3] fuse [x] … (0 s)\n[3/3] write … (0 s)\n"


def test_a_step_that_is_left_out_takes_its_number_along() -> None:
    told = console(terminal=False)
    with Shown(told, told.is_terminal) as shown:
        shown.plan(["load", "simplify", "write"])
        shown.step("load")
        shown.step("write")
    assert written(told).splitlines()[-1] == "[3/3] write … (0 s)"


def test_steps_without_a_plan_are_for_terminals_alone() -> None:
    told = console(terminal=False)
    with Shown(told, told.is_terminal) as shown:
        shown.step("load")
        shown.advance(3)
    assert written(told) == ""


def test_a_terminal_shows_the_step_and_forgets_the_total_and_count_of_the_one_before() -> None:
    with Shown(console(terminal=True), live=True) as shown:
        shown.plan(["calibrate", "write"])
        shown.step("calibrate")
        shown.expect(50)
        shown.advance(20)
        (task,) = shown.tasks
        assert (task.completed, task.total, task.fields["counted"]) == (20, 50, "20 of 50 images")
        shown.step("write")
        shown.step("all of [it]")
        (task,) = shown.tasks
        assert (task.completed, task.total, task.fields["counted"]) == (0, None, "")
        assert task.description == r"\[2/2] write: all of \[it] …"
        shown.advance(8)
        (task,) = shown.tasks
        assert (task.completed, task.total, task.fields["counted"]) == (8, None, "8 images")


def test_a_count_has_its_rate_and_a_log_a_line_now_and_then() -> None:
    told = console(terminal=False)
    with Shown(told, told.is_terminal, every=0) as shown:
        shown.plan(["evaluate"])
        shown.step("evaluate")
        shown.expect(50)
        shown.advance(20)  # one sample tells no rate yet
        time.sleep(0.01)
        shown.advance(20)
    begins, first, second = written(told).splitlines()
    assert (begins, first) == ("[1/1] evaluate … (0 s)", "[1/1] evaluate: 20 of 50 images (0 s)")
    rate = re.fullmatch(r"\[1/1\] evaluate: 40 of 50 images, (\S+)/s \(0 s\)", second)
    assert rate and 20 < float(rate[1]) <= 2000  # 20 in at least 0.01 s


def test_a_fraction_has_a_bar_and_no_words() -> None:
    with Shown(console(terminal=True), live=True) as shown:
        shown.step("build")
        shown.expect(1, "")
        shown.advance(0.25)
        (task,) = shown.tasks
        assert (task.completed, task.total, task.fields["counted"]) == (0.25, 1, "")


def test_a_terminal_is_left_as_it_was() -> None:
    told = console(terminal=True)
    with Shown(told, told.is_terminal) as shown:
        shown.step("load")
    assert written(told).endswith("\x1b[1A\x1b[2K")  # the line is taken back


@pytest.mark.parametrize("fails", [False, True])
def test_what_was_skipped_and_warned_of_is_told_once_at_the_end(
    fails: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    with suppress(InputError), Sink().listening() as listener:
        for _ in range(2):
            listener.skip(Path("a") / "cut.png", "it is cut short")
            listener.warn("careful")
            listener.note("as recorded")
        assert capsys.readouterr().err == ""
        if fails:
            raise InputError("No image can be read.")
    assert capsys.readouterr().err.splitlines() == [
        "note: as recorded",
        "warning: 1 file is no readable image and was skipped (cut.png: it is cut short)",
        "warning: careful",
    ]


def test_a_note_of_the_work_is_not_told_again_with_the_result(capsys: pytest.CaptureFixture[str]) -> None:
    sink = Sink()
    with sink.listening() as listener:
        listener.note("stored in float16")
    sink.report(Report((), {"kind": "test"}, notes=("stored in float16", "as recorded")))
    assert capsys.readouterr().err.splitlines() == ["note: stored in float16", "note: as recorded"]


def test_what_is_left_of_the_whole_stands_beside_each_step_until_it_is_over() -> None:
    told = console(terminal=False)
    with Shown(told, told.is_terminal, every=0) as shown:
        shown.plan(["make", "time"])
        shown.step("make")
        shown.left(720)
        shown.step("time")
        shown.expect(3, "processes")
        shown.advance()
        shown.left(20)
        shown.advance()
        shown.left(-1)
        shown.advance()
    assert [line.partition("(")[2] for line in written(told).splitlines()] == [
        *("0 s)", "0 s, about 12 min left)", "0 s, about 12 min left)", "0 s, less than a minute left)", "0 s)")
    ]


def test_a_step_counts_images_whatever_the_one_before_counted() -> None:
    with Shown(console(terminal=True), live=True) as shown:
        shown.step("time")
        shown.expect(3, "processes")
        shown.step("calibrate")
        shown.advance(8)
        (task,) = shown.tasks
        assert task.fields["counted"] == "8 images"
