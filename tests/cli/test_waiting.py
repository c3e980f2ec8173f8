"""Threads sleep when they have waited a moment while a command runs, and wait as everybody's do while one measures."""

from __future__ import annotations

import os

import pytest

from kdna_deploy.cli.app import run

NAMES = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")


@pytest.mark.parametrize(
    ("command", "set_before", "during"),
    [
        ("fuse", None, ("PASSIVE", "5000")),
        ("fuse", "ACTIVE", ("ACTIVE", None)),
        ("bench", None, (None, None)),
    ],
)
def test_only_conversions_put_threads_to_sleep(
    command: str, set_before: str | None, during: tuple[str | None, str | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in NAMES:
        monkeypatch.setenv(name, "")  # remembered, and restored afterwards
        monkeypatch.delenv(name)
    if set_before:
        monkeypatch.setenv("OMP_WAIT_POLICY", set_before)
    assert run([command, "there-is-no-such-file.onnx"]) != 0
    assert tuple(map(os.environ.get, NAMES)) == during
