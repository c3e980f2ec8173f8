"""Convolutions with a kernel for each image, spelled as published code and users spell them."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdna_deploy.graph.graph import Graph
from tests.graph.passes.equivalence import captured, trained

CHANNELS = 4


class Mixture(nn.Module):
    """W(x) = Σ π_i(x) K_i, as in DY-Conv; `make` may make the weights π [n, K] of something else than a softmax."""

    def __init__(
        self,
        c_in: int = CHANNELS,
        c_out: int = 6,
        kernel: int = 3,
        bias: bool = False,
        temperature: float = 1.0,
        make: Callable[[Tensor], Tensor] = lambda z: z.softmax(1),
        groups: int = 1,
        **settings: int,
    ) -> None:
        super().__init__()
        self.bank = nn.Parameter(torch.empty(3, c_out, c_in // groups, kernel, kernel))
        self.biases = nn.Parameter(torch.empty(3, c_out)) if bias else None
        self.fc1, self.norm, self.fc2 = nn.Linear(c_in, 5, bias=False), nn.BatchNorm1d(5), nn.Linear(5, 3)
        self.temperature, self.make, self.groups, self.settings = temperature, make, groups, settings

    def forward(self, x: Tensor) -> Tensor:
        n = x.shape[0]
        mixture = self.make(self.fc2(F.relu(self.norm(self.fc1(x.mean((2, 3)))))) / self.temperature)
        kernels = (mixture @ self.bank.flatten(1)).view(-1, *self.bank.shape[2:])
        bias = None if self.biases is None else (mixture @ self.biases).view(-1)
        y = F.conv2d(x.reshape(1, -1, *x.shape[2:]), kernels, bias, groups=n * self.groups, **self.settings)
        return y.view(n, -1, *y.shape[2:])


class Shifted(Mixture):
    """A constant is added to each channel."""

    def __init__(self) -> None:
        super().__init__(padding=1)
        self.shift = nn.Parameter(torch.empty(6))

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + self.shift[:, None, None]


class Einsum(nn.Module):
    """The same mixture by `einsum`, its bank ordered otherwise."""

    def __init__(self) -> None:
        super().__init__()
        self.bank = nn.Parameter(torch.empty(6, 3, CHANNELS, 3, 3))
        self.route = nn.Linear(CHANNELS, 3)

    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        mixture = self.route(x.mean((2, 3))).softmax(1)
        kernels = torch.einsum("nk, okcij -> nocij", mixture, self.bank).reshape(n * 6, c, 3, 3)
        return F.conv2d(x.reshape(1, n * c, h, w), kernels, padding=1, groups=n).reshape(n, 6, h, w)


class Squares(Mixture):
    """A bank whose numbers are squared."""

    def forward(self, x: Tensor) -> Tensor:
        n = x.shape[0]
        mixture = self.fc2(F.relu(self.norm(self.fc1(x.mean((2, 3)))))).softmax(1)
        kernels = (mixture @ (self.bank * self.bank).flatten(1)).view(-1, *self.bank.shape[2:])
        return F.conv2d(x.reshape(1, -1, *x.shape[2:]), kernels, groups=n).view(n, 6, x.shape[2] - 2, x.shape[3] - 2)


class Columns(nn.Module):
    """Kernels for each image, multiplied by the columns of its windows."""

    def __init__(self) -> None:
        super().__init__()
        self.bank, self.route = nn.Parameter(torch.empty(3, 6, CHANNELS * 9)), nn.Linear(CHANNELS, 3)

    def forward(self, x: Tensor) -> Tensor:
        n, _, h, w = x.shape
        kernels = (self.route(x.mean((2, 3))).softmax(1) @ self.bank.flatten(1)).view(n, 6, -1)
        return (kernels @ F.unfold(x, 3, padding=2, stride=2)).view(n, 6, (h + 3) // 2, (w + 3) // 2)


class Hypernetwork(nn.Module):
    """W(x) is what a layer makes of the image: a kernel of one convolution, nothing that could be mixed before."""

    def __init__(self) -> None:
        super().__init__()
        self.make = nn.Linear(CHANNELS, 6 * CHANNELS * 9)

    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        kernels = torch.tanh(self.make(x.amax((2, 3)))).view(n * 6, c, 3, 3)
        return F.conv2d(x.view(1, n * c, h, w), kernels, padding=1, groups=n).view(n, 6, h, w)


class Warehouse(nn.Module):
    """Two layers that take their kernels' cells from one bank, as in KernelWarehouse."""

    def __init__(self, cells: int = 7) -> None:
        super().__init__()
        self.cells = nn.Parameter(torch.empty(cells, CHANNELS, CHANNELS, 1, 1))
        self.route = nn.ModuleList(nn.Linear(CHANNELS, 9 * (cells + 1)) for _ in range(2))
        self.norms = nn.ModuleList(nn.BatchNorm2d(CHANNELS) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        for route, norm in zip(self.route, self.norms, strict=True):
            x = F.relu(norm(self.convolve(x, route)))
        return x

    def convolve(self, x: Tensor, route: nn.Module) -> Tensor:
        n, c, h, w = x.shape
        z = route(x.mean((2, 3))).view(n * 9, -1)
        mixture = (z / (z.abs().sum(1, keepdim=True) + 1e-3))[:, :-1]
        kernels = (mixture @ self.cells.flatten(1)).view(n, 9, c, c).permute(0, 2, 3, 1).reshape(n * c, c, 3, 3)
        return F.conv2d(x.reshape(1, n * c, h, w), kernels, padding=1, groups=n).view(n, c, h, w)


class ArrangedWarehouse(Warehouse):
    """The same, its cells arranged with an axis for everything, as in the published code."""

    def convolve(self, x: Tensor, route: nn.Module) -> Tensor:
        n, c, h, w = x.shape
        z = route(x.mean((2, 3))).view(n * 9, -1)
        mixture = (z / (z.abs().sum(1, keepdim=True) + 1e-3))[:, :-1]
        cells = (mixture @ self.cells.flatten(1)).view(n, 9, 1, 1, c, c, 1, 1)
        kernels = cells.permute(0, 2, 4, 3, 5, 1, 6, 7).reshape(n * c, c, 3, 3)
        return F.conv2d(x.reshape(1, n * c, h, w), kernels, padding=1, groups=n).view(n, c, h, w)


class FourAttentions(nn.Module):
    """y = f(x) ⊙ conv(g(x) ⊙ x, Σ π_i(x) s(x) K_i), as in ODConv."""

    def __init__(self) -> None:
        super().__init__()
        self.bank = nn.Parameter(torch.empty(4, 6, CHANNELS, 3, 3))
        self.pool, self.fc = nn.AdaptiveAvgPool2d(1), nn.Conv2d(CHANNELS, 5, 1)
        self.heads = nn.ModuleList(nn.Conv2d(5, size, 1) for size in (CHANNELS, 6, 9, 4))

    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        hidden = F.relu(self.fc(self.pool(x)))
        channel, out, spatial, kernel = (head(hidden) for head in self.heads)
        mixed = spatial.view(n, 1, 1, 1, 3, 3).sigmoid() * F.softmax(kernel.view(n, 4, 1, 1, 1, 1), 1)
        kernels = (mixed * self.bank.unsqueeze(0)).sum(1).view(-1, c, 3, 3)
        x = (x * channel.sigmoid()).reshape(1, n * c, h, w)
        y = F.conv2d(x, kernels, padding=1, groups=n).view(n, 6, h, w)
        return y * out.sigmoid()


class Behind(nn.Module):
    """What `layer` makes, through a BatchNorm and an activation."""

    def __init__(self, layer: nn.Module, channels: int = 6) -> None:
        super().__init__()
        self.layer, self.norm = layer, nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.norm(self.layer(x)))


