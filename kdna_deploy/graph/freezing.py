"""Keep, freeze or drop attention: which gates and kernels become constants, and what that changes.

`freeze` puts the mean over calibration images in the place of a gate β(x) or a kernel W(x), in every layer or (`below`)
only where it hardly moves; `drop` puts 1 in a gate's. Both change the function: the change is measured on the images,
and never called an equivalence. Beside that, the graph in which they are folded must compute what the graph with the
attention kept computes when each constant stands in the place of what it is the mean of (`ConstantGates`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, cast

import torch
from torch import Tensor, fx, nn

from kdna_deploy.errors import UsageError
from kdna_deploy.graph.gate_statistics import GateStatistics, measure_gates
from kdna_deploy.graph.gates import BIAS, Attention, attentions, dynamic_values, image_products
from kdna_deploy.graph.graph import TRANSPOSED, WEIGHTED, Graph, calls, cast_floats, constant_nodes, site
from kdna_deploy.graph.passes.result import PassResult, Refusal
from kdna_deploy.images.batch import Images
from kdna_deploy.images.preprocessing import Preprocessing
from kdna_deploy.progress import Listener

AttentionChoice = Literal["keep", "freeze", "drop"]
Batches = Callable[[], Iterable[Images]]


@dataclass(frozen=True)
class AttentionOptions:
    """What becomes of attention.

    Attributes:
        choice: keep, freeze or drop.
        batches: calibration images, a fresh pass over them on each call; needed to freeze.
        below: freeze only what has a variance over images below this.
        record: where the images come from and how they were prepared, for the artifact's provenance.
        preprocessing: of image files; None where there are none.
        images: how many there are, unreadable ones included; None where that is not known.
    """

    choice: AttentionChoice = "keep"
    batches: Batches | None = None
    below: float | None = None
    record: Mapping[str, Any] = field(default_factory=dict)
    preprocessing: Preprocessing | None = None
    images: int | None = None


@dataclass(frozen=True)
class Freezing:
    """What becomes of the attention of a network, and the statistics behind the choice.

    Attributes:
        choice: what was asked for.
        statistics: of every gate and kernel, where there are images.
        gates: those that become constants: `Attention.name` → mean, of the shape for one image, or None for 1.
        refused: those that were to become constants and stay as they are, with the reason.
        unfolded: the products with a constant that no kernel could take up, with the reason.
    """

    choice: AttentionChoice
    statistics: tuple[GateStatistics, ...] = ()
    gates: dict[str, Tensor | None] = field(default_factory=dict)
    refused: tuple[Refusal, ...] = ()
    unfolded: tuple[Refusal, ...] = ()

    @property
    def done(self) -> AttentionChoice:
        """What was done: `choice`, if that was possible anywhere."""
        return self.choice if self.gates else "keep"

    def settled(self, graph: Graph, result: PassResult) -> Freezing:
        """This plan as it was carried out in `graph`, by a pass that says `result`."""
        return replace(self, refused=_refused(graph, self.choice), unfolded=result.refused)


def plan_freezing(graph: Graph, options: AttentionOptions, listener: Listener) -> Freezing:
    """Measure the attention of the fused `graph` and decide what of it becomes constant.

    Raises:
        UsageError: freezing without calibration images, or `below` without freezing.
        InputError: there are no images, or they make the network or a gate NaN.
    """
    if options.below is not None and options.choice != "freeze":
        raise UsageError("`freeze_below` goes with `attention='freeze'`.")
    if options.choice == "keep":
        return Freezing("keep")
    refused = _refused(graph, options.choice)
    if options.choice == "drop":
        ones: dict[str, Tensor | None] = {one.name: None for one in attentions(graph.module) if not one.is_kernel}
        statistics = measure_gates(graph, options.batches(), listener) if options.batches else ()
        return Freezing("drop", statistics, ones, refused)
    if options.batches is None:
        raise UsageError(
            "Freezing replaces attention by its mean over calibration images; "
            "name a folder of them or an .npz with `calibration`."
        )
    statistics = measure_gates(graph, options.batches(), listener)
    chosen = {s.node for s in statistics if options.below is None or s.variance < options.below}
    gates: dict[str, Tensor | None] = {s.node: s.mean for s in statistics if s.node.removesuffix(BIAS) in chosen}
    return Freezing("freeze", statistics, gates, refused)


def _refused(graph: Graph, choice: AttentionChoice) -> tuple[Refusal, ...]:
    """What depends on the image and cannot become a constant."""
    found = dynamic_values(graph.module)
    refused = [Refusal(one.site, one.obstacle) for one in found if one.obstacle]
    if choice == "drop":
        why = "a kernel for each image can be frozen to its mean, there is nothing to drop it to"
        refused += [Refusal(one.site, why) for one in found if one.is_kernel and not one.is_bias]
    fixed = constant_nodes(graph.module)
    layers = [one for one in calls(graph.module, WEIGHTED | TRANSPOSED) if one.args[1] not in fixed]
    why = "its kernel depends on the images in another way than one for each"
    refused += [Refusal(site(layer), why) for layer in layers]
    why = "a matrix that is made for each image multiplies, which is neither a gate nor a kernel of a convolution"
    return (*refused, *(Refusal(site(product), why) for product in image_products(graph.module)))


class ConstantGates(nn.Module):
    """A graph that multiplies by constants in place of `gates` (see `Freezing.gates`), with nothing folded."""

    def __init__(self, graph: Graph, gates: Mapping[str, Tensor | None]) -> None:
        super().__init__()
        self.module = graph.clone(weights=False).module
        self._gates = dict(gates)

    def double(self) -> ConstantGates:
        """In float64, types that are written into the graph included."""
        cast_floats(self.module, torch.float64)
        return self

    def forward(self, images: Tensor) -> Tensor:
        held = [one for one in attentions(self.module) if one.name in self._gates]
        return cast(Tensor, _Overridden(self.module, held, self._gates).run(images))


class _Overridden(fx.Interpreter):
    """Puts each constant in the place of what it is the mean of."""

    def __init__(self, module: fx.GraphModule, held: Iterable[Attention], gates: Mapping[str, Tensor | None]) -> None:
        super().__init__(module)
        self._held: dict[fx.Node, list[Attention]] = {}
        for one in held:
            self._held.setdefault(one.product, []).append(one)
        self._gates = gates

    def run_node(self, n: fx.Node) -> object:
        if n not in self._held:
            return super().run_node(n)
        scaled = self.env[self._held[n][0].feature_map]
        arguments = list(self.fetch_args_kwargs_from_env(n)[0])
        for one in self._held[n]:
            gate = self._gates[one.name]
            if gate is None:
                return scaled
            arguments[one.position] = gate.to(scaled.dtype).expand(len(scaled), *gate.shape)
        return self.call_function(n.target, tuple(arguments), n.kwargs)  # type: ignore[arg-type]
