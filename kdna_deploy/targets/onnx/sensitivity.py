"""Which layers fewer bits harm most, and how few of them must stay in float32 for a limit to hold.

    sensitivity of a layer = SQNR of the logits when that layer alone is in fewer bits     the lower, the worse
    kept in float32        = the k most sensitive layers, with the smallest k that keeps the drop within the limit

k is found by doubling until the limit holds, then by halving the gap: a few evaluations on all held-out images. Single
layers are judged on a few of them. Workers (`evaluation.workers`) do it: of a candidate a batch of images each, and
of the candidates with a single layer in fewer bits one each.

Assumes that a layer more in float32 never harms; where rounding errors happen to cancel, k may be larger than needed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import onnx

from kdna_deploy.errors import AccuracyError
from kdna_deploy.evaluation.accuracy import Batch, Evaluation, Sums, evaluation_of
from kdna_deploy.evaluation.workers.opened import Workers, opened_pool
from kdna_deploy.evaluation.workers.task import BatchShard, ModelFile, Task
from kdna_deploy.graph.ledger import Parent
from kdna_deploy.images.split import Split
from kdna_deploy.progress import Listener
from kdna_deploy.targets.onnx.names import site_of

Build = Callable[[Iterable[str]], onnx.ModelProto]

_SEARCH_IMAGES = 32  # of the held-out ones, for the sensitivity of single layers
_KEPT = 1 << 29  # bytes of held-out images that are kept, rather than decoded for every candidate


@dataclass(frozen=True)
class Sensitivity:
    """What a layer alone does to the logits.

    Attributes:
        layer: name of its node.
        sqnr: of the logits in decibels.
        parent: the shared kernel that it belongs to; empty where there is none.
        role: "parent", "child", or "pre-scale" for the product in front of a child.
    """

    layer: str
    sqnr: float
    parent: str = ""
    role: str = ""


@dataclass(frozen=True)
class Judged:
    """A candidate that was accepted.

    Attributes:
        model: the model in fewer bits.
        evaluation: on the held-out images, the float32 file being the reference.
        kept_float: layers in float32.
        sensitivities: of all layers, the most harmful first; empty where no search was needed.
    """

    model: onnx.ModelProto
    evaluation: Evaluation
    kept_float: tuple[str, ...] = ()
    sensitivities: tuple[Sensitivity, ...] = ()


class Guard:
    """Runs candidates beside the float32 file on the held-out images."""

    def __init__(
        self, float_path: Path, images: Split, folder: Path, listener: Listener, workers: Workers | None = None
    ) -> None:
        self._opened = ExitStack()
        self._reference = ModelFile(float_path)
        self._images = images
        self._kept: list[Batch] | None = None
        self._folder = folder
        self._written = 0
        self._pool = self._opened.enter_context(opened_pool(workers or Workers(), listener=listener))
        self.listener = listener

    def close(self) -> None:
        """Close the float32 file, and end the workers."""
        self._opened.close()

    def evaluate(self, model: onnx.ModelProto) -> Evaluation:
        """On all held-out images."""
        candidate = self._file(model)
        tasks = (Task(ModelFile(candidate), self._reference, BatchShard((batch,))) for batch in self._batches())
        sums, top = Sums(), None
        for done in self._pool.done(tasks):
            sums.add(done.sums)
            top = done.top
            self.listener.advance(done.sums.images)
        candidate.unlink()
        return evaluation_of(sums, top, beside=True)

    def sqnrs(self, models: Iterable[onnx.ModelProto]) -> Iterator[float]:
        """Of the logits of each of `models`, over the first held-out images."""
        some, count = [], 0
        for batch in self._batches():
            some.append(batch)
            count += len(batch[0])
            if count >= _SEARCH_IMAGES:
                break
        shard, files = BatchShard(tuple(some)), list[Path]()

        def tasks() -> Iterator[Task]:
            for model in models:
                files.append(self._file(model))
                yield Task(ModelFile(files[-1]), self._reference, shard)

        for number, done in enumerate(self._pool.done(tasks())):
            files[number].unlink()
            agreement = evaluation_of(done.sums, done.top, beside=True).agreement
            assert agreement is not None
            yield agreement.sqnr

    def _batches(self) -> Iterator[Batch]:
        """The held-out images, which are decoded once where they can be kept."""
        if self._kept is not None:
            yield from self._kept
            return
        kept, size = [], 0
        for batch in self._images.held_out():
            size += batch[0].nbytes
            if size <= _KEPT:
                kept.append(batch)
            yield batch
        self._kept = kept if size <= _KEPT else None

    def _file(self, model: onnx.ModelProto) -> Path:
        """A file of its own for each: workers keep the last one open."""
        self._written += 1
        path = self._folder / f"candidate-{self._written}.onnx"
        onnx.save_model(model, path)
        return path


def drop(evaluation: Evaluation) -> float:
    """Percentage points of top-1 lost to the float32 file."""
    assert evaluation.agreement is not None
    return 100 * (evaluation.agreement.reference_top1 - evaluation.top1)


def within_limit(
    build: Build,
    guard: Guard,
    layers: Sequence[str],
    max_drop: float | None,
    parents: Sequence[Parent] = (),
    bits: str = "int8",
) -> Judged:
    """The model with the fewest of `layers` in float32 that loses no more than `max_drop` points; None for no limit.

    `bits` is what the others are in, for messages.

    Raises:
        AccuracyError: even with all layers but one in float32 too much is lost.
    """
    guard.listener.step("evaluate on held-out images")
    model = build(())
    evaluation = guard.evaluate(model)
    if max_drop is None or drop(evaluation) <= max_drop:
        return Judged(model, evaluation)
    sensitivities = _attributed(_sensitivities(build, guard, layers), model.graph, parents)
    ranked = [s.layer for s in sensitivities]
    low, high, best = 0, 1, None  # with `low` layers in float32 too much is lost
    while best is None or high - low > 1:
        tried = high if best is None else (low + high) // 2
        guard.listener.step(f"evaluate with {tried} of {len(layers)} layers in float32")
        model = build(ranked[:tried])
        evaluation = guard.evaluate(model)
        if drop(evaluation) <= max_drop:
            best, high = Judged(model, evaluation, tuple(ranked[:tried]), sensitivities), tried
        elif tried >= len(layers) - 1:  # one layer more, and nothing would be in fewer bits
            raise AccuracyError(_too_lossy(evaluation, max_drop, bits), sensitivities, bits)
        else:
            low, high = tried, (min(2 * tried, len(layers) - 1) if best is None else high)
    return best


def _sensitivities(build: Build, guard: Guard, layers: Sequence[str]) -> tuple[Sensitivity, ...]:
    alone = (build([other for other in layers if other != layer]) for layer in layers)
    found = []
    guard.listener.step("quantise each layer alone")
    guard.listener.expect(len(layers), "layers")
    for layer, sqnr in zip(layers, guard.sqnrs(alone), strict=True):
        found.append(Sensitivity(layer, sqnr))
        guard.listener.advance()
    return tuple(sorted(found, key=lambda s: s.sqnr))


def _attributed(
    found: tuple[Sensitivity, ...], graph: onnx.GraphProto, parents: Sequence[Parent]
) -> tuple[Sensitivity, ...]:
    """With the parent that each layer belongs to; a pre-scale belongs to that of the child behind it."""
    roles = {child: (p.name, "child") for p in parents for child in p.children}
    roles |= {p.layer: (p.name, "parent") for p in parents if p.layer}
    reader = {name: node for node in graph.node for name in node.input}
    made = {node.name: node for node in graph.node}

    def behind(node: onnx.NodeProto) -> onnx.NodeProto | None:
        following = reader.get(node.output[0])
        while following is not None and following.op_type in ("QuantizeLinear", "DequantizeLinear"):
            following = reader.get(following.output[0])
        return following

    def attributed(one: Sensitivity) -> Sensitivity:
        parent, role = roles.get(site_of(one.layer), ("", ""))
        node = made[one.layer]
        if node.op_type != "Mul":
            return replace(one, parent=parent, role=role) if node.op_type == "Conv" else one
        child = behind(node)
        parent, _ = roles.get(site_of(child.name), ("", "")) if child is not None else ("", "")
        return replace(one, parent=parent, role="pre-scale")

    return tuple(attributed(one) for one in found)


def _too_lossy(evaluation: Evaluation, limit: float, bits: str) -> str:
    return (
        f"{bits} loses {drop(evaluation):.2f} percentage points, more than `max_drop={limit:g}` allows, even with all "
        "layers but one in float32; nothing was written. Give images like those that the network will see."
    )
