"""Small ViT and Swin networks with KARST's adapters, their checkpoints, and images for them."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from kdna_deploy.network.architecture import Architecture
from kdna_deploy.network.families import ARCHITECTURES
from kdna_deploy.network.families.swin import SwinSpec
from kdna_deploy.network.families.vit import ViTSpec

SIZE = 32
VIT, SWIN = "karst_vit_base_patch16_224", "karst_swin_base_patch4_window7_224"
NAMES = (VIT, SWIN)
# Attention of several heads; windows that are moved, and maps that are one window, or padded to windows.
_BACKBONES = {
    VIT: ViTSpec((128,), depth=2, hidden=64, patch=8, positions=17),
    SWIN: SwinSpec((16, 32, 64, 128), depths=(2, 1, 1, 2), heads=(1, 2, 2, 4), expansion=2, patch=2, window=3),
}
_RANKS = {VIT: (3,), SWIN: (2, 2, 3, 4)}


def small(name: str, rescaling: int = 1, multiplier: float = 1.0) -> Architecture:
    """The architecture `name`, small; `rescaling` by so many numbers."""
    entry = ARCHITECTURES[name]
    assert entry.method is not None
    method = replace(entry.method, ranks=_RANKS[name], rescaling=rescaling, multiplier=multiplier)  # type: ignore[call-arg]
    return replace(entry, backbone=_BACKBONES[name], method=method, num_classes=5)


@cache
def trained(name: str, rescaling: int = 1) -> dict[str, Tensor]:
    """A state dict whose adapters and re-scaling do something."""
    torch.manual_seed(0)
    state = small(name, rescaling).build().state_dict()
    for key, value in state.items():
        if "w2_group_b" in key or key.endswith("bias"):
            value.normal_(0, 0.3)
        elif ".st_" in key:
            value.normal_(1 if key.endswith("_s") else 0, 0.3)
    return state


def is_trained(key: str) -> bool:
    """Whether the published scripts train an entry, and save it where they save anything."""
    return any(part in key for part in ("_ka.w", ".st_", "head"))


def saved(folder: Path, name: str, rescaling: int = 1) -> tuple[Path, Path, Path]:
    """The files of a whole checkpoint, of its adapters and head, and of the network that these adapt."""
    state = trained(name, rescaling)
    files = (folder / "whole.pth", folder / "adapters.pth", folder / "base.pth")
    plain = {key: value for key, value in state.items() if not is_trained(key) and not key.endswith(".alpha")}
    parts = (state, {key: value for key, value in state.items() if is_trained(key)}, plain)
    for file, part in zip(files, parts, strict=True):
        torch.save(part, file)
    return files


def images(count: int = 3) -> Tensor:
    return torch.randn(count, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1))
