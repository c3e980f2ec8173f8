"""Workers on a Ray cluster: an actor for each core. Optional: ``pip install 'kdna-deploy[cluster]'``.

    a model        its files, by their SHA-256, into the object store once, and from there to each node once
    image files    read where they lie, on nodes that have the same ones there; else sent with their shard
    decoded ones   into the object store once
    a lost actor   leaves its shard to the others; there is none in its place, for its node may be gone

Nodes with another version of this package, or of what decodes images and runs networks, take no part, for their digits
may differ; neither does one that has no core free within `_PATIENCE` seconds. Processors of several kinds are told in a
note. Nothing is left on the nodes: actors end with the evaluation, and objects with the connection.

Does not apply to engines (`evaluate`), and to a user's own network whose code the nodes do not have.
"""

from __future__ import annotations

import contextlib
import hashlib
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from kdna_deploy.evaluation.workers.pool import Lost
from kdna_deploy.evaluation.workers.ray_actor import BASE, Actor, Elsewhere, Node, lying, versions, with_contents
from kdna_deploy.evaluation.workers.runner import outcome
from kdna_deploy.evaluation.workers.task import BatchShard, Done, FileShard, ModelFile, Task
from kdna_deploy.progress import Listener
from kdna_deploy.version import VERSION
from kdna_deploy.words import counted, first_sentence

_PATIENCE = 60.0  # seconds for a core of the cluster to be free
_GRACE = 5.0  # seconds between being told to end and being killed
_KEPT = 8  # models of which the store holds the files


