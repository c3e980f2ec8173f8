"""How much channel attention moves: statistics of every gate β(x) over calibration images, in one streaming pass.

mean       E[β_c]                         over images, for each channel c: what freezing puts in β's place
variance   mean_c Var[β_c]                over images: how much a frozen gate is off
explained  Var_c E[β_c] / Var β           share of all variance (images and channels) that the mean explains
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, fx

from kdna_deploy.errors import InputError
from kdna_deploy.graph.gates import Attention, channel_attentions
from kdna_deploy.graph.graph import Graph
from kdna_deploy.images.batch import Images
from kdna_deploy.progress import SILENT, Listener


@dataclass(frozen=True)
class GateStatistics:
    """One channel attention over the calibration images.

    Attributes:
        node: name of its product in the graph.
        site: module path.
        mean: E[β], [c], float64; [1] for a gate that all channels share.
        variance: mean over channels of the variance over images.
        explained: share of the variance that the mean explains; 1 where the gate does not move at all.
    """

    node: str
    site: str
    mean: Tensor
    variance: float
    explained: float


def measure_gates(graph: Graph, batches: Iterable[Images], listener: Listener = SILENT) -> tuple[GateStatistics, ...]:
    """Run `graph` over `batches` and measure every dynamic channel attention. `listener` is told each batch's size.

    Raises:
        InputError: there are no images, the network cannot run on them, or it or a gate answers them with NaN.
    """
    attentions = channel_attentions(graph.module)
    recorder = _Recorder(graph.module, {attention.gate for attention in attentions})
    with torch.no_grad():
        for images in batches:
            logits = _run(recorder, images)
            if torch.isnan(logits).any():
                raise InputError("The calibration images make the network return NaN; check their normalisation.")
            recorder.images += len(images)
            listener.advance(len(images))
    if not recorder.images:
        raise InputError("There are no calibration images.")
    return tuple(_statistics(attention, recorder) for attention in attentions)


def _run(recorder: _Recorder, images: Images) -> Tensor:
    try:
        return cast(Tensor, recorder.run(torch.from_numpy(images)))
    except RuntimeError as error:
        cause = str(error).splitlines()[0]
        raise InputError(f"The network cannot run on calibration images of shape {images.shape}: {cause}.") from error


class _Recorder(fx.Interpreter):
    """Sums of β and β² over images, channel by channel, in float64, for each of the nodes `gates`.

    A network may see each image several times at once (flipped, say): `rows` counts how often a gate was computed.
    """

    def __init__(self, module: fx.GraphModule, gates: set[fx.Node]) -> None:
        super().__init__(module)
        self._gates = gates
        self.images = 0
        self.rows: dict[fx.Node, int] = {}
        self.sums: dict[fx.Node, Tensor] = {}
        self.squares: dict[fx.Node, Tensor] = {}

    def run_node(self, n: fx.Node) -> object:
        value = super().run_node(n)
        if n in self._gates:
            beta = value.double().flatten(1)
            self.rows[n] = self.rows.get(n, 0) + len(beta)
            self.sums[n] = self.sums.get(n, 0) + beta.sum(0)
            self.squares[n] = self.squares.get(n, 0) + beta.square().sum(0)
        return value


def _statistics(attention: Attention, recorder: _Recorder) -> GateStatistics:
    rows = recorder.rows[attention.gate]
    mean = recorder.sums[attention.gate] / rows
    within = (recorder.squares[attention.gate] / rows - mean.square()).clamp(min=0)
    if not torch.isfinite(within).all():
        raise InputError(
            f"The gate of {attention.site} is NaN or infinite for the calibration images; check their normalisation."
        )
    between = float(mean.var(correction=0))
    total = between + float(within.mean())
    return GateStatistics(
        node=attention.name,
        site=attention.site,
        mean=mean,
        variance=float(within.mean()),
        explained=between / total if total > 0 else 1.0,
    )
