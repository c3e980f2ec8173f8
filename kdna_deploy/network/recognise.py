"""Which architecture a checkpoint belongs to, told from its names and shapes.

Every entry of `ARCHITECTURES` is fitted to the checkpoint's widths, built without memory (meta tensors) and
compared name by name. An entry fits when nothing is missing, unexpected or of another shape.

Does not apply to networks outside the table: they come with ``--model package.module:factory``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from kdna_deploy.errors import ArchitectureError, UsageError
from kdna_deploy.network.architecture import Architecture, Shapes
from kdna_deploy.network.families import ARCHITECTURES

_SHOWN_KEYS = 3
_SHOWN_CANDIDATES = 3


@dataclass(frozen=True)
class Mismatch:
    """How a checkpoint departs from a network: names, as the network has them."""

    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    reshaped: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.missing) + len(self.unexpected) + len(self.reshaped)

    def __str__(self) -> str:
        kinds = (("missing", self.missing), ("unexpected", self.unexpected), ("of another shape", self.reshaped))
        return ", ".join(f"{len(names)} {kind} ({_few(names)})" for kind, names in kinds if names)


def compare(expected: Shapes, shapes: Shapes) -> Mismatch:
    """Compare a checkpoint's shapes with a network's. Counters that old PyTorch versions did not save may lack."""
    return Mismatch(
        missing=tuple(k for k in expected if k not in shapes and not k.endswith("num_batches_tracked")),
        unexpected=tuple(k for k in shapes if k not in expected),
        reshaped=tuple(k for k in expected if k in shapes and shapes[k] != expected[k]),
    )


def recognise(shapes: Shapes, name: str | None = None, recorded: str | None = None) -> Architecture:
    """The architecture of a checkpoint, with widths, class count and reductions from its shapes.

    `name` is what the user asked for and must fit; `recorded` is what the training script wrote down, and only
    breaks ties: training scripts are copied, and names in them go stale.

    Raises:
        ArchitectureError: no entry fits, or not the one that was asked for.
        UsageError: `name` is unknown.
    """
    if name is not None and name not in ARCHITECTURES:
        raise UsageError(f"There is no architecture '{name}'; choose from {', '.join(ARCHITECTURES)}.")
    entries = [ARCHITECTURES[name]] if name else list(ARCHITECTURES.values())
    compared = [(entry, *_fit(entry, shapes)) for entry in entries]
    fitting = [(entry, fitted) for entry, fitted, mismatch in compared if not mismatch]
    if not fitting:
        ranked = sorted(compared, key=lambda candidate: len(candidate[2]))[:_SHOWN_CANDIDATES]
        if name:
            raise ArchitectureError(
                f"The checkpoint does not fit {name}: {ranked[0][2]}; leave `arch` out to have it recognised."
            )
        listing = "; ".join(f"{entry.name}: {mismatch}" for entry, _, mismatch in ranked)
        raise ArchitectureError(
            f"The checkpoint fits no known architecture ({listing}); "
            "build its network with `model='package.module:factory'`."
        )
    exact = [fitted for entry, fitted in fitting if fitted.backbone.widths == entry.backbone.widths]
    chosen = exact or [fitted for _, fitted in fitting]
    by_name = [fitted for fitted in chosen if fitted.name == recorded]
    if len({replace(fitted, name="") for fitted in chosen}) > 1 and not by_name:
        names = ", ".join(fitted.name for fitted in chosen)
        raise ArchitectureError(f"The checkpoint fits several architectures ({names}); choose one with `arch`.")
    return (by_name or chosen)[0]


def network_shapes(architecture: Architecture) -> dict[str, tuple[int, ...]]:
    """State-dict names and shapes of an architecture."""
    with torch.device("meta"):
        return {name: tuple(t.shape) for name, t in architecture.build().state_dict().items()}


def _fit(entry: Architecture, shapes: Shapes) -> tuple[Architecture, Mismatch]:
    try:
        fitted = entry.fitted(shapes)
        return fitted, compare(network_shapes(fitted), shapes)
    except (KeyError, IndexError, ValueError, RuntimeError):
        # The entries that tell the widths are not there, or tell nonsense: compare at the published widths.
        return entry, compare(network_shapes(entry), shapes)


def _few(names: tuple[str, ...]) -> str:
    shown = ", ".join(sorted(names, key=len)[:_SHOWN_KEYS])
    return shown + (", …" if len(names) > _SHOWN_KEYS else "")
