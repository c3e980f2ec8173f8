"""Keep, freeze or drop channel attention: which gates become constants, and what that changes.

`freeze` puts the mean over calibration images in β's place, in every layer or (`below`) only where β hardly moves;
`drop` puts 1. Both change the function: the change is measured on the images, and never called an equivalence.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from kdna_deploy.calibration import GateStatistics, measure_gates
from kdna_deploy.errors import UsageError
from kdna_deploy.forward import forward
from kdna_deploy.graph import Graph, prescales
from kdna_deploy.runtimes.session import Images

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
    """

    choice: ChannelAttention = "keep"
    batches: Batches | None = None
    below: float | None = None
    record: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class OutputChange:
    """What freezing or dropping did to the logits of the calibration images."""

    images: int
    max_difference: float
    mean_difference: float
    scale: float
    same_top1: int


@dataclass(frozen=True)
class Freezing:
    """The gates to fold (node name → mean [c], or None for 1) and the statistics behind the choice."""

    choice: ChannelAttention
    statistics: tuple[GateStatistics, ...] = ()
    gates: dict[str, Tensor | None] = field(default_factory=dict)


def plan_freezing(graph: Graph, options: AttentionOptions, on_images: Callable[[int], None]) -> Freezing:
    """Measure the gates of the fused `graph` and decide which become constants.

    Raises:
        UsageError: freezing without calibration images, or `below` without freezing.
        InputError: there are no images.
    """
    if options.below is not None and options.choice != "freeze":
        raise UsageError("--freeze-below goes with --channel-attention freeze.")
    if options.choice == "keep":
        return Freezing("keep")
    if options.batches is None:
        if options.choice == "freeze":
            raise UsageError(
                "Freezing replaces channel attention by its mean over calibration images; "
                "name a folder of them or an .npz with --calibration."
            )
        return Freezing("drop", gates={node.name: None for node in prescales(graph.module)})
    statistics = measure_gates(graph, options.batches(), on_images)
    chosen = [s for s in statistics if options.below is None or s.variance < options.below]
    gates = {s.node: s.mean if options.choice == "freeze" else None for s in chosen}
    return Freezing(options.choice, statistics, gates)


def measure_change(
    graph: Graph, original: nn.Module, batches: Iterable[Images], on_images: Callable[[int], None]
) -> OutputChange:
    """Compare the logits of the frozen `graph` and of the `original` module over `batches`."""
    images, same, largest, total, scale, count = 0, 0, 0.0, 0.0, 0.0, 0
    for batch in batches:
        tensor = torch.from_numpy(batch)
        expected = forward(original, tensor).numpy()
        got = graph(tensor).numpy()
        difference = np.abs(got.astype(np.float64) - expected)
        largest, scale = max(largest, float(difference.max())), max(scale, float(np.abs(expected).max()))
        total, count = total + float(difference.sum()), count + difference.size
        same += int((got.argmax(-1) == expected.argmax(-1)).sum())
        images += len(batch)
        on_images(len(batch))
    return OutputChange(images, largest, total / max(count, 1), scale, same)
