"""What is in a checkpoint: architecture, sharing, cost, and how far each child departs from its parent.

A child's modulation M = (1 + α_f)(1 + α_s) is summarised by its spread over filters (of M averaged over positions)
and over positions (of M averaged over filters). A spread of zero means that the child uses the parent's kernel as
it is along that axis. Read off the captured graph, so a user's own model is inspected like ours.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from kdna_deploy.graph.capture import captured
from kdna_deploy.graph.classes import class_count
from kdna_deploy.graph.gates import channel_attentions
from kdna_deploy.graph.ledger import Ledger, sharing_ledger
from kdna_deploy.graph.modulations import Modulation, modulations
from kdna_deploy.graph.passes import Refusal
from kdna_deploy.graph.passes.find_dynamic_convolutions import find_dynamic_convolutions
from kdna_deploy.graph.passes.fold_static_attention import fold_static_attention
from kdna_deploy.network.cost import Cost, count
from kdna_deploy.network.input_size import InputSize, choose_size
from kdna_deploy.network.load import Network
from kdna_deploy.network.stages import LOGITS
from kdna_deploy.progress import SILENT, Listener


@dataclass(frozen=True)
class AttentionStatistics:
    """Static attention of one child: spread (standard deviation) of M along filters and positions, and its range."""

    child: str
    parent: str
    filter_spread: float
    spatial_spread: float
    low: float
    high: float


@dataclass(frozen=True)
class Inspection:
    """Everything `inspect` shows. `refused` are kernels that depend on the input; `size` tells where h, w are from.

    `stages` are the shapes (c', h', w') of the stage outputs by their names; empty of a network that returns something
    else, for an image of the shape `returned`. `num_classes` is None where that is no logits, and 0 of stage outputs.
    """

    network: Network
    image_shape: tuple[int, int, int]
    cost: Cost
    num_classes: int | None
    channel_attentions: int
    ledger: Ledger
    modulations: tuple[Modulation, ...]
    refused: tuple[Refusal, ...]
    size: InputSize
    stages: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    returned: tuple[int, ...] = ()

    @property
    def attention(self) -> tuple[AttentionStatistics, ...]:
        """Of every child."""
        return tuple(map(_statistics, self.modulations))


def inspect_network(
    network: Network, image_size: tuple[int, int] | None = None, listener: Listener = SILENT
) -> Inspection:
    """Inspect a trained network for images of `image_size` (h, w), by default what its checkpoint records, or 224×224.

    Raises:
        CaptureError: the network cannot be traced.
    """
    size = choose_size(image_size, network.checkpoint.training, network.only_size)
    shape = network.image_shape(size.size)
    listener.step("capture")
    graph = captured(network, shape)
    listener.step("find parents and children")
    attentions = len(channel_attentions(graph.module))
    find_dynamic_convolutions(graph.module)
    folded = fold_static_attention(graph.module)
    shapes = {name: tuple(node.meta["val"].shape[1:]) for name, node in graph.returned.items()}
    returned = () if graph.stage_names else shapes[LOGITS]
    return Inspection(
        network=network,
        image_shape=shape,
        cost=count(network.module, shape),
        num_classes=0 if graph.stage_names else class_count(returned),
        stages=shapes if graph.stage_names else {},
        returned=returned,
        channel_attentions=attentions,
        ledger=sharing_ledger(graph.module),
        modulations=modulations(graph.module),
        refused=folded.refused,
        size=size,
    )


def _statistics(found: Modulation) -> AttentionStatistics:
    return AttentionStatistics(
        child=found.child,
        parent=found.parent,
        filter_spread=float(np.std(found.filters)),
        spatial_spread=float(np.std(found.spatial)),
        low=found.low,
        high=found.high,
    )
