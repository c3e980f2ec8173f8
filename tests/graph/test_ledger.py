"""The sharing ledger: parents, children and bytes, read off the captured graph."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdna_deploy.graph.capture import capture
from kdna_deploy.graph.ledger import KernelStorage, Ledger, Parent, sharing_ledger
from kdna_deploy.graph.passes.fold_static_attention import fold_static_attention
from kdna_deploy.network.load import load_network
from tests.graph.passes.equivalence import Lambda, trained

pytestmark = pytest.mark.slow

Published = Callable[[str], Path]


def ledger_of(module: nn.Module, image: tuple[int, int, int]) -> Ledger:
    graph = capture(module, image)
    fold_static_attention(graph.module)
    return sharing_ledger(graph.module)


def kernel_bytes(weights: dict[str, Tensor]) -> int:
    """Float32 bytes of all convolution kernels of a published state dict, told by their four axes alone."""
    return sum(4 * value.numel() for value in weights.values() if value.dim() == 4)


def test_resnet18_has_four_parents_and_six_children(published: Published) -> None:
    network = load_network(published("resnet18"))
    ledger = ledger_of(network.module, (3, 64, 64))
    assert ledger.parents == tuple(
        Parent(f"{stage}.conv{i}.weight", (width, width, 3, 3), f"{stage}.conv{i}", children)
        for stage, width in (("layer3", 256), ("layer4", 512))
        for i, children in ((2, (f"{stage}.bns.0", f"{stage}.bns.1")), (3, (f"{stage}.bns.2",)))
    )
    assert ledger.children == 6
    assert ledger.storage.unique_bytes == kernel_bytes(dict(network.checkpoint.state_dict))
    assert ledger.storage.materialised_bytes == ledger.storage.unique_bytes + 3 * 4 * 9 * (256**2 + 512**2)


def test_mobilenet_v2_shares_the_pointwise_kernels_of_four_blocks(published: Published) -> None:
    network = load_network(published("mobilenet_v2"))
    ledger = ledger_of(network.module, (3, 64, 64))
    widths = {6: 32, 10: 64, 13: 96, 16: 160}
    expected = []
    for index, width in widths.items():
        blocks = range(2 if index == 10 else 1)  # F-S-S-F there, F-S-F elsewhere
        for layer, norm, shape in (("pw1", "bn1", (6 * width, width)), ("pw2", "bn3", (width, 6 * width))):
            owner = f"features.{index}.last_block.layers.{layer}"
            children = tuple(f"features.{index}.blocks.{block}.{norm}" for block in blocks)
            expected.append(Parent(f"{owner}.weight", (*shape, 1, 1), owner, children))
    assert ledger.parents == tuple(expected)
    assert ledger.children == 10
    assert ledger.storage.unique_bytes == kernel_bytes(dict(network.checkpoint.state_dict))
    copies = sum(width**2 * (2 if index == 10 else 1) for index, width in widths.items())
    assert ledger.storage.materialised_bytes == ledger.storage.unique_bytes + 4 * 2 * 6 * copies


@pytest.mark.parametrize("arch", ["resnet18_plain", "mobilenet_v2_plain"])
def test_a_plain_backbone_shares_nothing(arch: str) -> None:
    from kdna_deploy.network.families import ARCHITECTURES

    ledger = ledger_of(ARCHITECTURES[arch].build().eval(), (3, 64, 64))
    assert ledger.parents == ()
    assert ledger.storage.unique_bytes == ledger.storage.materialised_bytes


def test_a_kernel_with_children_but_no_layer_of_its_own_is_a_parent() -> None:
    network = Lambda(
        lambda m, x: m.first(F.conv2d(x, m.kernel * m.filters[0])) + m.second(F.conv2d(x, m.kernel * m.filters[1])),
        kernel=torch.empty(6, 4, 3, 2),
        filters=torch.empty(2, 6, 1, 1, 1),
        first=nn.BatchNorm2d(6),
        second=nn.BatchNorm2d(6),
    )
    ledger = ledger_of(trained(network), (4, 7, 8))
    assert ledger.parents == (Parent("kernel", (6, 4, 3, 2), None, ("first", "second")),)
    assert ledger.parents[0].consumers == 2


def test_two_layers_tied_to_one_parameter_are_parent_and_child() -> None:
    network = nn.Sequential(nn.Conv2d(4, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3))
    network[2].weight = network[0].weight
    (parent,) = ledger_of(trained(network), (4, 7, 8)).parents
    assert (parent.layer, parent.children) == ("0", ("2",))


def test_a_child_that_nobody_shares_with_is_no_child() -> None:
    network = Lambda(
        lambda m, x: F.conv2d(x, m.kernel * m.filters),
        kernel=torch.empty(6, 4, 3, 2),
        filters=torch.empty(6, 1, 1, 1),
    )
    ledger = ledger_of(trained(network), (4, 7, 8))
    assert ledger.parents == ()
    assert ledger.storage.unique_bytes == ledger.storage.materialised_bytes == 4 * 6 * 4 * 3 * 2


def test_a_kernel_that_depends_on_the_input_is_in_no_account() -> None:
    network = Lambda(lambda m, x: F.conv2d(x, m.kernel * x.mean()), kernel=torch.empty(6, 4, 3, 2))
    assert ledger_of(trained(network), (4, 7, 8)) == Ledger((), KernelStorage("checkpoint", 0, 0, 0, 0))
