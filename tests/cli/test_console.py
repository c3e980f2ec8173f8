"""What is shown while a longer job runs, on a terminal."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console
from rich.progress import Progress, Task

from kdna_deploy.cli import console
from kdna_deploy.cli.console import Sink


@pytest.fixture
def bars(monkeypatch: pytest.MonkeyPatch) -> list[Progress]:
    """The bars that were shown, as on a terminal."""
    shown: list[Progress] = []

    class Seen(Progress):
        def __init__(self, *columns: Any, **options: Any) -> None:
            terminal = Console(file=io.StringIO(), force_terminal=True, width=100)
            super().__init__(*columns, **{**options, "console": terminal, "disable": False})
            shown.append(self)

    monkeypatch.setattr(console, "Progress", Seen)
    return shown


def only_task(bars: list[Progress]) -> Task:
    ((task,),) = (bar.tasks for bar in bars)
    return task


def test_a_step_forgets_the_total_and_the_count_of_the_step_before(bars: list[Progress]) -> None:
    sink = Sink()
    with sink.steps() as (step, count):
        sink.expect_images(50)
        step("calibrate")
        count(20)
        task = only_task(bars)
        assert (task.completed, task.total, task.fields["counted"]) == (20, 50, "20 of 50 images")
        step("write [bold]")
        task = only_task(bars)
        assert (task.completed, task.total, task.fields["counted"]) == (0, None, "")
        assert task.description == r"write \[bold] …"
        count(8)
        task = only_task(bars)
        assert (task.completed, task.total, task.fields["counted"]) == (8, None, "8 of ? images")


def test_a_total_that_is_told_before_its_step_is_kept(bars: list[Progress]) -> None:
    sink = Sink()
    with sink.steps() as (step, count):
        step("open")
        sink.expect_images(10)
        step("evaluate")
        count(10)
        assert only_task(bars).fields["counted"] == "10 of 10 images"
