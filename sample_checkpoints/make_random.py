"""Write a random checkpoint of any architecture: for speed and size measurements, which need no trained weights.

    convolution, linear  normal(0, √(2 / fan-in))      static attention      normal(0, 0.2)
    BatchNorm            γ uniform(0.5, 1.5)           any bias              normal(0, 0.1)
    BatchNorm statistics: the averages over forward passes of a few random batches, so activations stay in range

Equal options give equal values. The network knows nothing: its top-1 accuracy is recorded as 0.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
import torch.nn.functional as F
from container import Recipe, container, write
from torch import Tensor, nn

from kdna_deploy.errors import ArchitectureError, KdnaError, UsageError
from kdna_deploy.network.families import ARCHITECTURES, Architecture

BATCHES = 4
BATCH = 16
SIZE = 128


@torch.no_grad()
def fill(network: nn.Module) -> None:
    """Draw every parameter of `network` anew, from torch's default generator."""
    for name, value in network.named_parameters():
        if "static_" in name:
            value.normal_(0.0, 0.2)
        elif name.endswith("bias"):
            value.normal_(0.0, 0.1)
        elif value.dim() == 1:
            value.uniform_(0.5, 1.5)
        else:
            value.normal_(0.0, (2.0 / value[0].numel()) ** 0.5)


def random_images(channels: int) -> Tensor:
    """A batch of colour clouds with noise on top.

    Channel attention looks at an image's mean, which would be the same for every image of pure noise.
    """
    clouds = F.interpolate(torch.randn(BATCH, channels, 4, 4), size=(SIZE, SIZE), mode="bilinear")
    return torch.randn(BATCH, channels, 1, 1) + clouds + 0.5 * torch.randn(BATCH, channels, SIZE, SIZE)


@torch.no_grad()
def calibrate(network: nn.Module, channels: int) -> None:
    """Set the running statistics of every BatchNorm of `network` to the averages over random batches."""
    for module in network.modules():
        if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
            module.reset_running_stats()
            module.momentum = None  # a plain average over the batches, not an exponential one
    network.train()
    for _ in range(BATCHES):
        network(random_images(channels))
    network.eval()


def random_network(arch: Architecture, seed: int) -> nn.Module:
    """`arch` with random weights and fitting BatchNorm statistics."""
    torch.manual_seed(seed)
    network = arch.build()
    fill(network)
    calibrate(network, arch.backbone.in_channels)
    return network


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Write a random checkpoint in the published training container.")
    parser.add_argument("--arch", required=True, metavar="NAME", help=f"one of {', '.join(ARCHITECTURES)}")
    parser.add_argument("-o", "--out", type=Path, metavar="FILE", help="default: random_<arch>.pth.tar, in this folder")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="default: 0")
    parser.add_argument("--classes", type=int, default=1000, metavar="N", help="default: 1000")
    parser.add_argument("--plain", action="store_true", help="the plain backbone of NAME, without shared kernels")
    return parser.parse_args(arguments)


def chosen(options: argparse.Namespace) -> Architecture:
    """The architecture that `options` ask for.

    Raises:
        ArchitectureError: there is none of that name.
        UsageError: a number is out of range.
    """
    if options.arch not in ARCHITECTURES:
        raise ArchitectureError(f"There is no architecture '{options.arch}'; choose from {', '.join(ARCHITECTURES)}.")
    if options.classes < 1:
        raise UsageError(f"A network cannot have {options.classes} classes; give --classes a number of at least 1.")
    if not 0 <= options.seed < 2**63:
        raise UsageError(f"The seed {options.seed} is out of range; give --seed a number from 0 to 2^63 - 1.")
    named = ARCHITECTURES[options.arch]
    return replace(named.plain if options.plain else named, num_classes=options.classes)


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse(arguments)
    try:
        arch = chosen(options)
        path = options.out or Path(f"random_{arch.name}.pth.tar")
        write(container(random_network(arch, options.seed), arch.name, Recipe(epochs=0), acc1=0.0), path)
    except KdnaError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    print(f"{path}: {path.stat().st_size:,} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
