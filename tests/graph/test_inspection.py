"""What an inspection tells beside what `inspect` prints elsewhere in the tests."""

from __future__ import annotations

import pytest
from torch import Tensor, nn

from kdna_deploy.graph.inspection import inspect_network
from kdna_deploy.network.load import network_of


class _Mean(nn.Module):
    """One number for each image, [n], or [n, 4]."""

    def __init__(self, axes: tuple[int, ...]) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.axes = axes

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x).mean(self.axes)


@pytest.mark.parametrize(("axes", "classes"), [((2, 3), 4), ((1, 2, 3), 1)])
def test_the_batch_is_no_number_of_classes(axes: tuple[int, ...], classes: int) -> None:
    assert inspect_network(network_of(_Mean(axes).eval()), (8, 8)).num_classes == classes
