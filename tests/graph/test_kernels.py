"""Which layers have a kernel in common is told by the numbers that they read."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from kdna_deploy.graph.kernels import kernels, shared_kernels, sites
from kdna_deploy.graph.ledger import sharing_ledger
from kdna_deploy.graph.passes.fold_static_attention import fold_static_attention
from tests.graph.passes.equivalence import Lambda, captured, run, trained
from tests.made_of import CHILDREN, MIXTURES, MadeOf, Weight, own

pytestmark = pytest.mark.slow

Layers = Callable[[Lambda, Tensor], Tensor]


@pytest.mark.parametrize("child", CHILDREN.values(), ids=CHILDREN)
def test_every_child_is_known_by_its_parent(child: Weight) -> None:
    graph, _ = run(MadeOf(own, child).eval(), fold_static_attention, image=(3, 5, 6))
    (parent,) = sharing_ledger(graph.module).parents
    assert (parent.name, parent.shape, parent.layer) == ("kernel", (16, 16, 3, 3), "norms.0")
    assert parent.children == ("norms.1",)


def test_mixtures_are_children_of_all_that_they_mix() -> None:
    graph, _ = run(MadeOf(*MIXTURES.values()).eval(), fold_static_attention, image=(3, 5, 6))
    (parent,) = sharing_ledger(graph.module).parents
    assert (parent.name, parent.consumers) == ("bank", len(MIXTURES))


def groups(function: Layers, **tables: Tensor) -> list[tuple[str, int]]:
    """Name of each kernel and how many layers use it."""
    graph = captured(trained(Lambda(function, **tables)))
    return [(kernel.name, len(kernel.uses)) for kernel in kernels(sites(graph.module))]


CASES: dict[str, tuple[Layers, list[tuple[str, int]]]] = {
    "a kernel and its first filters": (
        lambda m, x: F.conv2d(x, m.kernel)[:, :2] + F.conv2d(x, m.kernel[:2]),
        [("kernel", 2)],
    ),
    "halves of a kernel": (lambda m, x: F.conv2d(x, m.kernel[:3]) + F.conv2d(x, m.kernel[3:]), [("kernel", 1)] * 2),
    "halves and the whole": (
        lambda m, x: F.conv2d(x, m.kernel[:3]) + F.conv2d(x, m.kernel[3:]) + F.conv2d(x, m.kernel)[:, :3],
        [("kernel", 3)],
    ),
    "windows that mostly overlap": (
        lambda m, x: F.conv2d(x, m.kernel[:4]) + F.conv2d(x, m.kernel[1:5]) + F.conv2d(x, m.kernel[2:6]),
        [("kernel", 3)],
    ),
    "rows of a bank": (
        lambda m, x: F.conv2d(x, m.bank[0]) + F.conv2d(x, m.bank[2]) + F.conv2d(x, m.bank[0].flip(2)),
        [("bank_0", 2), ("bank_2", 1)],
    ),
    "a linear layer and a pointwise convolution": (
        lambda m, x: F.conv2d(x, m.rows[:, :, None, None]).mean((2, 3)) + F.linear(x.mean((2, 3)), m.rows),
        [("rows", 2)],
    ),
    "a linear layer and a product": (
        lambda m, x: F.linear(x.mean((2, 3)), m.rows) + x.mean((2, 3)) @ m.rows.t(),
        [("rows", 2)],
    ),
    "a convolution and a transposed one": (
        lambda m, x: F.conv_transpose2d(F.conv2d(x, m.kernel), m.kernel),
        [("kernel", 2)],
    ),
}


@pytest.mark.parametrize(("function", "expected"), CASES.values(), ids=CASES)
def test_layers_share_what_they_both_read(function: Layers, expected: list[tuple[str, int]]) -> None:
    tables = {"kernel": torch.empty(6, 4, 3, 2), "bank": torch.empty(3, 6, 4, 3, 2), "rows": torch.empty(5, 4)}
    assert groups(function, **tables) == expected


def test_the_checkpoint_holds_each_number_once() -> None:
    def layers(m: Lambda, x: Tensor) -> Tensor:
        low_rank = m.kernel + (m.down @ m.up).view(6, 4, 3, 2)
        return F.conv2d(x, low_rank) + F.conv2d(x, m.kernel[:3]).sum() + F.conv2d(x, m.bank[1] * m.filters)

    network = Lambda(
        layers,
        kernel=torch.empty(6, 4, 3, 2),
        bank=torch.empty(3, 6, 4, 3, 2),
        down=torch.empty(6, 1),
        up=torch.empty(1, 24),
        filters=torch.empty(6, 1, 1, 1),
    )
    graph, _ = run(trained(network), fold_static_attention)
    storage = sharing_ledger(graph.module).storage
    assert (storage.kernels, storage.convolutions) == (2, 3)
    assert storage.unique_bytes == 4 * (144 + 30 + 144), "kernel with its adapter, and one row of the bank"
    assert storage.materialised_bytes == 4 * (144 + 72 + 144)
    assert len(shared_kernels(sites(graph.module))) == 1
