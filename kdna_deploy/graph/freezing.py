"""Keep, freeze or drop channel attention: which gates become constants, and what that changes.

`freeze` puts the mean over calibration images in β's place, in every layer or (`below`) only where β hardly moves;
`drop` puts 1. Both change the function: the change is measured on the images, and never called an equivalence. Beside
that, the graph in which the gates are folded must compute what the graph with the gates kept computes when each of
its products multiplies by that constant (`ConstantGates`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, cast

import torch
from torch import Tensor, fx, nn

from kdna_deploy.errors import UsageError
from kdna_deploy.graph.gate_statistics import GateStatistics, measure_gates
from kdna_deploy.graph.gates import channel_attentions, scaled_maps
from kdna_deploy.graph.graph import Graph, cast_floats
from kdna_deploy.graph.passes.result import PassResult, Refusal
from kdna_deploy.images.batch import Images
from kdna_deploy.images.preprocessing import Preprocessing
from kdna_deploy.progress import Listener

ChannelAttention = Literal["keep", "freeze", "drop"]
Batches = Callable[[], Iterable[Images]]


@dataclass(frozen=True)
class AttentionOptions:
    """What becomes of channel attention.

    Attributes:
        choice: keep, freeze or drop.
        batches: calibration images, a fresh pass over them on each call; needed to freeze.
        below: freeze only gates whose variance over images is below this.
        record: where the images come from and how they were prepared, for the artifact's provenance.
        preprocessing: of image files; None where there are none.
        images: how many there are, unreadable ones included; None where that is not known.
    """

    choice: ChannelAttention = "keep"
    batches: Batches | None = None
    below: float | None = None
    record: Mapping[str, Any] = field(default_factory=dict)
    preprocessing: Preprocessing | None = None
    images: int | None = None


@dataclass(frozen=True)
class Freezing:
    """What becomes of the gates, and the statistics behind the choice.

    Attributes:
        choice: what was asked for.
        statistics: of every channel attention, where there are images.
        gates: those that become constants: name of the product → mean [c] or [1], or None for 1.
        refused: those that were to become constants and stay as they are, with the reason.
    """

    choice: ChannelAttention
    statistics: tuple[GateStatistics, ...] = ()
    gates: dict[str, Tensor | None] = field(default_factory=dict)
    refused: tuple[Refusal, ...] = ()

    @property
    def done(self) -> ChannelAttention:
        """What was done: `choice`, if that was possible anywhere."""
        return self.choice if self.gates else "keep"

    def settled(self, graph: Graph, result: PassResult) -> Freezing:
        """This plan as it was carried out in `graph`, by a pass that says `result`."""
        left = {attention.name for attention in channel_attentions(graph.module)}
        gates = {name: gate for name, gate in self.gates.items() if name not in left}
        return replace(self, gates=gates, refused=(*self.refused, *result.refused))


def plan_freezing(graph: Graph, options: AttentionOptions, listener: Listener) -> Freezing:
    """Measure the gates of the fused `graph` and decide which become constants.

    Raises:
        UsageError: freezing without calibration images, or `below` without freezing.
        InputError: there are no images, or they make the network or a gate NaN.
    """
    if options.below is not None and options.choice != "freeze":
        raise UsageError("`freeze_below` goes with `channel_attention='freeze'`.")
    if options.choice == "keep":
        return Freezing("keep")
    refused = tuple(Refusal(a.site, a.obstacle) for a in scaled_maps(graph.module) if a.obstacle)
    if options.batches is None:
        if options.choice == "freeze":
            raise UsageError(
                "Freezing replaces channel attention by its mean over calibration images; "
                "name a folder of them or an .npz with `calibration`."
            )
        return Freezing("drop", gates={a.name: None for a in channel_attentions(graph.module)}, refused=refused)
    statistics = measure_gates(graph, options.batches(), listener)
    chosen = [s for s in statistics if options.below is None or s.variance < options.below]
    gates = {s.node: s.mean if options.choice == "freeze" else None for s in chosen}
    return Freezing(options.choice, statistics, gates, refused)


class ConstantGates(nn.Module):
    """A graph that multiplies by constants in place of `gates` (see `Freezing.gates`), with nothing folded."""

    def __init__(self, graph: Graph, gates: Mapping[str, Tensor | None]) -> None:
        super().__init__()
        self.module = graph.clone().module
        self._gates = dict(gates)

    def double(self) -> ConstantGates:
        """In float64, types that are written into the graph included."""
        cast_floats(self.module, torch.float64)
        return self

    def forward(self, images: Tensor) -> Tensor:
        maps = {a.product: a.feature_map for a in channel_attentions(self.module) if a.name in self._gates}
        return cast(Tensor, _Overridden(self.module, maps, self._gates).run(images))


class _Overridden(fx.Interpreter):
    """Multiplies each product's map by its constant [c] or [1]."""

    def __init__(
        self, module: fx.GraphModule, maps: Mapping[fx.Node, fx.Node], gates: Mapping[str, Tensor | None]
    ) -> None:
        super().__init__(module)
        self._maps, self._gates = maps, gates

    def run_node(self, n: fx.Node) -> object:
        if n not in self._maps:
            return super().run_node(n)
        feature_map, gate = self.env[self._maps[n]], self._gates[n.name]
        return feature_map if gate is None else feature_map * gate.to(feature_map.dtype).reshape(1, -1, 1, 1)
