"""Networks whose layers are made of one another's kernels in every way that there is, for the tests of sharing."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

WIDTH = 16
Weight = Callable[["MadeOf"], Tensor]


class MadeOf(nn.Module):
    """A stem, one convolution with BatchNorm for each of `weights`, and a classifier."""

    def __init__(self, *weights: Weight, groups: int = 1, norm: bool = True) -> None:
        super().__init__()
        self.weights = weights
        self.groups = groups
        shape = (WIDTH, WIDTH // groups, 3, 3)
        self.stem = nn.Conv2d(3, WIDTH, 1)
        self.kernel = nn.Parameter(torch.randn(shape) * 0.1)
        self.bank = nn.Parameter(torch.randn(3, *shape) * 0.1)
        self.coefficients = nn.Parameter(torch.rand(4, 3))
        self.down = nn.Parameter(torch.randn(WIDTH, 1) * 0.1)
        self.up = nn.Parameter(torch.randn(1, 9 * WIDTH // groups) * 0.1)
        self.filters = nn.Parameter(torch.randn(4, WIDTH, 1, 1, 1) * 0.2)
        self.spatial = nn.Parameter(torch.randn(4, 1, 1, 3, 3) * 0.2)
        self.channels = nn.Parameter(torch.randn(1, WIDTH // groups, 1, 1) * 0.2)
        self.register_buffer("order", torch.randperm(WIDTH))
        self.norms = nn.ModuleList(nn.BatchNorm2d(WIDTH) if norm else nn.Identity() for _ in weights)
        self.fc = nn.Linear(WIDTH, 5)
        for layer in self.norms if norm else ():
            layer.running_mean.normal_()
            layer.running_var.uniform_(0.5, 2.0)
            nn.init.uniform_(layer.weight, 0.5, 1.5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for weight, norm in zip(self.weights, self.norms, strict=True):
            x = F.relu(norm(F.conv2d(x, weight(self), padding=1, groups=self.groups)))
        return self.fc(x.mean((2, 3)))


def own(m: MadeOf) -> Tensor:
    """The parent as it stands."""
    return m.kernel


# Name → a child of `kernel`, and one of its siblings; together they take less room with their parent than alone.
CHILDREN: dict[str, Weight] = {
    "filters permuted": lambda m: m.kernel[m.order],
    "filters permuted by a list": lambda m: m.kernel[[*range(1, WIDTH), -WIDTH]],
    "channels permuted": lambda m: m.kernel[:, [*range(1, WIDTH // m.groups), 0]],
    "index_select": lambda m: m.kernel.index_select(0, m.order),
    "permuted and modulated": lambda m: m.kernel[m.order] * (1 + m.filters[0]) * (1 + m.spatial[0]),
    "modulated and permuted": lambda m: (m.kernel * (1 + m.filters[0]))[m.order],
    "rolled": lambda m: torch.roll(m.kernel, 3, 0),
    "mirrored": lambda m: m.kernel.flip(3),
    "mirrored twice and modulated": lambda m: torch.flip(m.kernel, (2, 3)) * (1 + m.filters[1]),
    "turned": lambda m: m.kernel.rot90(1, (2, 3)),
    "transposed": lambda m: m.kernel.transpose(2, 3),
    "symmetric": lambda m: 0.5 * (m.kernel + m.kernel.flip(3)),
    "halves exchanged": lambda m: torch.cat([m.kernel[WIDTH // 2 :], m.kernel[: WIDTH // 2]]),
    "a low-rank adapter": lambda m: m.kernel + (m.down @ m.up).view_as(m.kernel),
    "attention over input channels": lambda m: m.kernel * (1 + m.filters[2]) * (1 + m.channels),
    "negated": lambda m: -m.kernel,
}
MIXTURES: dict[str, Weight] = {
    "a sum": lambda m: 0.3 * m.bank[0] + 0.7 * m.bank[1],
    "another sum": lambda m: m.coefficients[0, 0] * m.bank[1] + m.coefficients[0, 1] * m.bank[2],
    "softmax": lambda m: (torch.softmax(m.coefficients[1], 0).view(3, 1, 1, 1, 1) * m.bank).sum(0),
    "einsum": lambda m: torch.einsum("r,roikl->oikl", m.coefficients[2], m.bank) * (1 + m.spatial[1]),
    "tensordot": lambda m: torch.tensordot(m.coefficients[3], m.bank, 1),
    "lerp": lambda m: torch.lerp(m.bank[0], m.bank[2], 0.3),
}
