"""Pinning holds for every thread of the process, whichever runtime made it and when."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx
import psutil
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from kdna_deploy.benchmark.cpu import affinity
from kdna_deploy.benchmark.cpu.affinity import pinned
from kdna_deploy.errors import UsageError
from kdna_deploy.runtimes.table import RUNTIMES, OnCpu, Source
from tests import warm_process

TASKS = Path("/proc/self/task")
# Before any test has run: a runtime may put back, when its session goes, the cores that it found when it came.
CORES = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
pytestmark = pytest.mark.skipif(
    not TASKS.is_dir() or len(os.sched_getaffinity(0)) < 2, reason="needs Linux and two cores"
)


def cores_of_threads() -> dict[int, str]:
    """Thread → the cores that it may use, as the kernel writes them: ``0-1``."""
    found = {}
    for task in TASKS.iterdir():
        lines = (task / "status").read_text().splitlines()
        found[int(task.name)] = next(
            line.split(":")[1].strip() for line in lines if line.startswith("Cpus_allowed_list")
        )
    return found


@pytest.fixture(autouse=True)
def _every_core() -> None:
    psutil.Process().cpu_affinity(CORES)


@pytest.fixture
def pool() -> Iterator[None]:
    """PyTorch's workers, made before anything is pinned."""
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    torch.nn.functional.conv2d(torch.ones(1, 16, 64, 64), torch.ones(16, 16, 3, 3))
    yield
    torch.set_num_threads(threads)


def test_threads_that_were_there_before_are_pinned_and_freed_again(pool: None) -> None:
    stop = threading.Event()
    sleeper = threading.Thread(target=stop.wait)
    sleeper.start()
    before = cores_of_threads()
    assert len(before) > 2
    with pinned(1) as cores:
        assert {allowed for thread, allowed in cores_of_threads().items() if thread in before} == {str(cores[0])}
    after = cores_of_threads()
    stop.set()
    sleeper.join()
    assert {thread: after[thread] for thread in before if thread in after} == before


def one_convolution(path: Path, batch: int | str = 1, output: str = "logits") -> None:
    weight = numpy_helper.from_array(np.ones((16, 3, 3, 3), np.float32), "w")
    graph = helper.make_graph(
        [helper.make_node("Conv", ["input", "w"], [output])],
        "one",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, [batch, 3, 64, 64])],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, None)],
        [weight],
    )
    onnx.save_model(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8), path)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["onnxruntime", "openvino"])
def test_workers_of_a_runtime_stay_on_the_cores_that_are_measured(name: str, tmp_path: Path, pool: None) -> None:
    if RUNTIMES[name].missing:
        pytest.skip(str(RUNTIMES[name].missing))
    path = tmp_path / "net.onnx"
    one_convolution(path)
    # A process of its own: for as long as one lives, OpenVINO keeps to the cores that it found when it was first used.
    with ProcessPoolExecutor(1, warm_process.context()) as fresh:
        (first, second), unpinned = fresh.submit(_while_pinned, name, path).result()
    assert unpinned == CORES
    assert first.core == second.core
    for run in (first, second):
        assert run.during.keys() - run.before.keys()
        assert set(run.during.values()) == {run.core}
        assert set(run.after.values()) == set(run.before.values())


Cores = dict[int, str]


class Run(NamedTuple):
    """The core that was chosen, and those of each thread before, while a session of two threads runs, and after."""

    core: str
    before: Cores
    during: Cores
    after: Cores


def _while_pinned(name: str, path: Path) -> tuple[list[Run], list[int]]:
    """Twice in a process, another core being the idlest the second time; then the cores of who asks unpinned."""
    found = []
    with pytest.MonkeyPatch.context() as patch:
        for busy in (CORES[1], CORES[0]):
            load_on(patch, busy)
            before = cores_of_threads()
            with pinned(1) as cores, RUNTIMES[name].prepare(Source(path), OnCpu(2))(cores) as session:
                for _ in range(3):
                    session.run(np.ones((1, 3, 64, 64), np.float32))
                during = cores_of_threads()
            found.append(Run(str(cores[0]), before, during, cores_of_threads()))
    with RUNTIMES[name].prepare(Source(path), OnCpu())(()) as session:
        session.run(np.ones((1, 3, 64, 64), np.float32))
        return found, sorted(os.sched_getaffinity(0))


def test_more_threads_than_cores_are_refused() -> None:
    with pytest.raises(UsageError, match="asks for more"), pinned(len(psutil.Process().cpu_affinity()) + 1):
        pass


def load_on(monkeypatch: pytest.MonkeyPatch, busy: int) -> None:
    """What the system tells from now on."""
    load = [90.0 if core == busy else 10.0 for core in range(max(CORES) + 1)]
    monkeypatch.setattr(affinity.psutil, "cpu_percent", lambda interval, percpu: load)


@pytest.fixture
def unmeasured() -> Iterator[None]:
    """As in a process that has not measured before."""
    affinity.idlest_first.cache_clear()
    yield
    affinity.idlest_first.cache_clear()


@pytest.mark.usefixtures("unmeasured")
@pytest.mark.parametrize("busy", [0, 1])
def test_the_process_is_on_the_idlest_core_and_on_no_other(monkeypatch: pytest.MonkeyPatch, busy: int) -> None:
    allowed = psutil.Process().cpu_affinity()
    load_on(monkeypatch, allowed[busy])
    with pinned(1) as cores:
        assert psutil.Process().cpu_affinity() == list(cores)
        assert len(cores) == 1 and cores[0] != allowed[busy]
    assert psutil.Process().cpu_affinity() == allowed


@pytest.mark.usefixtures("unmeasured")
def test_a_process_keeps_to_its_cores_whatever_the_load_becomes(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = []
    for busy in (CORES[0], CORES[1], CORES[0]):
        load_on(monkeypatch, busy)
        with pinned(1) as cores, pinned(2, tuple(CORES)) as more:
            chosen.append(cores)
            assert set(cores) < set(more)  # a thread more does not leave the core of the first
            assert psutil.Process().cpu_affinity() == list(more)
    assert len(set(chosen)) == 1 and chosen[0] != (CORES[0],)
    assert psutil.Process().cpu_affinity() == CORES


def test_the_cores_are_told_in_order_and_given_back_after_an_error() -> None:
    allowed = psutil.Process().cpu_affinity()
    with pytest.raises(KeyboardInterrupt), pinned(2) as cores:
        assert list(cores) == sorted(psutil.Process().cpu_affinity()) and len(cores) == 2
        raise KeyboardInterrupt
    assert psutil.Process().cpu_affinity() == allowed
