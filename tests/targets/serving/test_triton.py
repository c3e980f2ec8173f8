"""Triton's model repository, as its own messages read it."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import onnx
import pytest

import kdna_deploy as kd
from kdna_deploy.files import file_sha256
from kdna_deploy.runtimes.nvidia.batches import Batches
from kdna_deploy.runtimes.nvidia.engine_record import EngineRecord, record_path
from kdna_deploy.runtimes.nvidia.library import LibraryName
from tests import serving_environment
from tests.targets.serving.conftest import NAMES, SIZE

pytestmark = pytest.mark.slow


def config(folder: Path, name: str) -> Any:
    """The ModelConfig of a model, as tritonclient reads it."""
    from google.protobuf import text_format

    try:
        message = serving_environment.model_config()
    except LookupError as error:
        pytest.skip(str(error))
    return text_format.Parse((folder / name / "config.pbtxt").read_text(encoding="utf-8"), message())


def values(some: Any) -> list[tuple[str, int, list[int]]]:
    return [(one.name, one.data_type, list(one.dims)) for one in some]


FP32, UINT8, INT64 = 11, 2, 9  # inference.DataType


def test_an_open_batch_is_put_together_and_warmed_up(files: Path, tmp_path: Path) -> None:
    done = kd.package(files / "net.onnx", "triton", tmp_path / "models")
    read = config(done.path, "net")
    assert (read.name, read.platform, read.max_batch_size) == ("net", "onnxruntime_onnx", 32)
    assert values(read.input) == [("input", FP32, [3, SIZE, SIZE])]
    assert values(read.output) == [("logits", FP32, [3])]
    assert read.dynamic_batching.max_queue_delay_microseconds == 500
    assert [(group.count, group.kind) for group in read.instance_group] == [(1, 2)]  # KIND_CPU
    assert [one.batch_size for one in read.model_warmup] == [1, 32]
    assert list(read.model_warmup[0].inputs["input"].dims) == [3, SIZE, SIZE]
    assert read.output[0].label_filename == "labels.txt"
    assert (done.path / "net" / "labels.txt").read_text(encoding="utf-8").splitlines() == list(NAMES)
    assert (done.path / "net" / "1" / "model.onnx").read_bytes() == (files / "net.onnx").read_bytes()


def test_a_fixed_batch_is_an_axis_and_weights_beside_come_along(files: Path, tmp_path: Path) -> None:
    done = kd.package(files / "one.onnx", "triton", tmp_path / "models")
    read = config(done.path, "one")
    assert (read.max_batch_size, read.HasField("dynamic_batching")) == (0, False)
    assert values(read.input) == [("input", FP32, [1, 3, SIZE, SIZE])]
    # One of none is skipped; with the batch an axis, all images of the file are one batch.
    (warm_up,) = read.model_warmup
    assert (warm_up.name, warm_up.batch_size) == ("batch of the file", 1)
    assert list(warm_up.inputs["input"].dims) == [1, 3, SIZE, SIZE]
    onnx.checker.check_model(done.path / "one" / "1" / "model.onnx", full_check=True)
    assert {path.name for path in (done.path / "one" / "1").iterdir()} >= {"model.onnx"}
    assert len(list((done.path / "one" / "1").iterdir())) == 1 + len(list(files.glob("one.onnx.*.data")))


def test_pixels_and_several_outputs_are_what_they_are_in_the_file(files: Path, tmp_path: Path) -> None:
    done = kd.package([files / "net.onnx", files / "pixels.onnx"], "triton", tmp_path / "models")
    read = config(done.path, "pixels")
    assert values(read.input) == [("input", UINT8, [SIZE, SIZE, 3])]
    assert [(kind, dims) for _, kind, dims in values(read.output)] == [(FP32, [2]), (INT64, [2])]
    assert not any(output.label_filename for output in read.output)  # classes are numbers there, not places
    assert not list(done.path.glob("ensemble_*"))


def test_preprocessing_in_a_file_of_its_own_makes_an_ensemble(files: Path, tmp_path: Path) -> None:
    model = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 18]> '
        f"prep (uint8[n, 3, {SIZE}, {SIZE}] pixels) => (float[n, 3, {SIZE}, {SIZE}] scaled) "
        "{ scaled = Cast<to=1>(pixels) }"
    )
    onnx.save_model(model, tmp_path / "prep.onnx")
    done = kd.package([tmp_path / "prep.onnx", files / "net.onnx"], "triton", tmp_path / "models")
    read = config(done.path, "ensemble_net")
    assert (read.platform, read.max_batch_size) == ("ensemble", 32)
    assert (values(read.input), values(read.output)) == (
        [("pixels", UINT8, [3, SIZE, SIZE])],
        [("logits", FP32, [3])],
    )
    first, second = read.ensemble_scheduling.step
    assert (first.model_name, dict(first.input_map), dict(first.output_map)) == (
        "prep",
        {"pixels": "pixels"},
        {"scaled": "images"},
    )
    assert (second.model_name, dict(second.input_map), dict(second.output_map)) == (
        "net",
        {"input": "images"},
        {"logits": "logits"},
    )
    assert list((done.path / "ensemble_net" / "1").iterdir()) == []  # as the server wants it
    assert any("ensemble_net runs the two in a row" in note for note in done.package.notes)
    assert [one.batch_size for one in config(done.path, "prep").model_warmup] == [1, 32]


def test_an_ensemble_whose_name_is_taken_is_refused(files: Path, tmp_path: Path) -> None:
    shape = f"[n, 3, {SIZE}, {SIZE}]"
    text = f"prep (uint8{shape} pixels) => (float{shape} scaled) {{ scaled = Cast<to=1>(pixels) }}"
    for name in ("first", "second"):
        onnx.save_model(
            onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 18]> {text}'), tmp_path / f"{name}.onnx"
        )
    with pytest.raises(kd.UsageError, match="served as 'ensemble_net', of which one runs second and net in a row"):
        kd.package(
            [tmp_path / "first.onnx", tmp_path / "second.onnx", files / "net.onnx"], "triton", tmp_path / "models"
        )
    assert not (tmp_path / "models").exists()


def engine(files: Path, folder: Path, batches: Batches, library: LibraryName = "tensorrt") -> Path:
    """An engine of net.onnx, as far as its record goes: nothing reads the engine itself without a GPU."""
    shutil.copy(files / "net.onnx", folder / "net.onnx")
    path = folder / "fast.engine"
    path.write_bytes(b"an engine")
    record = EngineRecord(
        library=library,
        library_version="10.9",
        engine_sha256=file_sha256(path),
        onnx="net.onnx",
        onnx_sha256=file_sha256(folder / "net.onnx"),
        precision="fp32",
        tf32=True,
        batches=batches,
        image_shape=(3, SIZE, SIZE),
        compute_capabilities=(),
        gpu="NVIDIA H200",
        warnings=(),
        rebuild="kdna-deploy export net.onnx --tensorrt",
        provenance=None,
    )
    record_path(path).write_text(record.to_json(), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("batches", "samples"),
    [
        (Batches(1, 4, 16), [(1, [3, SIZE, SIZE]), (16, [3, SIZE, SIZE])]),
        (Batches(4, 4, 4), [(1, [4, 3, SIZE, SIZE])]),
        (Batches(2, 4, 8), [(1, [2, 3, SIZE, SIZE])]),
    ],
)
def test_an_engine_is_warmed_up_with_images_that_it_takes(
    files: Path, tmp_path: Path, batches: Batches, samples: list[tuple[int, list[int]]]
) -> None:
    """And so is a client told; without tritonclient, as text."""
    done = kd.package(engine(files, tmp_path, batches), "triton", tmp_path / "models")
    _, *blocks = (done.path / "fast" / "config.pbtxt").read_text(encoding="utf-8").split("model_warmup {")
    numbers = [written(block) for block in blocks]
    assert [(one["batch_size"], one["dims"]) for one in numbers] == [([size], dims) for size, dims in samples]
    client = json.loads((done.path / "send.json").read_text(encoding="utf-8"))
    assert client["models"]["fast"]["batch"] == batches.smallest


def written(block: str) -> dict[str, list[int]]:
    """The numbers in a message, by their names."""
    found: dict[str, list[int]] = {}
    for name, number in re.findall(r"^ *(\w+): (\d+)$", block, re.MULTILINE):
        found.setdefault(name, []).append(int(number))
    return found


@pytest.mark.parametrize(
    ("batches", "largest", "taken"),
    [
        (Batches(1, 4, 16), 16, [3, SIZE, SIZE]),
        (Batches(4, 4, 4), 0, [4, 3, SIZE, SIZE]),
        (Batches(2, 4, 8), 0, [-1, 3, SIZE, SIZE]),
    ],
)
def test_an_engine_takes_the_batches_that_it_was_built_for(
    files: Path, tmp_path: Path, batches: Batches, largest: int, taken: list[int]
) -> None:
    done = kd.package(engine(files, tmp_path, batches), "triton", tmp_path / "models")
    read = config(done.path, "fast")
    assert (read.platform, read.max_batch_size, values(read.input)) == (
        "tensorrt_plan",
        largest,
        [("input", FP32, taken)],
    )
    assert [group.kind for group in read.instance_group] == [1]  # KIND_GPU
    assert (done.path / "fast" / "1" / "model.plan").read_bytes() == b"an engine"


def test_an_engine_that_triton_cannot_run_or_that_nothing_tells_of_is_refused(files: Path, tmp_path: Path) -> None:
    rtx = engine(files, tmp_path, Batches(1, 4, 16), "tensorrt-rtx")
    with pytest.raises(kd.InputError, match="an engine of TensorRT-RTX, for which there is no backend"):
        kd.package(rtx, "triton", tmp_path / "models")
    (engine(files, tmp_path, Batches(1, 4, 16)).with_name("net.onnx")).unlink()
    with pytest.raises(kd.ArtifactError, match=r"is told by 'net\.onnx', which it was built from; put that"):
        kd.package(rtx, "triton", tmp_path / "models")
    assert not (tmp_path / "models").exists()
