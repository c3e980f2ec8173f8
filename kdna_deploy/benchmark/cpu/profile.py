"""Where the time of an inference goes, from ONNX Runtime's own profiler.

    difference = latency − plain latency
               = extra MACs: plain latency · (MACs / plain MACs − 1)       what more multiplying costs at plain's rate
               + overhead  : the rest                                      gates, pre-scales, changes of layout, …

Every node of the graph that the runtime executes belongs to one group:

    convolutions        with what the runtime fused into them, loops over images that convolve, and the classifier
    channel attention   the gate β(x): average pool, two layers, and its repetition to the map's size
    pre-scale           x ⊙ β
    layout              conversions into and out of the blocked layout, and of 8 bits
    other

A loop is one node, with what its body took. Times are medians over runs, and include the profiler's own cost of one to
two microseconds a node, which is why their sum lies above the latency. Does not apply to other runtimes.
"""

from __future__ import annotations

import json
import statistics
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import onnx

from kdna_deploy.images.batch import Images
from kdna_deploy.runtimes.ort import OrtSession
from kdna_deploy.targets.onnx.computed_kernels import computed_kernels
from kdna_deploy.targets.onnx.gates import prescales
from kdna_deploy.targets.onnx.graph_view import graph_view

GROUPS = ("convolutions", "channel attention", "pre-scale", "layout", "other")
_RUNS, _DISCARDED = 60, 10
_LAYOUT = {"ReorderInput", "ReorderOutput", "Transpose", "QuantizeLinear", "DequantizeLinear"}
_SUFFIX = "_kernel_time"


@dataclass(frozen=True)
class Layer:
    """A node as the runtime executed it.

    Attributes:
        shape: of its output.
        microseconds: median over the runs.
    """

    name: str
    operator: str
    group: str
    shape: tuple[int, ...]
    microseconds: float


@dataclass(frozen=True)
class Profile:
    """Nodes of one model in the order of execution."""

    name: str
    layers: tuple[Layer, ...]

    @property
    def by_group(self) -> dict[str, float]:
        """Microseconds of each group."""
        return {group: sum(n.microseconds for n in self.layers if n.group == group) for group in GROUPS}

    @property
    def by_operator(self) -> dict[str, tuple[int, float]]:
        """Operator → number of nodes and microseconds, the most expensive first."""
        found: dict[str, tuple[int, float]] = {}
        for layer in self.layers:
            count, total = found.get(layer.operator, (0, 0.0))
            found[layer.operator] = (count + 1, total + layer.microseconds)
        return dict(sorted(found.items(), key=lambda entry: -entry[1][1]))

    @property
    def record(self) -> dict[str, Any]:
        """As it is stored, in types that JSON has."""
        return {
            "name": self.name,
            "groups_us": self.by_group,
            "operators": {name: {"nodes": n, "us": us} for name, (n, us) in self.by_operator.items()},
            "layers": [asdict(layer) for layer in self.layers],
        }


@dataclass(frozen=True)
class Explanation:
    """The difference to the baseline in milliseconds, taken apart (see the module's equation)."""

    name: str
    baseline: str
    difference_ms: float
    extra_macs_ms: float

    @property
    def overhead_ms(self) -> float:
        return self.difference_ms - self.extra_macs_ms

    @property
    def record(self) -> dict[str, Any]:
        """As it is stored, in types that JSON has."""
        return {**asdict(self), "overhead_ms": self.overhead_ms}


def explain(
    name: str, baseline: str, latency_ms: float, baseline_ms: float, macs: int, baseline_macs: int
) -> Explanation:
    """Take the difference of two latencies apart."""
    return Explanation(name, baseline, latency_ms - baseline_ms, baseline_ms * (macs / baseline_macs - 1))


@dataclass(frozen=True)
class ProfileRequest:
    """An ONNX file to be profiled on `images`."""

    name: str
    path: Path
    images: Images


def profile(requests: Sequence[ProfileRequest], threads: int, cores: tuple[int, ...] = ()) -> tuple[Profile, ...]:
    """Profile ONNX files, run after run in turn, so that drift of the clock falls on all alike.

    Raises:
        ArtifactError: one cannot be opened.
    """
    with tempfile.TemporaryDirectory(prefix="kdna-profile-") as folder:
        places = [Path(folder) / str(number) for number in range(len(requests))]
        with ExitStack() as opened:
            sessions = [
                opened.enter_context(
                    OrtSession(request.path, threads, request.name, place.with_suffix(".onnx"), cores, place)
                )
                for request, place in zip(requests, places, strict=True)
            ]
            for _ in range(_RUNS):
                for session, request in zip(sessions, requests, strict=True):
                    session.run_all(request.images)
            return tuple(
                Profile(session.name, _layers(_events(session), _graph(place)))
                for session, place in zip(sessions, places, strict=True)
            )


def _events(session: OrtSession) -> list[dict[str, Any]]:
    return json.loads(session.end_profiling().read_text())


def _graph(place: Path) -> onnx.GraphProto:
    """The graph that the runtime executes; shapes are enough."""
    return onnx.load(place.with_suffix(".onnx"), load_external_data=False).graph


def _layers(events: list[dict[str, Any]], graph: onnx.GraphProto) -> tuple[Layer, ...]:
    groups, within = _groups(graph), _in_bodies(graph)
    durations: dict[str, list[float]] = defaultdict(list)
    about: dict[str, dict[str, Any]] = {}
    for event in events:
        name = str(event.get("name", ""))
        if event.get("cat") == "Node" and name.endswith(_SUFFIX):
            node = name.removesuffix(_SUFFIX)
            if node in within:  # in the time of its loop already
                continue
            durations[node].append(float(event["dur"]))
            about[node] = event["args"]
    return tuple(
        Layer(
            name=node,
            operator=str(about[node]["op_name"]),
            # One without a name, as of QDQ nodes, is called by its operator and a number.
            group=groups.get(node) or _group_by_operator(str(about[node]["op_name"])),
            shape=_shape(about[node].get("output_type_shape")),
            microseconds=statistics.median(times[_DISCARDED:] or times),
        )
        for node, times in durations.items()
    )


def _shape(recorded: Any) -> tuple[int, ...]:
    """``[{"float": [1, 64, 56, 56]}, …]`` → the first shape."""
    if not isinstance(recorded, list) or not recorded:
        return ()
    return tuple(next(iter(recorded[0].values()), ()))


def _in_bodies(graph: onnx.GraphProto) -> set[str]:
    """Names of the nodes in the bodies of loops alone."""
    bodies = [a.g for node in graph.node for a in node.attribute if a.type == onnx.AttributeProto.GRAPH]
    return {node.name for body in bodies for node in body.node} - {node.name for node in graph.node}


def _groups(graph: onnx.GraphProto) -> dict[str, str]:
    """Node name → group."""
    groups = {node.name: _group_by_operator(node.op_type) for node in graph.node}
    read = graph_view(graph)
    groups.update({one.node.name or "": "convolutions" for one in computed_kernels(read)})
    for product, gate in prescales(read).items():
        groups[product] = "pre-scale"
        groups.update({node.name or "": "channel attention" for node in gate if node.op_type not in _LAYOUT})
    return groups


def _group_by_operator(operator: str) -> str:
    if operator in _LAYOUT:
        return "layout"
    return "convolutions" if operator.endswith("Conv") or "Gemm" in operator else "other"
