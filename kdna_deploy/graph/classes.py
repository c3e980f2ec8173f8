"""How many classes a network tells apart: as many as it returns logits for an image, [n, classes].

Does not apply to what returns anything else, one number for an image or a map: none of its axes is one of classes.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from kdna_deploy.graph.graph import Graph


def returned_shape(graph: Graph) -> tuple[int, ...]:
    """Shape of what `graph`, which returns no stage outputs, returns for an image: without the axis of the images."""
    return tuple(graph(torch.zeros(2, *graph.image_shape)).shape[1:])


def class_count(returned: Sequence[object]) -> int | None:
    """Number of logits in what is `returned` for an image, by its shape; None where that is something else."""
    (count,) = returned if len(returned) == 1 else (None,)
    return count if isinstance(count, int) else None


def shown(returned: Sequence[object]) -> str:
    """``[n, 4, 8, 8]``, for sentences."""
    return f"[{', '.join(map(str, ('n', *returned)))}]"
