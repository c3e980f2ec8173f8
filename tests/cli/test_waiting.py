"""Threads wait asleep while a command runs, and as they do for everybody while one measures."""

from __future__ import annotations

import os

import pytest

from kdna_deploy.cli.app import run


@pytest.mark.parametrize(
    ("command", "set_before", "during"),
    [
        ("fuse", None, "PASSIVE"),
        ("fuse", "ACTIVE", "ACTIVE"),
        ("bench", None, None),
    ],
)
def test_only_conversions_put_threads_to_sleep(
    command: str, set_before: str | None, during: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_WAIT_POLICY", "")  # remembered, and restored afterwards
    monkeypatch.delenv("OMP_WAIT_POLICY")
    if set_before:
        monkeypatch.setenv("OMP_WAIT_POLICY", set_before)
    assert run([command, "there-is-no-such-file.onnx"]) != 0
    assert os.environ.get("OMP_WAIT_POLICY") == during
