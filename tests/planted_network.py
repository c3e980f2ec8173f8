"""A small network with a parent, two children and gates with a hidden layer, for faults to be planted in."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SHAPE = (3, 12, 12)
FACTORY = "tests.planted_network:build"
_CHANNELS, _HIDDEN = 8, 5


class Attention(nn.Module):
    """β(x) with a hidden layer that fills no block of channels."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(_CHANNELS, _HIDDEN, 1)
        self.fc2 = nn.Conv2d(_HIDDEN, _CHANNELS, 1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.sigmoid(self.fc2(F.relu(self.fc1(F.adaptive_avg_pool2d(x, 1)))))


class Planted(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, _CHANNELS, 3, padding=1)
        self.parent = nn.Conv2d(_CHANNELS, _CHANNELS, 3, padding=1, bias=False)
        self.filters = nn.Parameter(torch.zeros(2, _CHANNELS, 1, 1, 1))
        self.spatials = nn.Parameter(torch.zeros(2, 1, 1, 3, 3))
        self.gates = nn.ModuleList(Attention() for _ in range(2))
        self.bns = nn.ModuleList(nn.BatchNorm2d(_CHANNELS, eps=1e-3) for _ in range(3))
        self.fc = nn.Linear(_CHANNELS, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.stem(x))
        x = F.relu(self.bns[2](self.parent(x)))
        for child in range(2):
            weight = self.parent.weight * (1 + self.filters[child]) * (1 + self.spatials[child])
            x = F.relu(self.bns[child](F.conv2d(x * self.gates[child](x), weight, padding=1)))
        return self.fc(x.mean((2, 3)))


def build() -> nn.Module:
    return Planted()


def write_checkpoint(path: Path, scale: float = 1.0) -> Path:
    """Trained-looking weights; `scale` multiplies the parent's kernel, BatchNorm takes it out again."""
    torch.manual_seed(3)
    network = Planted()
    with torch.no_grad():
        for norm in network.bns:
            norm.running_mean.normal_()
            norm.running_var.uniform_(0.01, 2.0).mul_(scale**2)
            norm.weight.uniform_(0.5, 1.5)
            norm.bias.normal_()
        network.filters.normal_(std=0.3)
        network.spatials.normal_(std=0.3)
        network.parent.weight.mul_(scale)
    torch.save({"state_dict": network.state_dict()}, path)
    return path
