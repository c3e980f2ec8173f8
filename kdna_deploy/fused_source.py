"""Checkpoint or ``.pt2`` → a fused graph together with the original network that it is to be verified against."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from kdna_deploy.errors import UsageError
from kdna_deploy.fused_file import load_fused
from kdna_deploy.fusion import fuse
from kdna_deploy.graph import Graph
from kdna_deploy.network import Network, load_network
from kdna_deploy.provenance import Provenance, find_source, provenance_of


@dataclass(frozen=True)
class FusedSource:
    """A fused graph, the network as it was trained, and where both come from."""

    graph: Graph
    network: Network
    provenance: Provenance


def open_fused_source(
    path: Path,
    source: Path | None,
    arch: str | None,
    factory: str | None,
    ema: bool,
    size: tuple[int, int] | None,
    default_size: tuple[int, int],
    on_step: Callable[[str], None] = lambda _: None,
) -> FusedSource:
    """Open a fused ``.pt2`` with its checkpoint, or fuse a checkpoint on the way.

    `size` (h, w) overrides the image size; without it a ``.pt2`` keeps its own and a checkpoint gets `default_size`.

    Raises:
        ArtifactError: the ``.pt2`` or its checkpoint cannot be found or opened.
        UsageError: the ``.pt2`` holds a user's own model, whose code is never run unasked.
    """
    on_step("load")
    if path.suffix != ".pt2":
        network = load_network(path, arch, factory, ema)
        fused = fuse(network.module, (network.in_channels, *(size or default_size)), on_step)
        provenance = provenance_of(network, fused.graph.image_shape, fused.channel_attentions)
        return FusedSource(fused.graph, network, provenance)
    opened = load_fused(path)
    provenance = opened.provenance
    network = original_network(provenance, path, source, factory)
    c, h, w = provenance.image_shape
    graph = Graph(opened.graph.module, (c, *(size or (h, w))))
    if graph.image_shape != provenance.image_shape:
        resized = provenance_of(network, graph.image_shape, provenance.channel_attentions)
        provenance = replace(resized, ema=provenance.ema)
    return FusedSource(graph, network, provenance)


def original_network(provenance: Provenance, artifact: Path, source: Path | None, factory: str | None) -> Network:
    """The trained network that `artifact` was made from. `factory` must be repeated for a user's own model.

    Raises:
        ArtifactError: its checkpoint is not to be found.
        UsageError: the network is a user's own and `factory` is missing.
    """
    if provenance.factory and not factory:
        raise UsageError(
            f"'{artifact}' holds the network of {provenance.factory}; "
            f"add --model {provenance.factory} to let its code build the original."
        )
    checkpoint = source or find_source(provenance, artifact)
    arch = None if provenance.factory else provenance.name
    return load_network(checkpoint, arch, factory if provenance.factory else None, provenance.ema)