class RayWorker:
    """A `pool.Worker`: an actor, seen from the process that has it do tasks."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._actor: Any = None
        self._lies_there = True
        self._stopped = self._placed = False
        self._farewell: Any = None
        self._until = 0.0
        self._lock = threading.Lock()
        self.remedy = f"look at the nodes of the Ray cluster at '{cluster.address}', or leave `ray` out"

    def start(self, task: Task) -> None:
        with self._lock:
            if self._stopped:
                raise Lost("was stopped")
            self._actor = self._cluster.actor()
        node: Node = self._answer(self._actor.node.remote, _PATIENCE)
        self._placed = True
        self._cluster.check(node)
        self._ask(task.opening)

    def do(self, task: Task) -> Done:
        return outcome(self._ask(task))

    def again(self) -> None:
        return None

    def stop(self) -> None:
        """In its turn, for it may have files open; one that is placed nowhere yet has none."""
        with self._lock:
            self._stopped = True
            if self._placed and self._farewell is None:
                with contextlib.suppress(Exception):  # it, or the cluster, may be gone
                    self._farewell = self._actor.__ray_terminate__.remote()
                    self._until = time.monotonic() + _GRACE

    def end(self) -> None:
        self.stop()
        ray = self._cluster.ray
        with contextlib.suppress(Exception):  # that it is gone
            if self._farewell is not None:
                ray.get(self._farewell, timeout=max(0.0, self._until - time.monotonic()))
        with contextlib.suppress(Exception):
            if self._actor is not None:
                ray.kill(self._actor, no_restart=True)

    def _ask(self, task: Task) -> Any:
        models = [model for model in (task.model, task.reference) if model]
        files = {model: self._cluster.files_of(model) for model in models}

        def asked(shard: Any) -> Any:
            return self._answer(lambda: self._actor.do.remote(task.opening, files, shard))

        shard = task.shard
        if not isinstance(shard, FileShard):
            return asked(self._cluster.stored(shard) if isinstance(shard, BatchShard) and shard.content else shard)
        if self._lies_there:
            answer = asked(lying(shard))
            if not isinstance(answer, Elsewhere):
                return answer
            self._lies_there = False
        return asked(with_contents(shard))

    def _answer(self, call: Callable[[], Any], seconds: float | None = None) -> Any:
        ray = self._cluster.ray
        try:
            return ray.get(call(), timeout=seconds)
        except ray.exceptions.GetTimeoutError:
            raise Lost(f"found no core free within {seconds:.0f} s") from None
        except ray.exceptions.RayTaskError as error:
            raise Lost(f"failed on its node ({first_sentence(error.cause)}); it needs kdna-deploy {VERSION}") from None
        except Exception as error:  # of many classes: its process, its node, or the connection is gone
            raise Lost(f"was lost with its process or node ({type(error).__name__})") from None


class Cluster:
    """The cluster at `address` that `ray` is connected to; `listener` is told who took part."""

    def __init__(self, ray: Any, address: str, listener: Listener) -> None:
        self.ray, self.address, self._listener = ray, address, listener
        self._kind = ray.remote(num_cpus=1, max_restarts=0, scheduling_strategy="SPREAD")(Actor)
        self._lock = threading.Lock()
        self._models: OrderedDict[ModelFile, tuple[tuple[str, str], ...]] = OrderedDict()
        self._contents: dict[str, Any] = {}  # SHA-256 → reference
        self._shard: tuple[BatchShard, Any] | None = None
        self._nodes: list[Node] = []

    def workers(self, count: int | None) -> list[RayWorker]:
        """`count` of them, or one for each core of the cluster."""
        cores = int(self.ray.cluster_resources().get("CPU", 0))
        return [RayWorker(self) for _ in range(count or max(1, cores))]

    def actor(self) -> Any:
        """A new one, that may have to wait for a free core."""
        return self._kind.remote()

    def check(self, node: Node) -> None:
        """Take part.

        Raises:
            Lost: the digits of that node may differ from those here.
        """
        own = dict(versions())
        for name, version in node.versions:
            if own[name] != version:
                raise Lost(f"is on a node with {name} {version or 'missing'}, and here it is {own[name] or 'missing'}")
        with self._lock:
            self._nodes.append(node)

    def tell(self) -> None:
        """Who took part, to the listener."""
        nodes = {node.name: node.processor for node in self._nodes}
        if not nodes:
            return
        workers, places = counted(len(self._nodes), "worker"), counted(len(nodes), "node")
        self._listener.note(f"evaluated by {workers} on {places} of the Ray cluster at '{self.address}'")
        kinds = sorted({processor or "an unknown one" for processor in nodes.values()})
        if len(kinds) > 1:
            self._listener.note(f"the nodes have several processors, whose last digits may differ: {', '.join(kinds)}")

    def files_of(self, model: ModelFile) -> tuple[tuple[str, Any], ...]:
        """Places and references of what a model is opened from; read, and put into the store, when first asked for."""
        with self._lock:
            if model not in self._models:
                named = [(_placed(path, model.path.parent), path) for path in (model.path, *model.beside)]
                named += [(f"{BASE}/{model.base.name}", model.base)] if model.base else []
                self._models[model] = tuple((name, self._put(path)) for name, path in named)
            self._models.move_to_end(model)
            while len(self._models) > _KEPT:
                self._models.popitem(last=False)
                used = {digest for files in self._models.values() for _, digest in files}
                self._contents = {digest: found for digest, found in self._contents.items() if digest in used}
            return tuple((name, self._contents[digest]) for name, digest in self._models[model])

    def stored(self, shard: BatchShard) -> Any:
        """A reference to `shard`, which is sent once where several tasks have it."""
        with self._lock:
            if self._shard is None or self._shard[0] is not shard:
                self._shard = shard, self.ray.put(shard)
            return self._shard[1]

    def _put(self, path: Path) -> str:
        content = path.read_bytes()
        digest = hashlib.sha256(content).hexdigest()
        if digest not in self._contents:
            self._contents[digest] = self.ray.put(np.frombuffer(content, np.uint8))
        return digest


def _placed(path: Path, folder: Path) -> str:
    """Where a file of a model goes on a node: as it lies below the `folder` of the model, and never above that."""
    below = path.relative_to(folder) if path.is_relative_to(folder) else Path(path.name)
    return path.name if ".." in below.parts else below.as_posix()
