"""What a ledger and provenance say of kernels: who shares them, and what they take. Plain data, without PyTorch."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Parent:
    """A kernel with several consumers.

    Attributes:
        name: of the constant, as in the state dict.
        shape: [c', c/g, k, k].
        layer: the layer that uses the kernel as it stands, if any.
        children: the layers whose weights are made of it.
    """

    name: str
    shape: tuple[int, ...]
    layer: str | None
    children: tuple[str, ...]

    @property
    def consumers(self) -> int:
        return len(self.children) + (self.layer is not None)


@dataclass(frozen=True)
class Bank:
    """A constant that layers put their kernels together from, for each image: a warehouse's cells, a bank of kernels.

    Attributes:
        name: of the constant, as in the state dict.
        shape: of the constant.
        layers: whose kernels are linear in it.
        stored_bytes: what it takes, once.
        assembled_bytes: what the kernels of one image take, of all layers.
    """

    name: str
    shape: tuple[int, ...]
    layers: tuple[str, ...]
    stored_bytes: int
    assembled_bytes: int


@dataclass(frozen=True)
class KernelStorage:
    """The convolution kernels at one stage on the way from checkpoint to runtime.

    Attributes:
        stage: where they were counted.
        kernels: distinct kernels stored, and banks of which kernels are put together for each image.
        convolutions: that use them.
        unique_bytes: stored, modulations included.
        materialised_bytes: if every convolution had a kernel of its own.
    """

    stage: str
    kernels: int
    convolutions: int
    unique_bytes: int
    materialised_bytes: int
