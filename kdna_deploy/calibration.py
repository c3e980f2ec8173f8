"""How much channel attention moves: statistics of every gate β(x) over calibration images, in one streaming pass.

mean       E[β_c]                         over images, for each channel c: what freezing puts in β's place
variance   mean_c Var[β_c]                over images: how much a frozen gate is off
explained  Var_c E[β_c] / Var β           share of all variance (images and channels) that the mean explains
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, fx

from kdna_deploy.errors import InputError
from kdna_deploy.graph import Graph, gate_of, prescales, site
from kdna_deploy.runtimes.session import Images


@dataclass(frozen=True)
class GateStatistics:
    """One channel attention over the calibration images.

    Attributes:
        node: name of its pre-scale in the graph.
        site: module path.
        mean: E[β], [c], float64.
        variance: mean over channels of the variance over images.
        explained: share of the variance that the mean explains; 1 where the gate does not move at all.
    """

    node: str
    site: str
    mean: Tensor
    variance: float
    explained: float


def measure_gates(
    graph: Graph, batches: Iterable[Images], on_images: Callable[[int], None] = lambda _: None
) -> tuple[GateStatistics, ...]:
    """Run `graph` over `batches` and measure every dynamic channel attention. `on_images` is told each batch's size.

    Raises:
        InputError: there are no images, or the network answers them with NaN.
    """
    scaled = prescales(graph.module)
    recorder = _Recorder(graph.module, {gate_of(node)[1]: node.name for node in scaled})
    with torch.no_grad():
        for images in batches:
            logits = recorder.run(torch.from_numpy(images))
            if not torch.isfinite(logits).all():
                raise InputError("The calibration images make the network return NaN; check their normalisation.")
            recorder.images += len(images)
            on_images(len(images))
    if not recorder.images:
        raise InputError("There are no calibration images.")
    return tuple(_statistics(node, recorder) for node in scaled)


class _Recorder(fx.Interpreter):
    """Sums of β and β² over images, channel by channel, in float64."""

    def __init__(self, module: fx.GraphModule, gates: dict[fx.Node, str]) -> None:
        super().__init__(module)
        self._gates = gates
        self.images = 0
        self.sums: dict[str, Tensor] = {}
        self.squares: dict[str, Tensor] = {}

    def run_node(self, n: fx.Node) -> object:
        value = super().run_node(n)
        if n in self._gates:
            name, beta = self._gates[n], value.double().flatten(1)
            self.sums[name] = self.sums.get(name, 0) + beta.sum(0)
            self.squares[name] = self.squares.get(name, 0) + beta.square().sum(0)
        return value


def _statistics(prescale: fx.Node, recorder: _Recorder) -> GateStatistics:
    mean = recorder.sums[prescale.name] / recorder.images
    within = (recorder.squares[prescale.name] / recorder.images - mean.square()).clamp(min=0)
    between = float(mean.var(correction=0))
    total = between + float(within.mean())
    return GateStatistics(
        node=prescale.name,
        site=site(prescale),
        mean=mean,
        variance=float(within.mean()),
        explained=between / total if total > 0 else 1.0,
    )