def network(layer: nn.Module, channels: int = 6) -> nn.Module:
    return trained(Behind(layer, channels))


LAYERS: Mapping[str, Callable[[], nn.Module]] = {
    "mixture": lambda: network(Mixture(padding=1)),
    "mixture with biases and a temperature": lambda: network(Mixture(bias=True, temperature=30.0)),
    "weights that do not sum up to one": lambda: network(Mixture(make=torch.sigmoid)),
    "weights by a formula": lambda: network(Mixture(make=lambda z: z.exp() / (1 + z.square()))),
    "a constant bias": lambda: network(Shifted()),
    "pointwise": lambda: network(Mixture(kernel=1)),
    "pointwise with biases": lambda: network(Mixture(kernel=1, bias=True)),
    "stride": lambda: network(Mixture(stride=2, padding=1)),
    "pointwise with stride": lambda: network(Mixture(kernel=1, stride=2)),
    "dilation": lambda: network(Mixture(dilation=2, padding=2)),
    "groups": lambda: network(Mixture(groups=2, padding=1)),
    "depthwise": lambda: network(Mixture(c_out=CHANNELS, groups=CHANNELS, padding=1), CHANNELS),
    "depthwise with multiplier and biases": lambda: network(Mixture(c_out=8, groups=4, bias=True), 8),
    "bank of squares": lambda: network(Squares()),
    "columns of windows": lambda: network(Columns()),
    "einsum": lambda: network(Einsum()),
    "hypernetwork": lambda: network(Hypernetwork()),
    "four attentions": lambda: network(FourAttentions()),
    "warehouse": lambda: trained(Warehouse()),
    "warehouse, arranged by eight axes": lambda: trained(ArrangedWarehouse()),
}


def captured_layer(name: str) -> Graph:
    """The graph of one of `LAYERS` in float64, traced once a process."""
    return _captured(name).clone()


@functools.cache
def _captured(name: str) -> Graph:
    return captured(LAYERS[name]())
