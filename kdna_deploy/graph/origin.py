"""Artifact → the network that it was made from, loaded again from its checkpoint."""

from __future__ import annotations

from pathlib import Path

from kdna_deploy.errors import ArtifactError, UsageError
from kdna_deploy.files import file_sha256
from kdna_deploy.graph.provenance import Provenance, find_source
from kdna_deploy.network.load import Network, load_network


def check_source(provenance: Provenance, artifact: Path, source: Path) -> None:
    """Refuse a checkpoint `source` that `artifact` was not made from; where it lies, and its name, are no matter.

    Raises:
        ArtifactError: it is another one, or has changed.
    """
    known = provenance.source_sha256  # of a network that never was in a file, none
    if known and file_sha256(source) != known:
        raise ArtifactError(
            f"'{source}' is not '{provenance.source}', from which '{artifact}' was made, or has changed since; name "
            "that checkpoint with `source`, or fuse this one."
        )


def original_network(provenance: Provenance, artifact: Path, source: Path | None, factory: str | None) -> Network:
    """The trained network that `artifact` was made from. `factory` must be repeated for a user's own model.

    Raises:
        ArtifactError: its checkpoint is not to be found.
        UsageError: the network is a user's own and `factory` is missing.
    """
    if provenance.factory and not factory:
        raise UsageError(
            f"'{artifact}' holds the network of {provenance.factory}; "
            f"add `model={provenance.factory_hint(artifact)!r}` to let its code build the original."
        )
    checkpoint = source or find_source(provenance, artifact)
    return load_network(
        checkpoint, provenance.loading(checkpoint), factory if provenance.factory else None, provenance.ema
    )
