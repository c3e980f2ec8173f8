"""Build the KernelWarehouse, ODConv and KARST checkpoints of these fixtures from key names alone.

Values are those of `../fill.py` (`tensor(key, shape, salt)`), then, from ``golden/<arch>.npz``:
``scale:<key>`` multiplies an entry, ``stat:<key>`` replaces it (BatchNorm statistics that fit the other weights).

    state = state_dict("kw1x_resnet18")          # names: the files of keys/
    images = golden_input()                      # [3, 3, 224, 224]; logits and logits64 in golden/<arch>.npz
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch

from tests.data import fill

HERE = Path(__file__).resolve().parent


def state_dict(arch: str, salt: str = "public", golden: Path = HERE / "golden") -> dict[str, torch.Tensor]:
    """The filled state dict of `arch`; `golden` is the folder with its scales and statistics."""
    entries = json.loads((HERE / "keys" / f"{arch}.json").read_text())["state_dict"]
    stored = np.load(golden / f"{arch}.npz")
    filled = {}
    for key, shape, _dtype in entries:
        value = torch.tensor(1) if key.endswith(".alpha") else fill.tensor(key, shape, salt)
        if f"scale:{key}" in stored:
            value = value * float(stored[f"scale:{key}"])
        if f"stat:{key}" in stored:
            value = torch.from_numpy(stored[f"stat:{key}"])
        filled[key] = value
    return filled


def golden_input(salt: str = "public", images: int = 3) -> torch.Tensor:
    """Half noise, half 4×4 blocks of constant colour, so that global means differ from image to image."""
    noise = fill._generator(salt, "input").normal(0.0, 1.0, (images, 3, 224, 224))
    blocks = fill._generator(salt, "input-blocks").normal(0.0, 1.0, (images, 3, 4, 4))
    return torch.from_numpy((0.5 * noise + np.kron(blocks, np.ones((56, 56)))).astype(np.float32))
