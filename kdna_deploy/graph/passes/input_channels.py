"""What multiplies the channels that a layer reads, in the shape of its weight.

conv(x ⊙ v, W) = conv(x, W ⊙ V)        V [1, c, 1, 1]; with g groups [c', c/g, 1, 1], zero padding included
"""

from __future__ import annotations

import torch
from torch import Tensor, fx

from kdna_deploy.graph.graph import CONVOLUTIONS


def along_inputs(vector: Tensor, layer: fx.Node) -> Tensor:
    """`vector` [c], a number for each channel that `layer` reads, in the shape that multiplies its weight."""
    if layer.target not in CONVOLUTIONS:
        return vector.reshape(1, -1)
    groups = layer.args[6] if len(layer.args) > 6 else layer.kwargs.get("groups", 1)
    assert isinstance(groups, int)
    _, filters, *spatial = layer.meta["val"].shape
    rows = vector.reshape(groups, -1)
    if groups > 1:
        rows = torch.repeat_interleave(rows, int(filters) // groups, dim=0)
    return rows.reshape(*rows.shape, *[1] * len(spatial))
