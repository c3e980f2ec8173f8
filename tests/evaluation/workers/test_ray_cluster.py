"""A local Ray cluster of two nodes, one of which is killed while it evaluates."""

from __future__ import annotations

import importlib.util
import shutil
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx
import psutil
import pytest

import kdna_deploy as kd
from kdna_deploy.errors import InputError, RuntimeFailure
from kdna_deploy.evaluation.workers import ray_actor, ray_cluster, ray_connection
from kdna_deploy.evaluation.workers.opened import Workers
from kdna_deploy.evaluation.workers.ray_actor import Lying
from kdna_deploy.evaluation.workers.task import FileShard, Task
from kdna_deploy.progress import SILENT
from kdna_deploy.targets.onnx.sensitivity import Guard, within_limit
from tests.evaluation.workers.test_pool import FILES, evaluated, place
from tests.recorded import Recorded
from tests.targets.onnx.test_sensitivity import HARM, Rounding, pooled, split
from tests.test_external_data import in_folders_below
from tests.verbs.test_evaluate import PLAIN

__all__ = ["place"]

_MISSING = importlib.util.find_spec("ray") is None  # for importing it takes half a second
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(_MISSING, reason="Ray is not installed: pip install 'kdna-deploy[cluster]'"),
]
_QUICK = {"health_check_initial_delay_ms": 0, "health_check_period_ms": 300, "health_check_failure_threshold": 3}
_STORE = 80 << 20


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Of two nodes with a core each; all that it writes is in a folder of a short name, for sockets are there too."""
    folder = tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True)
    with folder as name, pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", name)
        patch.setattr(tempfile, "tempdir", None)
        for name, value in ray_connection.QUIET.items():
            patch.setenv(name, value)
        from ray.cluster_utils import Cluster

        node = {"num_cpus": 1, "object_store_memory": _STORE, "include_dashboard": False}
        found = Cluster(initialize_head=True, head_node_args={**node, "_system_config": _QUICK})
        found.add_node(num_cpus=1, object_store_memory=_STORE)
        yield found
        found.shutdown()


def until(holds: Callable[[], bool], seconds: float = 60.0) -> bool:
    """Whether it does within so many seconds."""
    last = time.monotonic() + seconds
    while not (held := holds()) and time.monotonic() < last:
        time.sleep(0.05)
    return held


def actors() -> list[psutil.Process]:
    """Processes that evaluate; Ray names them after what they run."""
    return [one for one in psutil.process_iter(["name"]) if one.info["name"].startswith("ray::Actor")]


class Heard(Recorded):
    """Waits with the first images until both nodes take part."""

    started: list[ray_cluster.RayWorker]

    def advance(self, done: float = 1) -> None:
        super().advance(done)
        assert until(lambda: len(self.started) >= 2)


@pytest.fixture
def heard(monkeypatch: pytest.MonkeyPatch) -> Heard:
    """A listener that knows who takes part."""
    found, start = Heard(), ray_cluster.RayWorker.start
    found.started = []

    def told(self: ray_cluster.RayWorker, task: Task) -> None:
        start(self, task)
        found.started.append(self)

    monkeypatch.setattr(ray_cluster.RayWorker, "start", told)
    return found


@pytest.mark.parametrize("sent", [False, True])
def test_two_nodes_have_the_digits_of_one_process_and_leave_nothing(
    cluster: Any,
    place: Path,
    heard: Heard,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    sent: bool,
) -> None:
    """Nodes that have the image files read them; others are sent them."""
    read = []

    def lying(shard: FileShard) -> Lying:
        found = ray_actor.lying(shard)
        read.append(shard)
        return replace(found, stamps=(None, *found.stamps[1:])) if sent else found

    monkeypatch.setattr(ray_cluster, "lying", lying)
    assert evaluated(place, ray=cluster.address, listener=heard) == evaluated(place, workers=1)
    assert len(read) <= 2 if sent else len(read) == FILES / 2
    assert sum(heard.counts) == FILES - 1
    assert heard.notes == [f"evaluated by 2 workers on 2 nodes of the Ray cluster at '{cluster.address}'"]
    assert capfd.readouterr().out == ""
    assert until(lambda: not actors())
    assert not list(Path(tempfile.gettempdir()).glob("kdna-candidate-*"))


def test_an_error_on_a_node_is_that_of_one_process(cluster: Any, place: Path) -> None:
    with pytest.raises(InputError, match=r"^broken\.onnx answers 8 of 8 images with"):
        kd.evaluate(place / "broken.onnx", place / "data", batch_size=8, ray=cluster.address, **PLAIN)
    assert until(lambda: not actors())


def test_nodes_with_other_versions_take_no_part(cluster: Any, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The nodes are those of this machine; it is this process that claims to have another version."""
    monkeypatch.setattr(ray_cluster, "versions", lambda: tuple({**dict(ray_actor.versions()), "numpy": "9.9"}.items()))
    said = r"^No worker is left: the last is on a node with numpy [\d.]+, and here it is 9\.9; look at the nodes"
    with pytest.raises(RuntimeFailure, match=said):
        evaluated(place, ray=cluster.address)


