"""What a change of the function did to the logits: of freezing or dropping channel attention, over calibration images.

Where attention is dropped without any, over random ones: how far logits move, and no word of the class, which trained
networks seldom change for noise.

Never an equivalence: whoever changes the function is told by how much, and decides.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from kdna_deploy.evaluation.logits import judged, judged_beside
from kdna_deploy.graph.graph import Graph
from kdna_deploy.images.batch import Images
from kdna_deploy.network.forward import forward
from kdna_deploy.network.module_copy import twin
from kdna_deploy.progress import Listener


@dataclass(frozen=True)
class OutputChange:
    """What freezing or dropping did to the logits of `images`.

    Attributes:
        same_top1: for how many of them the class stays; None of random ones.
    """

    images: int
    max_difference: float
    mean_difference: float
    scale: float
    same_top1: int | None


def measure_change(
    graph: Graph, original: nn.Module, batches: Iterable[Images], listener: Listener, random: bool = False
) -> OutputChange:
    """Compare the logits of the frozen `graph` and of the `original` module, in evaluation mode, over `batches`.

    `random` says that these are noise.
    """
    original = twin(original).eval()  # as it was captured; a forward in training mode would change it
    images, same, largest, total, scale, count = 0, 0, 0.0, 0.0, 0.0, 0
    for batch in batches:
        tensor = torch.from_numpy(batch)
        expected = forward(original, tensor).numpy()
        got = graph(tensor).numpy()
        judged_beside(got, judged(expected, len(batch), "the network"), "the changed network", "the network")
        with np.errstate(invalid="ignore"):  # equal infinities: their difference is not looked at
            difference = np.where(got == expected, 0.0, np.abs(got.astype(np.float64) - expected))
        largest = max(largest, float(difference.max()))
        scale = max(scale, float(np.abs(expected, where=np.isfinite(expected), out=np.zeros_like(expected)).max()))
        total, count = total + float(difference.sum()), count + difference.size
        same += int((got.argmax(-1) == expected.argmax(-1)).sum())
        images += len(batch)
        listener.advance(len(batch))
    return OutputChange(images, largest, total / max(count, 1), scale, None if random else same)
