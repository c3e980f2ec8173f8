"""The record beside an engine: what it tells, and which engines it keeps from being opened."""

from __future__ import annotations

import json
import shlex
from dataclasses import replace
from pathlib import Path

import pytest

from kdna_deploy.errors import ArtifactError, KdnaError, RuntimeFailure
from kdna_deploy.runtimes.nvidia.batches import Batches
from kdna_deploy.runtimes.nvidia.engine_record import (
    EngineRecord,
    check_engine,
    check_gpu,
    check_version,
    digest,
    read_record,
    rebuild_command,
    record_path,
)
from kdna_deploy.runtimes.nvidia.gpu import Gpu
from kdna_deploy.runtimes.nvidia.log import Notice
from tests.targets.tensorrt.onnx_files import PROVENANCE

CONTENT = b"an engine"
RANGE = Batches(1, 8, 128)
RECORD = EngineRecord(
    library="tensorrt-rtx",
    library_version="1.7.1.116",
    engine_sha256=digest(CONTENT),
    onnx="net.onnx",
    onnx_sha256="1" * 64,
    precision="fp16",
    tf32=True,
    batches=RANGE,
    image_shape=(3, 224, 224),
    compute_capabilities=("8.6", "8.9"),
    gpu=None,
    warnings=(Notice("slow", 2),),
    rebuild=rebuild_command(Path("net.onnx"), Path("net.rtx.engine"), "tensorrt-rtx", RANGE, True, ("8.6", "8.9")),
    provenance=PROVENANCE,
)
TIMED = replace(RECORD, library="tensorrt", compute_capabilities=("8.6",), gpu="NVIDIA A10")


@pytest.fixture
def engine(tmp_path: Path) -> Path:
    path = tmp_path / "net.rtx.engine"
    path.write_bytes(CONTENT)
    record_path(path).write_text(RECORD.to_json())
    return path


@pytest.mark.parametrize("record", [RECORD, TIMED, replace(RECORD, provenance=None, warnings=())])
def test_a_record_is_read_as_it_was_written(engine: Path, record: EngineRecord) -> None:
    record_path(engine).write_text(record.to_json())
    assert read_record(engine) == record
    check_engine(engine, record)


def test_a_missing_engine_and_a_missing_record_are_told_apart(engine: Path) -> None:
    record_path(engine).unlink()
    with pytest.raises(ArtifactError, match=r"has no record 'net\.rtx\.engine\.json' .* build it again: `export\("):
        read_record(engine)
    engine.unlink()
    with pytest.raises(ArtifactError, match="There is no file"):
        read_record(engine)


def _changed(**fields: object) -> str:
    return json.dumps({**json.loads(RECORD.to_json()), **fields})


@pytest.mark.parametrize(
    "text",
    [
        *("", "{", "[]", "3", "{}", RECORD.to_json()[:-20]),
        _changed(batches={"smallest": 8, "typical": 4, "largest": 2}),
        _changed(batches=None),
        _changed(library="another"),
        _changed(unknown=1),
        _changed(provenance={"schema_version": 1}),
        _changed(warnings=[1]),
    ],
)
def test_a_damaged_record_is_refused_with_the_way_to_a_new_one(engine: Path, text: str) -> None:
    record_path(engine).write_text(text)
    with pytest.raises(ArtifactError, match=r"is damaged; build the engine again: `export\("):
        read_record(engine)


def test_a_record_of_a_later_version_asks_for_an_update(engine: Path) -> None:
    record_path(engine).write_text(_changed(schema_version=99))
    with pytest.raises(ArtifactError, match=r"schema 99.*update this one"):
        read_record(engine)


def test_a_changed_engine_is_refused_with_the_command_that_rebuilds_it(engine: Path) -> None:
    engine.write_bytes(CONTENT + b"!")
    refused(lambda: check_engine(engine, RECORD), ArtifactError, "changed or cut short")


@pytest.mark.parametrize("installed", ["1.7.1.117", "1.7.2", "1.8.0.1", "1.7.1"])
def test_an_engine_of_another_version_is_refused(engine: Path, installed: str) -> None:
    check_version(engine, RECORD, "1.7.1.116")
    message = f"built by TensorRT-RTX 1.7.1.116 and cannot run on TensorRT-RTX {installed}"
    refused(lambda: check_version(engine, RECORD, installed), RuntimeFailure, message)


@pytest.mark.parametrize("capability", ["8.6", "8.9"])
def test_a_gpu_that_the_engine_was_built_for_fits(engine: Path, capability: str) -> None:
    check_gpu(engine, RECORD, Gpu("any", capability))


@pytest.mark.parametrize("capability", ["8.0", "12.0", "7.5"])
def test_another_compute_capability_is_refused_with_a_command_for_it(engine: Path, capability: str) -> None:
    with pytest.raises(RuntimeFailure) as caught:
        check_gpu(engine, RECORD, Gpu("NVIDIA X", capability))
    said, _, command = str(caught.value).partition("build it again: ")
    assert f"for compute capability 8.6, 8.9, and this GPU is a NVIDIA X with {capability}" in said
    assert command == (
        "kdna-deploy export net.onnx --tensorrt-rtx --batch 1:8:128 -o net.rtx.engine "
        f"--compute-capability {capability}"
    )


def test_the_default_of_tensorrt_rtx_fits_ampere_and_later(engine: Path) -> None:
    default = replace(RECORD, compute_capabilities=())
    for capability in ("8.0", "8.6", "8.9", "10.0", "12.0", "12.1"):
        check_gpu(engine, default, Gpu("any", capability))
    refused(lambda: check_gpu(engine, default, Gpu("old", "7.5")), RuntimeFailure, "12.0 and later")


def test_an_engine_of_tensorrt_is_for_the_gpu_that_it_was_timed_on(engine: Path) -> None:
    check_gpu(engine, TIMED, Gpu("NVIDIA A10", "8.6"))
    # The same compute capability, another GPU.
    refused(lambda: check_gpu(engine, TIMED, Gpu("NVIDIA A40", "8.6")), RuntimeFailure, "on the GPU NVIDIA A10")


def test_the_command_survives_a_shell() -> None:
    command = rebuild_command(Path("my net.onnx"), Path("a/my net.engine"), "tensorrt", Batches(8, 8, 8), False, ())
    words = ["kdna-deploy", "export", "my net.onnx", "--tensorrt", "--batch", "8", "-o", "my net.engine", "--no-tf32"]
    assert shlex.split(command) == words


def refused(check: object, error: type[KdnaError], cause: str) -> None:
    """`check` raises `error` with the cause and the recorded command, on one line."""
    assert callable(check)
    with pytest.raises(error) as caught:
        check()
    message = str(caught.value)
    assert cause in message
    assert "build it again: kdna-deploy export net.onnx" in message
    assert "\n" not in message
