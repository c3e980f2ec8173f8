"""Engines on a GPU, held against ONNX Runtime; and without one, the sentence that says what is missing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from kdna_deploy.errors import ArtifactError, InputError, RuntimeFailure, UsageError
from kdna_deploy.images.interface import PLAIN, Interface
from kdna_deploy.runtimes.nvidia.batches import Batches
from kdna_deploy.runtimes.nvidia.engine_record import record_path
from kdna_deploy.runtimes.nvidia.library import LIBRARIES, LibraryName
from kdna_deploy.runtimes.nvidia.session import TensorRtSession
from kdna_deploy.runtimes.ort import OrtSession
from kdna_deploy.targets.tensorrt.build import BuildOptions
from kdna_deploy.targets.tensorrt.export import EngineOptions, export_engine
from tests.gpu import no_gpu
from tests.targets.tensorrt.onnx_files import PIXELS, SMALL, write_small


def built(
    folder: Path, name: LibraryName = "tensorrt-rtx", batch: int | None = None, interface: Interface = PLAIN
) -> Path:
    if LIBRARIES[name].missing:
        pytest.skip(str(LIBRARIES[name].missing))
    source = write_small(folder / "net.onnx", batch, interface=interface)
    batches = None if batch else Batches(1, 2, 5)
    options = EngineOptions(name, BuildOptions(batches, tf32=False))
    return export_engine(source, folder / f"net{LIBRARIES[name].suffix}", options).path


@pytest.fixture(params=list(LIBRARIES))
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return built(tmp_path, request.param)


def images(batch: int) -> np.ndarray:
    return np.random.default_rng(batch).standard_normal((batch, *SMALL), dtype=np.float32)


def test_without_a_gpu_an_engine_is_refused_with_the_reason(tmp_path: Path) -> None:
    reason = no_gpu()
    if reason is None:
        pytest.skip("there is a GPU")
    with pytest.raises(RuntimeFailure) as caught:
        TensorRtSession(built(tmp_path))
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_engine_without_its_record_or_with_other_bytes_is_refused(tmp_path: Path) -> None:
    engine = built(tmp_path)
    engine.write_bytes(engine.read_bytes()[:-1])
    with pytest.raises(ArtifactError, match="changed or cut short"):
        TensorRtSession(engine)
    record_path(engine).unlink()
    with pytest.raises(ArtifactError, match="has no record"):
        TensorRtSession(engine)


def test_no_stream_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="`streams` must"):
        TensorRtSession(tmp_path / "net.engine", streams=0)


@pytest.mark.gpu
@pytest.mark.parametrize("cuda_graphs", [False, True])
def test_an_engine_computes_what_onnx_runtime_does_at_every_batch(engine: Path, cuda_graphs: bool) -> None:
    session, reference = TensorRtSession(engine, cuda_graphs=cuda_graphs), OrtSession(engine.parent / "net.onnx")
    for batch in (1, 5, 2, 3, 4, 1):  # more sizes than are kept, and back again
        expected = reference.run(images(batch))
        assert np.abs(session.run(images(batch)) - expected).max() <= 1e-4 * np.abs(expected).max()
    assert (session.batch, session.image_shape) == (None, SMALL)
    assert session.options["cuda_graphs"] == int(cuda_graphs)


@pytest.mark.gpu
@pytest.mark.parametrize("name", list(LIBRARIES))
def test_an_engine_takes_pixels_and_names_classes_as_onnx_runtime_does(name: LibraryName, tmp_path: Path) -> None:
    session = TensorRtSession(built(tmp_path, name, interface=PIXELS))
    taken = np.random.default_rng(0).integers(0, 256, (5, 9, 9, 3), np.uint8)
    expected, got = OrtSession(tmp_path / "net.onnx").run(taken), session.run(taken)
    assert session.image_shape == SMALL
    assert np.array_equal(np.isinf(got), np.isinf(expected))  # the same classes are named
    named = np.isfinite(expected)
    assert np.abs(got[named] - expected[named]).max() <= 1e-4
    session.load_on_device(taken)
    assert np.isfinite(session.time_on_device(2, host_copies=True))


@pytest.mark.gpu
@pytest.mark.parametrize("cuda_graphs", [False, True])
def test_streams_run_side_by_side_and_leave_the_results_as_they_are(engine: Path, cuda_graphs: bool) -> None:
    session = TensorRtSession(engine, streams=2, cuda_graphs=cuda_graphs)
    session.load_on_device(images(5))
    assert np.isfinite(session.time_on_device(4))
    expected = OrtSession(engine.parent / "net.onnx").run(images(5))
    assert np.abs(session.run(images(5)) - expected).max() <= 1e-4 * np.abs(expected).max()


@pytest.mark.gpu
def test_batches_and_images_that_the_engine_does_not_take_are_refused(engine: Path) -> None:
    session = TensorRtSession(engine)
    with pytest.raises(UsageError, match="batches of 1 to 5 and cannot run on 6"):
        session.run(images(6))
    with pytest.raises(InputError, match="takes images of 3×9×9"):
        session.run(np.zeros((1, 3, 8, 8), np.float32))
    assert session.run(images(1)).shape[0] == 1


@pytest.mark.gpu
def test_a_fixed_batch_is_told(tmp_path: Path) -> None:
    session = TensorRtSession(built(tmp_path, batch=4))
    assert session.batch == 4
    assert session.run(images(4)).shape[0] == 4
