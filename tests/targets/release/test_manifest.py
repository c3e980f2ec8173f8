"""A manifest is read as it was written, and nothing of another one is believed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kdna_deploy.errors import ArtifactError
from kdna_deploy.targets.release.manifest import (
    NAME,
    Agreed,
    Manifest,
    ReleasedFile,
    ReleasedModel,
    ReleasedPackage,
    read_manifest,
)

MANIFEST = Manifest(
    name="größer",
    network={"architecture": "resnet18", "preprocessing": {"mean": [0.5]}},
    licence=None,
    targets=("cpu", "triton"),
    models=(
        ReleasedModel(
            "net.onnx", "cpu", ("net.onnx",), "agrees", "kdna-deploy export", "ONNX Runtime", Agreed("it", 8, 0.5)
        ),
        ReleasedModel("net.xml", "openvino", ("net.xml", "net.bin"), "agrees", "kdna-deploy export"),
    ),
    packages=(ReleasedPackage("triton", "triton", {"triton/net/1/model.onnx": "net.onnx"}, "kdna-deploy package"),),
    files=tuple(
        ReleasedFile(path, 7, "0" * 64) for path in ("net.onnx", "net.xml", "net.bin", "triton/net/1/model.onnx")
    ),
    commands={"ship": "kdna-deploy ship"},
    made_with={"versions": {"numpy": "2.0"}},
    notes=("a note",),
)


def test_it_is_read_as_it_was_written(tmp_path: Path) -> None:
    (tmp_path / NAME).write_text(MANIFEST.to_json(), encoding="utf-8")
    assert read_manifest(tmp_path) == MANIFEST
    assert json.loads(MANIFEST.to_json())["schema_version"] == 1


def set_path(value: str) -> Callable[[dict[str, Any]], None]:
    return lambda data: data["files"][0].update(path=value)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda data: data.update(schema_version=2), "was written by a later kdna-deploy (schema 2); update this one"),
        (lambda data: data.update(kind="sweep"), "damaged (kind is none of the known values)"),
        (lambda data: data.pop("models"), "damaged (models is missing)"),
        (lambda data: data["files"].pop(), "damaged (files is without 'triton/net/1/model.onnx')"),
        (lambda data: data["models"].clear(), "damaged (models is a list of another length)"),
        (lambda data: data["models"][1]["parts"].clear(), "damaged (models.1.parts is a list of another length)"),
        (lambda data: data["files"][0].update(sha256="short"), "damaged (files.0.sha256 is not of its form)"),
        (lambda data: data.update(licence="MIT\x1b[2J"), "damaged (licence is not of its form)"),
        *(
            (set_path(path), "files.0.path is not of its form")
            for path in ("/etc/passwd", "../net", "a/../../b", "a//b", "C:b", "a\\b", "..", "")
        ),
    ],
)
def test_what_has_not_its_form_is_refused(tmp_path: Path, spoil: Callable[[Any], object], said: str) -> None:
    data = json.loads(MANIFEST.to_json())
    spoil(data)
    (tmp_path / NAME).write_text(json.dumps(data), encoding="utf-8")
    with pytest.raises(ArtifactError) as refused:
        read_manifest(tmp_path)
    assert said in str(refused.value)


def other_bytes(field: str, value: object) -> Callable[[dict[str, Any]], None]:
    """Of the copy, and not of what it is a copy of."""
    return lambda data: data["files"][-1].update({field: value})


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        *(
            (spoil, "'triton/net/1/model.onnx' is said to be a copy of 'net.onnx', and has other bytes")
            for spoil in (other_bytes("sha256", "1" * 64), other_bytes("bytes", 8))
        ),
        (
            lambda data: data["packages"][0]["models"].update({"triton/net/1/model.onnx": "net.bin"}),
            "'triton/net/1/model.onnx' is said to be a copy of 'net.bin', which is none of its models",
        ),
        (lambda data: data["packages"][0]["models"].clear(), "'triton' holds no copy of a model"),
        (lambda data: data["files"].append({**data["files"][1], "bytes": 8}), "it names 'net.xml' twice"),
        (lambda data: data["models"].append(data["models"][0]), "it has two models in 'net.onnx'"),
        (
            lambda data: data["models"][1].update(parts=["net.onnx"]),
            "the first part of the model in 'net.xml' is 'net.onnx'",
        ),
    ],
)
def test_one_that_contradicts_itself_is_refused(tmp_path: Path, spoil: Callable[[Any], object], said: str) -> None:
    data = json.loads(MANIFEST.to_json())
    spoil(data)
    (tmp_path / NAME).write_text(json.dumps(data), encoding="utf-8")
    with pytest.raises(ArtifactError) as refused:
        read_manifest(tmp_path)
    assert str(refused.value) == f"'{tmp_path / NAME}' contradicts itself: {said}; copy it again."


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b"\xff", b"[" * 100_000])
def test_what_is_no_manifest_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / NAME).write_bytes(content)
    with pytest.raises(ArtifactError, match="is no manifest of a release, or damaged"):
        read_manifest(tmp_path)
