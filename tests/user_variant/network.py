"""A small classifier whose layers borrow kernels in ways that the published networks do not.

The donor kernels are plain parameters, some stacked in a bank; attentions are one flat table each, stacked and
unsqueezed at the call; one convolution is called twice, with a BatchNorm for each call; there are a depthwise child
and a child with a bias; activations work in place.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

WIDTH = 16
CLASSES = 7
# One BatchNorm call for the stem, six borrowers and lenders, the two echoes and the two gates.
NORM_CALLS = 11
GATES = 2


class Gate(nn.Module):
    """Scales the channels of `x` by what a bottleneck makes of their means."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(width, width // 4, 1, bias=False)
        self.norm = nn.BatchNorm2d(width // 4)
        self.excite = nn.Conv2d(width // 4, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        summary = x.mean((2, 3), keepdim=True)
        return self.excite(F.relu_(self.norm(self.squeeze(summary)))).sigmoid() * x


class Borrower(nn.Module):
    """Six convolutions on three kernels."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, WIDTH, 3, stride=2, padding=1, bias=False)
        self.stem_norm = nn.BatchNorm2d(WIDTH)
        self.donor = nn.Parameter(torch.randn(WIDTH, WIDTH, 3, 3) / 12)
        self.bank = nn.Parameter(torch.randn(2, WIDTH, WIDTH, 1, 1) / 4)
        self.stencil = nn.Parameter(torch.randn(WIDTH, 1, 3, 3) / 3)
        self.tones = nn.ParameterList(torch.randn(WIDTH) / 5 for _ in range(3))
        self.shades = nn.Parameter(torch.randn(2, 3, 3) / 5)
        self.offset = nn.Parameter(torch.randn(WIDTH) / 5)
        self.echo = nn.Conv2d(WIDTH, WIDTH, 1, bias=False)
        self.norms = nn.ModuleDict(
            {
                name: nn.BatchNorm2d(WIDTH)
                for name in ("lent", "borrowed", "wide", "thin", "drawn", "paid", "first_echo", "second_echo")
            }
        )
        self.gates = nn.ModuleList(Gate(WIDTH) for _ in range(GATES))
        self.classes = nn.Linear(WIDTH, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu_(self.stem_norm(self.stem(x)))
        tone = torch.stack(list(self.tones))[:, :, None, None, None]
        shade = self.shades.unsqueeze(1).unsqueeze(1)

        kept = F.conv2d(self.gates[0](x), self.donor * (1 + tone[0]) * (1 + shade[0]), self.offset, padding=1)
        x = F.relu_(self.norms["borrowed"](kept)) + x
        x = F.relu_(self.norms["lent"](F.conv2d(x, self.donor, padding="same")))

        x = F.relu_(self.norms["thin"](F.conv2d(x, self.stencil * (1 + shade[1]), padding=1, groups=WIDTH)))
        x = F.relu_(self.norms["wide"](F.conv2d(x, self.stencil, padding=1, groups=WIDTH)))

        x = F.relu_(self.norms["drawn"](F.conv2d(self.gates[1](x), (1 + tone[2]) * self.bank[1])))
        x = F.relu_(self.norms["paid"](F.conv2d(x, self.bank[1])))

        x = F.relu_(self.norms["first_echo"](self.echo(x)))
        x = F.relu_(self.norms["second_echo"](self.echo(x)))
        return self.classes(x.mean((2, 3)))


def build() -> nn.Module:
    """The network, untrained."""
    return Borrower()
