"""What `analyse` finds in captured weights: parent, kernel and modulation, in float64."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, fx

from kdna_deploy.graph.capture import capture
from kdna_deploy.graph.graph import CONVOLUTIONS, calls, cast_floats
from kdna_deploy.graph.weight_expression import analyse, evaluate, leaves
from tests.graph.passes.equivalence import Lambda, trained

# One rounding of float64 for each of a handful of operations on either side.
EXACT = {"rtol": 1e-15, "atol": 0.0}


def network(kernel: Callable[[Lambda], Tensor]) -> Lambda:
    return trained(
        Lambda(
            lambda m, x: F.conv2d(x, kernel(m)),
            kernel=torch.empty(6, 4, 3, 2),
            bank=torch.empty(3, 6, 4, 3, 2),
            filters=torch.empty(5, 6, 1, 1, 1),
            spatial=torch.empty(5, 1, 1, 3, 2),
            channels=torch.empty(1, 4, 1, 1),
        )
    )


def weight_node(module: Lambda) -> fx.Node:
    """The node that computes the convolution's weight, in a float32 graph as captured."""
    graph = capture(module, (4, 7, 8))
    (conv,) = calls(graph.module, CONVOLUTIONS)
    node = conv.args[1]
    assert isinstance(node, fx.Node)
    return node


def test_a_modulation_has_its_parent_its_kernel_and_one_column_per_filter() -> None:
    module = network(lambda m: m.kernel * (1 + m.filters[3]) * (1 + m.spatial[1]))
    found = analyse(weight_node(module))
    filters, spatial = module.filters[3].double(), module.spatial[1].double()
    assert found.parent == "kernel"
    assert found.base.equal(module.kernel.double())
    assert found.modulation is not None
    assert found.modulation.dtype == torch.float64, "float32 weights are analysed in float64"
    assert found.modulation.shape == (6, 1, 3, 2)
    torch.testing.assert_close(found.modulation, (1 + filters) * (1 + spatial), **EXACT)


def test_a_row_of_a_bank_is_a_parent_named_after_its_index() -> None:
    module = network(lambda m: m.bank[2] * (1 + m.filters[0]))
    found = analyse(weight_node(module))
    assert found.parent == "bank_2"
    assert found.base.equal(module.bank[2].double())


@pytest.mark.parametrize("row", [lambda m: m.bank[1], lambda m: m.bank.unbind()[1], lambda m: m.bank.split(1)[1][0]])
def test_a_bare_view_of_a_kernel_is_the_parent_itself(row: Callable[[Lambda], Tensor]) -> None:
    module = network(row)
    found = analyse(weight_node(module))
    assert found.parent.startswith("bank_1")
    assert found.modulation is None
    assert found.base.equal(module.bank[1].double())


def test_attention_along_the_input_channels_is_no_modulation() -> None:
    module = network(lambda m: m.kernel * (1 + m.channels))
    node = weight_node(module)
    found = analyse(node)
    assert (found.node, found.modulation) == (node, None)
    torch.testing.assert_close(found.base, module.kernel.double() * (1 + module.channels.double()), **EXACT)


def test_a_kernel_that_is_only_nearly_modulated_is_no_modulation() -> None:
    """An adapter of a millionth of the weight is no rounding, and must not be lost."""
    module = network(lambda m: m.kernel * (1 + m.filters[0]) + 1e-6 * m.bank[0])
    node = weight_node(module)
    found = analyse(node)
    assert (found.node, found.modulation) == (node, None)
    expected = module.kernel.double() * (1 + module.filters[0].double()) + 1e-6 * module.bank[0].double()
    torch.testing.assert_close(found.base, expected, rtol=1e-14, atol=0.0)


def test_a_modulation_that_would_be_infinite_for_a_kernel_of_ones_is_none() -> None:
    node = weight_node(network(lambda m: m.kernel / (m.kernel - 1)))
    found = analyse(node)
    assert (found.node, found.modulation) == (node, None)


BASES: dict[str, tuple[Callable[[Lambda], Tensor], Callable[[Lambda], Tensor]]] = {
    "flipped": (lambda m: m.kernel.flip(3) * (1 + m.filters[0]), lambda m: m.kernel.flip(3)),
    "permuted": (lambda m: m.spatial[2] * m.kernel[[3, 0, 1, 5, 4, 2]], lambda m: m.kernel[[3, 0, 1, 5, 4, 2]]),
    "its input channels permuted": (
        lambda m: m.kernel[:, [3, 0, 1, 2]] * (1 + m.filters[1]) * (1 + m.spatial[0]),
        lambda m: m.kernel[:, [3, 0, 1, 2]],
    ),
    "mixed": (
        lambda m: (0.3 * m.bank[0] + 0.7 * m.bank[2]) * (1 + m.filters[4]),
        lambda m: 0.3 * m.bank[0] + 0.7 * m.bank[2],
    ),
    "softened": (lambda m: torch.tanh(m.kernel) * (1 + m.filters[0]), lambda m: torch.tanh(m.kernel)),
}


@pytest.mark.parametrize(("kernel", "base"), BASES.values(), ids=BASES)
def test_where_no_leaf_is_the_base_the_smallest_sub_expression_is(
    kernel: Callable[[Lambda], Tensor], base: Callable[[Lambda], Tensor]
) -> None:
    module = network(kernel)
    node = weight_node(module)
    found = analyse(node)
    assert found.node is not node
    assert found.modulation is not None
    assert found.modulation.shape == (6, 1, 3, 2)
    torch.testing.assert_close(found.base, base(module.double()), rtol=1e-14, atol=0.0)
    torch.testing.assert_close(found.base * found.modulation, evaluate(node), rtol=1e-14, atol=0.0)


def test_a_kernel_of_zeros_is_shared_like_any_other() -> None:
    module = network(lambda m: m.kernel * (1 + m.filters[0]))
    with torch.no_grad():
        module.kernel.zero_()
    found = analyse(weight_node(module))
    assert found.parent == "kernel"


def test_leaves_are_the_parameters_that_a_weight_is_made_of() -> None:
    node = weight_node(network(lambda m: m.kernel * (1 + m.filters[3]) * (1 + m.spatial[1])))
    assert sorted(str(leaf.target) for leaf in leaves(node)) == ["filters", "kernel", "spatial"]


def test_evaluation_is_in_float64_whatever_the_graph_is_in() -> None:
    module = network(lambda m: m.kernel * (1 + m.filters[3]))
    node = weight_node(module)
    narrow = evaluate(node)
    cast_floats(node.graph.owning_module, torch.float64)
    assert narrow.dtype == torch.float64
    assert narrow.equal(evaluate(node))
