"""``kdna-deploy export`` as a user types it: what it shows of a file that loses too much."""

from __future__ import annotations

import pytest

from kdna_deploy.cli.app import run
from kdna_deploy.errors import AccuracyError
from kdna_deploy.targets.onnx.sensitivity import Sensitivity


def told_of(error: AccuracyError, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> str:
    """What is said where the library ends with `error`."""

    def exported(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("kdna_deploy.cli.export.exported", exported)
    assert run(["export", "net.pt"]) == 1
    told = capsys.readouterr()
    assert told.out == ""
    return told.err


@pytest.mark.parametrize("bits", ["int8", "int4"])
def test_the_most_sensitive_layers_are_shown_in_what_they_lose_it(
    bits: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    error = AccuracyError("Too much is lost.", (Sensitivity("fc/Gemm", 20.0),), bits)
    told = told_of(error, monkeypatch, capsys)
    assert f"with that layer alone in {bits}" in " ".join(told.split())
    assert ["fc/Gemm", "20.0", bits] in [line.split() for line in told.splitlines()]
    assert told.endswith("error: Too much is lost.\n")


def test_without_them_there_is_no_table(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert told_of(AccuracyError("Too much is lost."), monkeypatch, capsys) == "error: Too much is lost.\n"
