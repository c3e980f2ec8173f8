"""Sessions of ONNX Runtime on the CPU: as many threads as were asked for, on the cores that were named."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import onnx
import psutil
import pytest

from kdna_deploy.errors import ArtifactError, InputError
from kdna_deploy.runtimes.onnx_file import provenance_of_model, record
from kdna_deploy.runtimes.ort import OrtSession
from tests.benchmark.gpu.on_host import SHAPE, write_network
from tests.targets.tensorrt.onnx_files import PIXELS, SMALL, write_small

AFFINITIES = "session.intra_op_thread_affinities"
IMAGES = np.random.default_rng(0).standard_normal((2, *SHAPE), dtype=np.float32)


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_network(tmp_path_factory.mktemp("ort") / "net.onnx")


def set_in(session: OrtSession) -> tuple[int, str]:
    """Threads and affinities that the runtime itself has been given."""
    options = session._session.get_session_options()
    try:
        return options.intra_op_num_threads, options.get_session_config_entry(AFFINITIES)
    except RuntimeError:  # there is no such entry
        return options.intra_op_num_threads, ""


def test_the_threads_are_those_that_were_asked_for_and_are_recorded(net: Path) -> None:
    for threads in (1, 2, 3):
        session = OrtSession(net, threads)
        assert set_in(session)[0] == session.options["intra_op_num_threads"] == threads
    assert "intra_op_num_threads" not in OrtSession(net).options


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="this system has no affinity")
def test_the_threads_beside_the_calling_one_are_on_the_cores_that_were_named(net: Path) -> None:
    """ONNX Runtime counts processors from 1; the calling thread is the measurement's own."""
    allowed = sorted(os.sched_getaffinity(0))
    if len(allowed) < 2:
        pytest.skip("one core alone")
    first, second = allowed[:2]
    for cores in ((first, second), (second, first)):
        before = {thread.id for thread in psutil.Process().threads()}
        session = OrtSession(net, 2, cores=cores)
        assert session.options[AFFINITIES] == set_in(session)[1] == str(cores[1] + 1)
        assert moved({thread.id for thread in psutil.Process().threads()} - before, cores[1])
        del session


def moved(threads: set[int], core: int, seconds: float = 10.0) -> bool:
    """Whether one of the threads is on that core alone, where it takes itself once it runs."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if {core} in [os.sched_getaffinity(thread) for thread in threads]:
            return True
        time.sleep(0.01)
    return False


@pytest.mark.parametrize(("threads", "cores"), [(1, (0,)), (2, ()), (2, (0,)), (None, (0, 1))])
def test_threads_are_pinned_only_where_each_has_a_core(net: Path, threads: int | None, cores: tuple[int, ...]) -> None:
    session = OrtSession(net, threads, cores=cores)
    assert AFFINITIES not in session.options
    assert set_in(session)[1] == ""


def test_more_threads_have_an_entry_each(net: Path) -> None:
    allowed = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else [0]
    cores = (allowed[0], allowed[-1], allowed[0])
    session = OrtSession(net, 3, cores=cores)
    assert set_in(session)[1] == f"{allowed[-1] + 1};{allowed[0] + 1}"


def test_a_file_that_is_none_and_images_that_do_not_fit_are_refused(net: Path, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError):
        OrtSession(tmp_path / "missing.onnx")
    session = OrtSession(net)
    assert (session.batch, session.image_shape) == (None, SHAPE)
    with pytest.raises(InputError, match=r"takes images n×3×8×8 and cannot run on 2×3×8×9"):
        session.run(np.zeros((2, 3, 8, 9), np.float32))


def test_a_file_takes_and_returns_what_its_metadata_say_or_is_refused(tmp_path: Path) -> None:
    path = write_small(tmp_path / "net.onnx", interface=PIXELS)
    with OrtSession(path) as session:
        assert (session.interface, session.image_shape) == (PIXELS, SMALL)
        assert np.isfinite(session.run(np.zeros((2, *SMALL), np.float32))).sum(axis=1).tolist() == [2, 2]
        with pytest.raises(InputError, match="takes images"):
            session.run(np.zeros((1, 3, 9, 9), np.uint8))  # channels last is what it takes
    model = onnx.load(path)
    for changed, says in (
        ({"layout": None}, r"net\.onnx' takes tensor\(uint8\), and its metadata do not say so"),
        ({"top": None}, r"does not map one image batch \[n, c, h, w\] to one output"),
        ({"layout": "hwc"}, r"provenance in '.*net\.onnx' is damaged"),
    ):
        made = provenance_of_model(model, path)
        assert made is not None
        record(model, made.with_options(interface={**PIXELS.to_record(), **changed}))
        onnx.save(model, path)
        with pytest.raises(ArtifactError, match=says):
            OrtSession(path)
        record(model, made)


def test_rounding_is_observed_on_more_images_than_a_fixed_batch_holds(tmp_path: Path) -> None:
    images = np.random.default_rng(0).standard_normal((5, *SMALL), dtype=np.float32)
    observed = []
    for batch in (None, 2):
        with OrtSession(write_small(tmp_path / f"{batch}.onnx", batch), 1) as session:
            answers = (np.concatenate([session.run(images[np.array([i, i])])[:1] for i in range(5)]),)
            observed.append(next(session.rounding(images, answers, 2.0**-11)))
    # The same weights are moved by the same seed, and an image is moved as it is in any batch.
    np.testing.assert_allclose(observed[1][0], observed[0][0], rtol=0, atol=1e-5)
    assert observed[0][0].max() > 1e-4


def test_nothing_is_reported_over_the_network(net: Path, tmp_path: Path) -> None:
    """Where it reports, ONNX Runtime keeps what it has not sent yet, and a name of the machine, in these folders."""
    program = (
        "import pathlib, sys; from kdna_deploy.runtimes.ort import OrtSession; OrtSession(pathlib.Path(sys.argv[1]))"
    )
    kept = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    own = dict.fromkeys(("HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME", "TMPDIR"), str(tmp_path))
    subprocess.run([sys.executable, "-c", program, str(net)], check=True, env={**kept, **own})
    assert list(tmp_path.rglob("*")) == []
