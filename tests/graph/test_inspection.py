"""What an inspection tells beside what `inspect` prints elsewhere in the tests."""

from __future__ import annotations

import pytest
from torch import Tensor, nn

from kdna_deploy.graph.inspection import inspect_network
from kdna_deploy.network.load import network_of
from kdna_deploy.reports.inspection import inspection_report
from kdna_deploy.reports.report import Facts


class _Mean(nn.Module):
    """One number for each image, [n], or [n, 4], or a map [n, 4, 6]."""

    def __init__(self, axes: tuple[int, ...]) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.axes = axes

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x).mean(self.axes)


@pytest.mark.parametrize(
    ("axes", "classes", "row"),
    [
        ((2, 3), 4, ("classes", "4")),
        ((1, 2, 3), None, ("returns", "[n], no logits")),
        ((3,), None, ("returns", "[n, 4, 6], no logits")),
    ],
)
def test_neither_the_batch_nor_a_width_is_a_number_of_classes(
    axes: tuple[int, ...], classes: int | None, row: tuple[str, str]
) -> None:
    found = inspect_network(network_of(_Mean(axes).eval()), (8, 8))
    assert found.num_classes == classes
    report = inspection_report(found)
    assert isinstance(report.parts[0], Facts) and row in report.parts[0].rows
    assert report.data["num_classes"] == classes
