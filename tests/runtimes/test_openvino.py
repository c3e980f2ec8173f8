"""OpenVINO: the same logits as ONNX Runtime, and what it says of files and images that do not fit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from kdna_deploy.errors import ArtifactError, InputError
from kdna_deploy.runtimes.ort import OrtSession
from tests.samples import RESNET, exported_sample

pytest.importorskip("openvino")
from kdna_deploy.runtimes.openvino import OpenVinoSession


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("openvino") / "net.onnx"
    exported_sample(path, RESNET, target="any", simplify=False)
    return path


def images(batch: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((batch, 3, 64, 64), dtype=np.float32)


def difference(one: np.ndarray, other: np.ndarray) -> float:
    """Of the largest logit."""
    return float(np.abs(one - other).max() / np.abs(other).max())


def is_one_sentence(text: str) -> bool:
    return "\n" not in text and text.endswith(".") and "Traceback" not in text


@pytest.mark.slow
@pytest.mark.parametrize("batch", [1, 3])
def test_logits_are_those_of_onnx_runtime(net: Path, batch: int) -> None:
    given = images(batch)
    expected = OrtSession(net).run(given)
    got = OpenVinoSession(net, threads=1).run(given)
    assert (got.shape, got.dtype) == (expected.shape, np.float32)
    assert difference(got, expected) <= 1e-4


@pytest.mark.slow
def test_one_session_takes_one_batch_size_after_another(net: Path) -> None:
    session, reference = OpenVinoSession(net), OrtSession(net)
    for batch in (1, 3, 2):
        assert difference(session.run(images(batch)), reference.run(images(batch))) <= 1e-4


def test_bfloat16_is_close(net: Path) -> None:
    given = images(3)
    got = OpenVinoSession(net, threads=1, precision="bf16").run(given)
    # 8 bits of mantissa round each of some 30 layers by up to 2^-9; in the worst case the errors add up. Where the
    # processor has no instructions for it, OpenVINO computes in float32.
    assert difference(got, OrtSession(net).run(given)) <= 30 * 2**-9


def test_a_result_is_not_overwritten_by_the_next_run(net: Path) -> None:
    session = OpenVinoSession(net)
    first = session.run(images(1))
    kept = first.copy()
    second = session.run(images(1, seed=1))
    assert np.array_equal(first, kept)
    assert not np.array_equal(first, second)


def test_the_images_are_left_alone(net: Path) -> None:
    given = images(2)
    before = given.copy()
    OpenVinoSession(net).run(given)
    assert np.array_equal(given, before)


@pytest.mark.slow
def test_compiled_for_one_batch_it_takes_that_alone(net: Path) -> None:
    """A file of any batch; one of a batch of its own keeps that."""
    reference = OrtSession(net)
    with OpenVinoSession(net, threads=1, batch=3) as session:
        assert (session.batch, session.image_shape, session.options["batch"]) == (3, (3, 64, 64), 3)
        assert difference(session.run(images(3)), reference.run(images(3))) <= 1e-4
        with pytest.raises(InputError) as caught:
            session.run(images(1))
    assert is_one_sentence(str(caught.value))


@pytest.mark.slow
def test_a_session_tells_what_it_takes_and_what_was_set(net: Path, tmp_path: Path) -> None:
    session = OpenVinoSession(net, threads=1, precision="bf16")
    assert (session.name, session.batch, session.image_shape) == ("net.onnx", None, (3, 64, 64))
    assert session.runtime.startswith("OpenVINO 20")
    assert session.options["INFERENCE_NUM_THREADS"] == 1
    assert session.options["INFERENCE_PRECISION_HINT"] == "bf16"
    assert session.options["ENABLE_CPU_PINNING"] == "NO"
    assert "INFERENCE_NUM_THREADS" not in OpenVinoSession(net).options
    exported_sample(tmp_path / "four.onnx", RESNET, batch=4, simplify=False)
    assert OpenVinoSession(tmp_path / "four.onnx").batch == 4
    assert OpenVinoSession(tmp_path / "four.onnx", batch=1).batch == 4


@pytest.mark.parametrize("shape", [(1, 3, 32, 32), (1, 1, 64, 64), (3, 64, 64)])
def test_images_of_another_shape_are_refused_with_one_sentence(net: Path, shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError) as caught:
        OpenVinoSession(net).run(np.zeros(shape, np.float32))
    assert str(caught.value).startswith("net.onnx cannot run on ")
    assert is_one_sentence(str(caught.value)), str(caught.value)


def test_a_text_file_is_refused_with_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "text.onnx"
    path.write_text("text")
    with pytest.raises(ArtifactError) as caught:
        OpenVinoSession(path)
    assert str(caught.value).startswith(f"'{path}' is no ONNX file")
    assert is_one_sentence(str(caught.value)), str(caught.value)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"There is no file '.*missing\.onnx'"):
        OpenVinoSession(tmp_path / "missing.onnx")
