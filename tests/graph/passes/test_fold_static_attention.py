"""Every spelling of a child's kernel becomes W * M, or a smaller expression times M; dynamic kernels are refused."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdna_deploy.graph.graph import CONVOLUTIONS, calls, constant
from kdna_deploy.graph.kernels import kernels, sites, unmodulated
from kdna_deploy.graph.ledger import sharing_ledger
from kdna_deploy.graph.passes.canonicalise import canonicalise
from kdna_deploy.graph.passes.fold_static_attention import fold_static_attention
from kdna_deploy.graph.passes.materialise import materialise
from kdna_deploy.graph.weight_expression import modulated_parts
from tests.graph.passes.equivalence import Lambda, operators, run, trained

Kernel = Callable[[Lambda], Tensor]


def tables() -> dict[str, Tensor]:
    """Kernels [6, 4, 3, 2] and attention tables, stacked and single, for a child and its parent."""
    return {
        "kernel": torch.empty(6, 4, 3, 2),
        "bank": torch.empty(3, 6, 4, 3, 2),
        "last_axes_first": torch.empty(3, 2, 4, 6),
        "filters": torch.empty(6, 1, 1, 1),
        "flat_filters": torch.empty(6),
        "spatial": torch.empty(1, 1, 3, 2),
        "flat_spatial": torch.empty(3, 2),
        "joint": torch.empty(6, 1, 3, 2),
        "stacked_filters": torch.empty(2, 6, 1, 1, 1),
        "stacked_spatial": torch.empty(2, 1, 1, 3, 2),
        "many_joint": torch.empty(9, 6, 1, 3, 2),
        "channels": torch.empty(1, 4, 1, 1),
        "full": torch.empty(6, 4, 3, 2),
        "pairs": torch.empty(6, 4, 1, 1),
        "down": torch.empty(6, 2),
        "up": torch.empty(2, 24),
    }


def two_consumers(child: Kernel, parent: Kernel, **options: int) -> Lambda:
    """A convolution with the child's kernel beside one with the parent's."""
    network = Lambda(
        lambda m, x: F.conv2d(x, child(m), **options) + F.conv2d(x, parent(m), **options).relu(), **tables()
    )
    return trained(network)


OWN: Kernel = lambda m: m.kernel  # noqa: E731 - a table of one-line kernels reads best as one
MODULATIONS: dict[str, tuple[Kernel, Kernel]] = {
    "filter": (lambda m: m.kernel * (1 + m.filters), OWN),
    "spatial": (lambda m: m.kernel * (1 + m.spatial), OWN),
    "filter and spatial": (lambda m: m.kernel * (1 + m.filters) * (1 + m.spatial), OWN),
    "their product first": (lambda m: m.kernel * ((1 + m.filters) * (1 + m.spatial)), OWN),
    "attention in front": (lambda m: (m.filters + 1) * m.kernel, OWN),
    "joint": (lambda m: m.kernel * m.joint, OWN),
    "a sum": (lambda m: m.kernel + m.kernel * m.filters, OWN),
    "a quotient": (lambda m: m.kernel / (1 + m.filters.square()), OWN),
    "sigmoid": (lambda m: m.kernel * (2 * torch.sigmoid(m.filters)), OWN),
    "exponential": (lambda m: m.kernel * torch.exp(m.spatial), OWN),
    "view": (lambda m: m.kernel * (1 + m.flat_filters.view(-1, 1, 1, 1)), OWN),
    "None indices": (lambda m: m.kernel * (1 + m.flat_filters[:, None, None, None]), OWN),
    "unsqueeze": (lambda m: m.kernel * (1 + m.flat_filters.unsqueeze(1).unsqueeze(2).unsqueeze(3)), OWN),
    "broadcast from the right": (lambda m: m.kernel * (1 + m.flat_spatial), OWN),
    "einsum": (lambda m: torch.einsum("oihw,o->oihw", m.kernel, 1 + m.flat_filters), OWN),
    "stacked attentions": (lambda m: m.kernel * (1 + m.stacked_filters[1]) * (1 + m.stacked_spatial[0]), OWN),
    "stacked parts": (lambda m: m.kernel * torch.stack([1 + m.filters, m.filters])[0], OWN),
    "attentions that outgrow the kernel": (lambda m: m.kernel * (1 + m.many_joint[7]), OWN),
    "a row of a bank": (lambda m: m.bank[2] * (1 + m.filters), lambda m: m.bank[2]),
    "a bank unbound": (lambda m: m.bank.unbind()[2] * (1 + m.filters), lambda m: m.bank[2]),
    "a slice of a bank": (lambda m: m.bank[1:2].squeeze(0) * (1 + m.filters), lambda m: m.bank[1:2].squeeze(0)),
    "inside unsqueeze and squeeze": (
        lambda m: (m.kernel.unsqueeze(0) * (1 + m.stacked_filters[1:])).squeeze(0),
        OWN,
    ),
    "a kernel with its axes permuted": (
        lambda m: m.last_axes_first.permute(3, 2, 0, 1) * (1 + m.filters),
        lambda m: m.last_axes_first.permute(3, 2, 0, 1),
    ),
    "a copy": (lambda m: m.kernel.contiguous().clone() * (1 + m.filters), OWN),
    "zero attention": (lambda m: m.kernel * (1 + 0 * m.filters), OWN),
}


@pytest.mark.parametrize(("child", "parent"), MODULATIONS.values(), ids=MODULATIONS)
def test_every_spelling_of_a_modulation_shares_its_parent(child: Kernel, parent: Kernel) -> None:
    graph, (_, result) = run(two_consumers(child, parent), canonicalise, fold_static_attention)
    assert result.refused == ()
    (found,) = sharing_ledger(graph.module).parents
    assert found.layer is not None, "the layer that uses the kernel as it stands is the parent's own"
    assert len(found.children) == 1
    first, second = (unmodulated(conv.args[1]) for conv in calls(graph.module, CONVOLUTIONS))
    assert first is second, "one kernel, two consumers"


@pytest.mark.parametrize(
    "name", ["filter", "spatial", "filter and spatial", "joint", "stacked attentions", "a row of a bank"]
)
def test_a_modulation_is_constant_along_the_input_channels(name: str) -> None:
    graph, _ = run(two_consumers(*MODULATIONS[name]), fold_static_attention)
    child, _ = calls(graph.module, CONVOLUTIONS)
    parts = modulated_parts(child.args[1])
    assert parts is not None
    assert constant(parts[1]).shape == (6, 1, 3, 2)


# What is no modulation of a leaf, and the kernels that it is made of.
OTHERS: dict[str, tuple[Kernel, tuple[str, ...]]] = {
    "attention along the input channels": (lambda m: m.kernel * (1 + m.channels), ("kernel",)),
    "filter attention and one along the input channels": (
        lambda m: m.kernel * (1 + m.filters) * (1 + m.channels),
        ("kernel",),
    ),
    "attention of the kernel's own size": (lambda m: m.kernel * (1 + m.full), ("kernel", "full")),
    "a product of two kernels": (lambda m: m.kernel * m.full, ("kernel", "full")),
    "a product with an attention over both channels": (lambda m: m.kernel * m.pairs, ("kernel",)),
    "a low-rank adapter": (lambda m: m.kernel + (m.down @ m.up).view(6, 4, 3, 2), ("kernel",)),
    "a mixture of kernels": (
        lambda m: (m.bank * torch.softmax(m.bank.mean((1, 2, 3, 4)), 0).view(3, 1, 1, 1, 1)).sum(0),
        ("bank",),
    ),
    "weight standardisation": (
        lambda m: (m.kernel - m.kernel.mean((1, 2, 3), keepdim=True)) / (m.kernel.std((1, 2, 3), keepdim=True) + 1e-5),
        ("kernel",),
    ),
    "weight normalisation": (lambda m: m.kernel / m.kernel.flatten(1).norm(dim=1).view(-1, 1, 1, 1), ("kernel",)),
    "a mirrored kernel": (lambda m: m.kernel.flip(3), ("kernel",)),
    "a permuted kernel": (lambda m: m.kernel[:, [3, 1, 0, 2]] * (1 + m.filters), ("kernel",)),
    "a square": (lambda m: m.kernel * m.kernel, ("kernel",)),
    "a softened kernel": (lambda m: torch.tanh(m.kernel) * (1 + m.filters), ("kernel",)),
}


@pytest.mark.parametrize(("kernel", "made_of"), OTHERS.values(), ids=OTHERS)
def test_what_is_no_modulation_stays_an_expression_until_it_is_materialised(
    kernel: Kernel, made_of: tuple[str, ...]
) -> None:
    graph, (_, result) = run(two_consumers(kernel, OWN), canonicalise, fold_static_attention)
    assert result.refused == ()
    assert [k.name for k in kernels(sites(graph.module)[:1])] == list(made_of)
    materialise(graph.module)
    assert operators(graph.module) == ["conv2d", "conv2d", "relu", "add"]
    assert sharing_ledger(graph.module).parents == ()


DEPTHWISE: dict[str, Kernel] = {
    "filter": lambda m: m.depthwise * (1 + m.filters),
    "filter in front": lambda m: m.filters * m.depthwise,
    "spatial": lambda m: m.depthwise * m.spatial,
    "joint": lambda m: m.depthwise * m.joint[2],
    "joint, around one": lambda m: m.depthwise * (1 + m.joint[2]),
    "joint, around one, in front": lambda m: (1 + m.joint[2]) * m.depthwise,
    "attentions that outgrow the kernel": lambda m: m.depthwise * (1 + m.many[11]),
}


@pytest.mark.parametrize("child", DEPTHWISE.values(), ids=DEPTHWISE)
def test_a_depthwise_kernel_has_children_too(child: Kernel) -> None:
    """Its attention may be as large as itself, and the table of attentions larger."""
    network = Lambda(
        lambda m, x: F.conv2d(x, child(m), groups=4) + F.conv2d(x, m.depthwise, groups=4),
        depthwise=torch.empty(4, 1, 3, 2),
        filters=torch.empty(4, 1, 1, 1),
        spatial=torch.empty(1, 1, 3, 2),
        joint=torch.empty(3, 4, 1, 3, 2),
        many=torch.empty(12, 4, 1, 1, 1),
    )
    graph, (result,) = run(trained(network), fold_static_attention)
    (parent,) = sharing_ledger(graph.module).parents
    assert (parent.name, parent.shape) == ("depthwise", (4, 1, 3, 2))
    assert len(parent.children) == 1
    assert result.changed == 1


@pytest.mark.parametrize(
    "options",
    [{"stride": 2}, {"dilation": 2}, {"padding": 2}, {"padding": "same"}],
    ids=["stride", "dilation", "padding", "same padding"],
)
def test_children_may_convolve_in_any_way(options: dict[str, int]) -> None:
    graph, (result,) = run(two_consumers(*MODULATIONS["filter and spatial"], **options), fold_static_attention)
    assert result.changed == 1
    assert len(sharing_ledger(graph.module).parents) == 1


def test_each_child_keeps_to_its_own_parent_and_its_own_attention() -> None:
    network = Lambda(
        lambda m, x: sum((i + 1) * F.conv2d(x, m.bank[row] * (1 + m.filters[i])) for i, row in enumerate((0, 1, 1, 0))),
        bank=torch.empty(2, 6, 4, 3, 2),
        filters=torch.empty(4, 6, 1, 1, 1),
    )
    graph, (result,) = run(trained(network), fold_static_attention)
    assert result.changed == 4
    parents = sharing_ledger(graph.module).parents
    assert sorted((parent.name, parent.consumers) for parent in parents) == [("bank_0", 2), ("bank_1", 2)]


def test_kernels_along_different_axes_of_one_bank_are_different_parents() -> None:
    network = Lambda(
        lambda m, x: (
            F.conv2d(x, m.bank[1] * (1 + m.filters))
            + 2 * F.conv2d(x, m.bank[:, 1] * (1 + m.filters))
            + 3 * F.conv2d(x, m.bank[1])
        ),
        bank=torch.empty(6, 6, 4, 3, 2),
        filters=torch.empty(6, 1, 1, 1),
    )
    graph, _ = run(trained(network), fold_static_attention)
    (parent,) = sharing_ledger(graph.module).parents
    assert parent.consumers == 2


def test_a_weight_that_is_a_parameter_already_is_left_alone() -> None:
    _, (result,) = run(trained(nn.Sequential(nn.Conv2d(4, 6, 3), nn.Conv2d(6, 6, 3))), fold_static_attention)
    assert result.changed == 0


def test_a_kernel_that_depends_on_the_input_is_refused_with_the_reason_and_left_alone() -> None:
    network = Lambda(
        lambda m, x: (
            F.conv2d(x, m.kernel * (1 + x.mean((0, 2, 3)).view(1, 4, 1, 1))) + F.conv2d(x, m.kernel * (1 + m.filters))
        ),
        kernel=torch.empty(6, 4, 3, 2),
        filters=torch.empty(6, 1, 1, 1),
    )
    graph, (result,) = run(trained(network), fold_static_attention)
    assert result.changed == 1, "the static one beside it is still folded"
    assert [refusal.reason for refusal in result.refused] == ["its kernel depends on the network's input"]
    assert operators(graph.module)[:5] == ["mean", "view", "add", "mul", "conv2d"]


def test_a_transposed_convolution_keeps_its_expression_and_its_parent() -> None:
    network = Lambda(
        lambda m, x: F.conv_transpose2d(x, m.kernel * (1 + m.filters)) + F.conv_transpose2d(x, m.kernel),
        kernel=torch.empty(4, 6, 3, 2),
        filters=torch.empty(1, 6, 1, 1),
    )
    graph, (result,) = run(trained(network), fold_static_attention)
    assert (result.changed, result.refused) == (0, ())
    (parent,) = sharing_ledger(graph.module).parents
    assert (parent.name, parent.consumers) == ("kernel", 2)
