"""The container in which the published KernelDNA training code saves a network.

    {"epoch", "arch", "state_dict": {"module." + key: tensor}, "best_acc1", "optimizer", "scheduler"}

Written by ``torch.save``, loadable with ``weights_only=True``. The prefix is what DataParallel adds while training.
Momentum buffers are left out: they are as large as the weights and deployment never reads them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from kdna_deploy.files import atomic_output


@dataclass(frozen=True)
class Recipe:
    """SGD with linear warm-up and cosine decay: the part of a training run that a container records."""

    epochs: int
    base_lr: float = 0.0
    momentum: float = 0.9
    weight_decay: float = 0.0
    warmup_epochs: int = 0

    def learning_rate(self, epoch: float) -> float:
        """Learning rate at `epoch`, which may lie within one (3.5: in the middle of the fourth)."""
        if epoch < self.warmup_epochs:
            return self.base_lr * epoch / self.warmup_epochs
        done = (epoch - self.warmup_epochs) / max(self.epochs - self.warmup_epochs, 1)
        return self.base_lr * (1 + math.cos(math.pi * min(done, 1.0))) / 2


def container(
    network: nn.Module, arch: str, recipe: Recipe, acc1: float, args: dict[str, object] | None = None
) -> dict[str, object]:
    """`network` as the training code would save it after the last epoch, with top-1 accuracy `acc1` in percent.

    `args` are the options of the training script, such as the size and the normalisation of its images.
    """
    group = {
        "lr": recipe.learning_rate(recipe.epochs),
        "momentum": recipe.momentum,
        "weight_decay": recipe.weight_decay,
        "params": list(range(len(list(network.parameters())))),
    }
    options = {"args": args} if args else {}
    return {
        **options,
        "epoch": recipe.epochs,
        "arch": arch,
        "state_dict": {f"module.{key}": value.detach().contiguous() for key, value in network.state_dict().items()},
        "best_acc1": torch.tensor(acc1),
        "optimizer": {"state": {}, "param_groups": [group]},
        "scheduler": {
            "warmup_epochs": recipe.warmup_epochs,
            "max_epochs": recipe.epochs,
            "eta_min": 0.0,
            "base_lrs": [recipe.base_lr],
            "last_epoch": recipe.epochs,
        },
    }


def write(content: dict[str, object], path: Path) -> None:
    """Save `content` as `path`, which appears, or is replaced, only once the new file is complete."""
    # Through a file object, torch.save does not put the file's name into the archive: equal content, equal bytes.
    with atomic_output(path) as temporary, temporary.open("wb") as file:
        torch.save(content, file)
