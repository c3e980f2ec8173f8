"""A fused graph for images of another size than it was made for, and what is recorded of the size.

Does not apply to a graph with constants of a map's size, as attention that was frozen to one, or with a layer of all
pixels: its network is fused again.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from kdna_deploy.errors import UsageError
from kdna_deploy.graph.graph import Graph
from kdna_deploy.graph.provenance import Provenance, provenance_of
from kdna_deploy.network.forward import input_dtype
from kdna_deploy.network.input_size import ASSUMED, made_for_assumed
from kdna_deploy.network.load import Network

Size = tuple[int, int] | None  # (h, w) that a user asked for; None where nothing was said


def resized(graph: Graph, made: Provenance, network: Network, path: Path, size: Size) -> tuple[Graph, Provenance]:
    """The graph of `path`, which was `made` of `network`, for images of `size`, and its provenance then.

    Raises:
        UsageError: it has a constant of a map's size, or a layer of all pixels.
    """
    shape = (made.image_shape[0], *(size or made.image_shape[1:]))
    graph = replace(graph, image_shape=shape)
    if shape == made.image_shape:
        return graph, sized(made, made, size)
    _check_size(graph, path, made)
    counted = provenance_of(network, shape, made.channel_attentions)
    again = replace(
        counted,
        options=made.options,
        kernels=made.kernels,
        parents=made.parents,
        preprocessing=made.preprocessing,
        num_classes=made.num_classes,
    )
    return graph, sized(again, made, size)


def _check_size(graph: Graph, path: Path, made: Provenance) -> None:
    image = torch.zeros(1, *graph.image_shape, dtype=input_dtype(graph.module))
    try:
        graph(image)
    except Exception as error:  # an operator's, which may raise anything
        _, h, w = made.image_shape
        raise UsageError(
            f"The graph of '{path}' has constants of the size of its maps, and fits images of {h}×{w} alone; "
            "fuse its checkpoint again with the `input_size` to export for."
        ) from error


def assumed_notes(made: Provenance, path: Path, size: Size) -> tuple[str, ...]:
    """That the size which `path` was made for was assumed, unless one is asked for."""
    return () if size else made_for_assumed(path.name, made.image_shape, made.options)


def sized(provenance: Provenance, made: Provenance, size: Size) -> Provenance:
    """With what `made` says of where its size is from, unless one is asked for."""
    options = {name: value for name, value in provenance.options.items() if name != ASSUMED}
    assumed = bool(made.options.get(ASSUMED)) and not size
    return replace(provenance, options={**options, ASSUMED: True} if assumed else options)