def test_an_interruption_ends_the_workers_on_all_nodes(cluster: Any, place: Path, heard: Heard) -> None:
    def interrupt(_: float) -> None:
        raise KeyboardInterrupt

    heard._at_count = interrupt
    with pytest.raises(KeyboardInterrupt):
        evaluated(place, ray=cluster.address, listener=heard)
    assert until(lambda: not actors())


def test_a_server_that_is_no_ray_is_told_in_a_sentence(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_connection, "_REACHED", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(
            RuntimeFailure, match=rf"There is no Ray cluster to be used at '{address}' \(timed out\); give the address"
        ):
            evaluated(place, ray=address)
    with pytest.raises(RuntimeFailure, match="Connection refused"):
        evaluated(place, ray=address)
    with pytest.raises(RuntimeFailure, match=r"at 'a\.\.b:6379' \(.*label"):  # no host can be called that
        evaluated(place, ray="a..b:6379")


def test_a_search_for_sensitive_layers_finds_the_same(cluster: Any, tmp_path: Path) -> None:
    model = pooled(8)
    onnx.save_model(model, tmp_path / "float.onnx")
    found = []
    for workers in (Workers(1), Workers(ray=cluster.address)):
        with closing(Guard(tmp_path / "float.onnx", split(), tmp_path, SILENT, workers)) as guard:
            judged = within_limit(Rounding(model, HARM), guard, list(HARM), 0.0)
        found.append((judged.evaluation, judged.kept_float, judged.sensitivities))
    assert found[0] == found[1]


def test_weights_lie_on_a_node_where_they_lie_here(cluster: Any, place: Path, tmp_path: Path) -> None:
    """Also in a folder that has the name of the one for adapters' networks."""
    model = in_folders_below(Path(shutil.copy(place / "net.onnx", tmp_path)), ray_actor.BASE)
    words = {"batch_size": 8, **PLAIN}
    here, there = ({"workers": 1}, {"ray": cluster.address})
    found = [kd.evaluate(model, place / "data", **words, **who).to_dict() for who in (here, there)]
    assert found[0] == found[1]


# The last one: it takes a node away.
def test_the_digits_are_the_same_though_a_node_is_killed_halfway(cluster: Any, place: Path, heard: Heard) -> None:
    def kill(_: float) -> None:
        if len(heard.counts) == 4:
            cluster.remove_node(cluster.worker_nodes.copy().pop(), allow_graceful=False)
            assert until(lambda: len(actors()) == 1)

    heard._at_count = kill
    assert evaluated(place, ray=cluster.address, listener=heard) == evaluated(place, workers=1)
    assert any(note.startswith("a worker was lost with its process or node (") for note in heard.notes)
