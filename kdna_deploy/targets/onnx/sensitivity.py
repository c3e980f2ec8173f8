"""Which layers fewer bits harm most, and how few of them must stay in float32 for a limit to hold.

    sensitivity of a layer = SQNR of the logits when that layer alone is in fewer bits     the lower, the worse
    kept in float32        = the k most sensitive layers, with the smallest k that keeps the drop within the limit

k is found by doubling until the limit holds, then by halving the gap: a few evaluations on all held-out images. Single
layers are judged on a few of them.

Assumes that a layer more in float32 never harms; where rounding errors happen to cancel, k may be larger than needed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import onnx

from kdna_deploy.errors import AccuracyError
from kdna_deploy.evaluation.accuracy import Evaluation, evaluate
from kdna_deploy.graph.ledger import Parent
from kdna_deploy.images.split import Split
from kdna_deploy.progress import Listener
from kdna_deploy.runtimes.ort import OrtSession
from kdna_deploy.targets.onnx.names import site_of

Build = Callable[[Iterable[str]], onnx.ModelProto]

_SEARCH_IMAGES = 32  # of the held-out ones, for the sensitivity of single layers


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

    def __init__(self, float_path: Path, images: Split, folder: Path, listener: Listener) -> None:
        self._reference = OrtSession(float_path)
        self._images = images
        self._folder = folder
        self.listener = listener

    def close(self) -> None:
        """Close the float32 file."""
        self._reference.close()

    def evaluate(self, model: onnx.ModelProto) -> Evaluation:
        with self._session(model) as candidate:
            return evaluate(candidate, self._images.held_out(), self._reference, self.listener)

    def sqnr(self, model: onnx.ModelProto) -> float:
        """Of the logits, over the first held-out images."""
        batches, count = [], 0
        for images, labels in self._images.held_out():
            batches.append((images, labels))
            count += len(images)
            if count >= _SEARCH_IMAGES:
                break
        with self._session(model) as candidate:
            agreement = evaluate(candidate, batches, self._reference).agreement
        assert agreement is not None
        return agreement.sqnr

    def _session(self, model: onnx.ModelProto) -> OrtSession:
        path = self._folder / "candidate.onnx"
        onnx.save_model(model, path)
        return OrtSession(path)


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
            raise AccuracyError(_too_lossy(evaluation, max_drop, bits), sensitivities)
        else:
            low, high = tried, (min(2 * tried, len(layers) - 1) if best is None else high)
    return best


def _sensitivities(build: Build, guard: Guard, layers: Sequence[str]) -> tuple[Sensitivity, ...]:
    found = []
    for number, layer in enumerate(layers):
        guard.listener.step(f"quantise layer {number + 1} of {len(layers)} alone")
        found.append(Sensitivity(layer, guard.sqnr(build([other for other in layers if other != layer]))))
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
