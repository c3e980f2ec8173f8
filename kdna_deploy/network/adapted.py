"""Adapters → a whole checkpoint: names as the network has them, and the rest from the checkpoint they were trained on.

    adapters (and head) of one file, over everything of `base`

A training script that saves what it trained saves no network: the adapters' file wins where both have an entry, for a
head or a LayerNorm may have been trained with them. Files that hold everything need no base.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from kdna_deploy.errors import ArchitectureError, UsageError
from kdna_deploy.network.checkpoint import Checkpoint, load_checkpoint
from kdna_deploy.network.families.karst import adapters, canonical

_OF_THE_BASE = "patch_embed.proj.weight"


def with_base(checkpoint: Checkpoint, base: Path | None, multiplier: float | None) -> Checkpoint:
    """`checkpoint` with what it lacks from that in the file `base`; one without adapters as it is.

    Raises:
        ArchitectureError: it needs a base, or that holds no network to adapt.
        UsageError: it has no adapters, and a base was named.
        CheckpointError: `base` cannot be read.
    """
    state = canonical(checkpoint.state_dict)
    found = adapters(state)
    if not found:
        if base is not None:
            raise UsageError(f"'{checkpoint.path}' holds no adapters to put beside `base`; leave that out.")
        return checkpoint
    notes = [] if multiplier else ["no checkpoint holds the adapters' `multiplier`: taken for 1"]
    unscaled = {f"{name}.alpha": torch.tensor(1) for name in found if f"{name}.alpha" not in state}
    if unscaled:  # a buffer: scripts that save parameters alone leave it out
        notes.append("the checkpoint holds no alpha of its adapters: taken for 1, as published")
    if base is None:
        if _OF_THE_BASE not in state:
            raise ArchitectureError(
                f"'{checkpoint.path}' holds adapters without the network that they adapt; name its checkpoint with "
                "`base`."
            )
        rest = None
    else:
        rest = load_checkpoint(base)
        if _OF_THE_BASE not in rest.state_dict or adapters(canonical(rest.state_dict)):
            raise ArchitectureError(f"'{base}' is no checkpoint of a plain ViT or Swin in timm's names; name another.")
        notes += [f"{note} ({base.name})" for note in rest.notes]
        notes.append(f"the adapters are put beside the network of {base.name}")
    state = {**(rest.state_dict if rest else {}), **unscaled, **state}
    return replace(checkpoint, state_dict=state, base=rest, notes=(*checkpoint.notes, *notes))
