"""Blocks as their authors wrote them, frozen: nothing that depends on the image is left, and each mean is in its place.

The mean is taken by hooks on the modules whose outputs are the gates, and put in their place there; the graph knows
nothing of either.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdna_deploy.graph.freezing import AttentionOptions
from kdna_deploy.graph.gates import dynamic_values
from kdna_deploy.targets.fuse import Fused, FuseOptions, fuse
from tests.dynamic import LAYERS, Behind, Mixture
from tests.graph.passes.equivalence import operators, trained

C, SHAPE = 8, (3, 10, 12)
# Single precision in ten layers, of the largest output.
ROUNDING = 2e-5


class SqueezeExcitation(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Sequential(
            nn.Linear(C, 4, bias=False), nn.ReLU(inplace=True), nn.Linear(4, C, bias=False), nn.Sigmoid()
        )

    def forward(self, x: Tensor) -> Tensor:
        b, c, _, _ = x.size()
        return x * self.fc(self.pool(x).view(b, c)).view(b, c, 1, 1).expand_as(x)


class EfficientChannelAttention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.pool, self.conv, self.gate = (
            nn.AdaptiveAvgPool2d(1),
            nn.Conv1d(1, 1, 3, padding=1, bias=False),
            nn.Sigmoid(),
        )

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(self.pool(x).squeeze(-1).transpose(-1, -2)).transpose(-1, -2).unsqueeze(-1)
        return x * self.gate(y).expand_as(x)


class Cbam(nn.Module):
    """Channel attention of average and maximum, then spatial attention of both over channels."""

    def __init__(self) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.Flatten(), nn.Linear(C, 4), nn.ReLU(), nn.Linear(4, C))
        self.conv, self.norm = nn.Conv2d(2, 1, 7, padding=3, bias=False), nn.BatchNorm2d(1)
        self.channel, self.spatial = nn.Sigmoid(), nn.Sigmoid()

    def forward(self, x: Tensor) -> Tensor:
        size = x.size()[2:]
        pooled = self.mlp(F.avg_pool2d(x, size, stride=size)) + self.mlp(F.max_pool2d(x, size, stride=size))
        x = x * self.channel(pooled).unsqueeze(2).unsqueeze(3).expand_as(x)
        return x * self.spatial(self.norm(self.conv(torch.cat((x.max(1)[0].unsqueeze(1), x.mean(1).unsqueeze(1)), 1))))


class Block(nn.Module):
    """Stem, a residual block with attention behind its last BatchNorm, classifier."""

    def __init__(self, attention: nn.Module) -> None:
        super().__init__()
        self.stem, self.conv = nn.Conv2d(3, C, 3, padding=1), nn.Conv2d(C, C, 3, padding=1, bias=False)
        self.norm, self.attention, self.fc = nn.BatchNorm2d(C), attention, nn.Linear(C, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.stem(x))
        return self.fc(F.relu(self.attention(self.norm(self.conv(x))) + x).mean((2, 3)))


def images(shape: tuple[int, ...] = SHAPE, count: int = 12) -> Tensor:
    """Of different brightness and contrast, so that gates move."""
    generator = torch.Generator().manual_seed(0)
    contrast, brightness = torch.rand(2, count, 1, 1, 1, generator=generator)
    return torch.randn(count, *shape, generator=generator) * (0.5 + contrast) + 2 * brightness


def frozen(network: nn.Module, pictures: Tensor, below: float | None = None) -> Fused:
    attention = AttentionOptions("freeze", lambda: [pictures[:5].numpy(), pictures[5:].numpy()], below)
    return fuse(network, tuple(pictures.shape[1:]), FuseOptions(attention=attention))  # type: ignore[arg-type]


def with_means(network: nn.Module, gates: list[nn.Module], pictures: Tensor) -> Tensor:
    """What `network` answers with the output of each of `gates` replaced by its mean over `pictures`, in float64."""
    network, pictures = network.double(), pictures.double()
    seen: dict[nn.Module, Tensor] = {}
    with torch.no_grad():
        watching = [gate.register_forward_hook(lambda gate, _, out: seen.update({gate: out.mean(0)})) for gate in gates]
        network(pictures)
        for hook in watching:
            hook.remove()
        put = [gate.register_forward_hook(lambda gate, _, out: seen[gate].expand_as(out)) for gate in gates]
        expected = network(pictures)
        for hook in put:
            hook.remove()
    network.float()
    return expected


def departure(fused: Fused, expected: Tensor, pictures: Tensor) -> float:
    return float((fused.graph(pictures) - expected).abs().max() / expected.abs().max())


BLOCKS: dict[str, tuple[Callable[[], nn.Module], Callable[[nn.Module], list[nn.Module]], int]] = {
    "squeeze and excitation": (SqueezeExcitation, lambda m: [m.fc], 0),
    "efficient channel attention": (EfficientChannelAttention, lambda m: [m.gate], 0),
    "CBAM": (Cbam, lambda m: [m.channel, m.spatial], 1),
}


@pytest.mark.slow
@pytest.mark.parametrize(("make", "gates", "products"), BLOCKS.values(), ids=BLOCKS)
def test_a_block_behind_batchnorm_is_frozen_to_the_means_of_its_gates(
    make: Callable[[], nn.Module], gates: Callable[[nn.Module], list[nn.Module]], products: int
) -> None:
    attention = make()
    network = trained(Block(attention))
    fused = frozen(network, images())
    assert fused.freezing.refused == () and fused.change is not None
    assert dynamic_values(fused.graph.module) == []
    made = operators(fused.graph.module)
    assert (made.count("conv2d"), made.count("mul"), made.count("sigmoid")) == (2, products, 0)
    assert [left.reason for left in fused.freezing.unfolded] == [
        "it varies over positions, which a kernel does not"
    ] * products
    assert departure(fused, with_means(network, gates(attention), images()), images()) <= ROUNDING


@pytest.mark.slow
@pytest.mark.parametrize("bias", [False, True])
def test_a_mixture_becomes_the_kernel_of_its_mean_weights(bias: bool) -> None:
    """The kernel is linear in them, so that the mean of the kernels is the kernel of the mean."""
    pictures, seen = images((4, 7, 8)), []
    layer = Mixture(padding=1, bias=bias)
    network = nn.Sequential(trained(Behind(layer)), nn.Flatten())
    fused = frozen(network, pictures)
    assert operators(fused.graph.module) == ["conv2d", "relu", "reshape"], "BatchNorm is folded"
    layer.make = lambda z: seen.append(z.softmax(1)) or seen[0]
    network.double()(pictures.double())
    layer.make = lambda z: seen[0].mean(0).expand_as(z)
    with torch.no_grad():
        assert departure(fused, network(pictures.double()), pictures) <= ROUNDING


def test_only_kernels_that_hardly_move_are_frozen_where_a_bound_is_given() -> None:
    fused = frozen(
        nn.Sequential(LAYERS["mixture with biases and a temperature"](), nn.Flatten()), images((4, 7, 8)), below=1e-12
    )
    assert fused.freezing.done == "keep"
    (kernel, bias) = fused.freezing.statistics
    assert kernel.variance > 1e-12 and bias.site == f"{kernel.site}, bias"


def test_kernels_cannot_be_dropped() -> None:
    options = FuseOptions(attention=AttentionOptions("drop"))
    fused = fuse(nn.Sequential(LAYERS["mixture"](), nn.Flatten()), (4, 7, 8), options)
    assert fused.freezing.done == "keep"
    assert ["there is nothing to drop it to" in left.reason for left in fused.freezing.refused] == [True]
