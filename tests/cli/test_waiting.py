"""Threads sleep when they have waited while a command runs, and wait as everybody's do while one measures."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from kdna_deploy.cli import waiting
from kdna_deploy.cli.app import run

NAMES = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
IDLE, BUSY = "0.00 0.01 0.05 1/80 77\n", "0.00 0.01 0.05 3/80 77\n"


@pytest.mark.parametrize(
    ("command", "load", "set_before", "during"),
    [
        ("fuse", IDLE, None, ("PASSIVE", "5000")),
        ("fuse", BUSY, None, ("PASSIVE", None)),
        ("fuse", None, None, ("PASSIVE", None)),
        ("fuse", "as another system has it", None, ("PASSIVE", None)),
        ("fuse", IDLE, "ACTIVE", ("ACTIVE", None)),
        ("bench", IDLE, None, (None, None)),
    ],
)
def test_only_conversions_put_threads_to_sleep_and_on_an_idle_machine_after_a_moment(
    command: str,
    load: str | None,
    set_before: str | None,
    during: tuple[str | None, str | None],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setattr(waiting, "_LOAD", tmp_path / "loadavg")
    if load is not None:
        (tmp_path / "loadavg").write_text(load)
    for name in NAMES:
        monkeypatch.setenv(name, "")  # remembered, and restored afterwards
        monkeypatch.delenv(name)
    if set_before:
        monkeypatch.setenv("OMP_WAIT_POLICY", set_before)
    assert run([command, "there-is-no-such-file.onnx"]) != 0
    assert tuple(map(os.environ.get, NAMES)) == during
