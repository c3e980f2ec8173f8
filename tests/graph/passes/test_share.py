"""Shared children stay products of one parent, and compute what materialised ones compute."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from kdna_deploy.graph.gates import channel_attentions
from kdna_deploy.graph.graph import CONVOLUTIONS, Graph, calls
from kdna_deploy.graph.kernels import unmodulated
from kdna_deploy.graph.ledger import graph_storage
from kdna_deploy.graph.passes import FOLDING, Pass, PassResult
from kdna_deploy.graph.passes.fold_constants import fold_constants
from kdna_deploy.graph.passes.fold_static_attention import fold_static_attention
from kdna_deploy.graph.passes.freeze_attention import freeze_attention
from kdna_deploy.graph.passes.materialise import materialise
from kdna_deploy.graph.passes.share import share
from kdna_deploy.graph.weight_expression import modulated_parts
from kdna_deploy.targets.fuse import stored_numbers
from tests.gated import Gated, double_output, folded
from tests.graph.passes.equivalence import Lambda, run, trained
from tests.made_of import CHILDREN, MIXTURES, MadeOf, Weight, own

# Float64 rounding of a few dozen operations on values of order one.
ROUNDING = 1e-11

geometry = st.fixed_dictionaries(
    {
        "kernel": st.sampled_from([1, 3]),
        "groups": st.sampled_from([1, 2, 4]),
        "stride": st.sampled_from([1, 2]),
        "dilation": st.sampled_from([1, 2]),
    }
)


@pytest.mark.slow
@settings(max_examples=12, deadline=None, derandomize=True, phases=[Phase.generate])  # a try is a capture: no shrinking
@given(options=geometry, seed=st.integers(0, 1000))
def test_share_and_materialise_in_any_order_compute_the_same(options: dict[str, int], seed: int) -> None:
    torch.manual_seed(seed)
    module = Gated(**options)
    images = torch.randn(3, 3, 17, 17, dtype=torch.float64)
    graph = folded(module, size=17)
    expected = double_output(module, images)
    for order in ((share,), (materialise,), (share, materialise), (materialise, share)):
        transformed = graph.clone()
        for transform in order:
            transform(transformed.module)
        assert (transformed(images) - expected).abs().max() <= ROUNDING * expected.abs().max()


def test_every_consumer_of_a_shared_parent_is_a_product_with_a_modulation_along_filters_and_positions() -> None:
    graph = folded(Gated())
    share(graph.module)
    products = [conv for conv in calls(graph.module, CONVOLUTIONS) if modulated_parts(conv.args[1])]
    assert len(products) == 3
    assert len({unmodulated(conv.args[1]).target for conv in products}) == 1
    assert graph_storage(graph.module, "").kernels == len(calls(graph.module, CONVOLUTIONS)) - 2


@pytest.mark.slow
def test_a_kernel_of_its_own_is_materialised() -> None:
    graph = folded(Gated())
    changed = share(graph.module).changed
    # Nothing in this network but the three consumers of the parent has a modulation.
    assert changed == 0
    assert share(graph.module).changed == 0


def test_depthwise_children_are_materialised_because_their_modulation_is_as_large_as_the_kernel() -> None:
    graph = folded(Gated(groups=8))
    assert share(graph.module).changed == 3
    assert not [conv for conv in calls(graph.module, CONVOLUTIONS) if modulated_parts(conv.args[1])]


def float64(module: nn.Module, *passes: Pass, size: int = 7) -> tuple[Graph, list[PassResult]]:
    """The graph of `module` in float64 after folding and `passes`."""
    graph = folded(module, size)
    return graph, [transform(graph.module) for transform in passes]


def assert_shared(module: nn.Module, parent: int) -> None:
    """Sharing and materialising compute what `module` does, and sharing stores one kernel of `parent` numbers."""
    graph, _ = float64(module)
    full = graph.clone()
    materialise(full.module)
    assert share(graph.module).refused == ()
    images = torch.randn(2, 3, 7, 7, dtype=torch.float64)
    expected = double_output(module, images)
    for made in (graph, full):
        assert (made(images) - expected).abs().max() <= ROUNDING * expected.abs().max()
    held = [value.numel() for value in graph.module.state_dict().values()]
    assert held.count(parent) == 1
    assert sum(held) <= stored_numbers(full)
    again = graph.clone()
    assert share(again.module).changed == 0
    assert stored_numbers(again) == stored_numbers(graph)


@pytest.mark.slow
@pytest.mark.parametrize("child", CHILDREN.values(), ids=CHILDREN)
def test_whatever_is_made_of_a_kernel_is_computed_from_it(child: Weight) -> None:
    torch.manual_seed(0)
    assert_shared(MadeOf(own, child, child), parent=16 * 16 * 9)


@pytest.mark.slow
def test_mixtures_are_computed_from_the_bank() -> None:
    torch.manual_seed(0)
    assert_shared(MadeOf(*MIXTURES.values()), parent=3 * 16 * 16 * 9)


AXES = st.lists(st.sampled_from([0, 1, 2, 3]), unique=True, min_size=0, max_size=3)


@st.composite
def index_maps(draw: st.DrawFn) -> Weight:
    """A permutation, mirror image or subset of a kernel along any axes, times any modulation."""
    mirrored, permuted = draw(AXES), draw(AXES)
    seed, filters, spatial, negative = (draw(st.integers(0, 3)) for _ in range(4))

    def weight(m: MadeOf) -> Tensor:
        kernel = m.kernel.flip(mirrored) if mirrored else m.kernel
        for axis in permuted:
            size = kernel.shape[axis]
            order = random.Random(seed).sample(range(size), size)
            index = [place - size for place in order] if negative == 0 else order
            kernel = kernel[(slice(None),) * axis + (index,)]
        kernel = kernel * (1 + m.filters[filters]) if filters else kernel
        return (1 + m.spatial[spatial]) * kernel if spatial else kernel

    return weight


@pytest.mark.slow
@settings(max_examples=12, deadline=None, derandomize=True, phases=[Phase.generate])
@given(children=st.lists(index_maps(), min_size=2, max_size=3), groups=st.sampled_from([1, 2]), norm=st.booleans())
def test_any_index_map_with_any_modulation_shares_its_parent(children: list[Weight], groups: int, norm: bool) -> None:
    torch.manual_seed(0)
    assert_shared(MadeOf(own, *children, groups=groups, norm=norm), parent=16 * 16 * 9 // groups)


SLICES: dict[str, Callable[[Lambda, Tensor], Tensor]] = {
    "filters": lambda m, x: F.conv2d(x, m.kernel)[:, :4] + F.conv2d(x, m.kernel[:4] * (1 + m.filters)),
    "channels": lambda m, x: F.conv2d(x, m.kernel) + F.conv2d(x[:, :2], m.kernel.narrow(1, 1, 2)),
    "the centre": lambda m, x: F.conv2d(x, m.kernel) + F.conv2d(x, m.kernel[:, :, 1:2, 1:2])[:, :, 1:-1, 1:-1],
    "every other filter": lambda m, x: F.conv2d(x, m.kernel)[:, ::2] + F.conv2d(x, m.kernel[::2]),
    "a mask": lambda m, x: F.conv2d(x, m.kernel)[:, :3] + F.conv2d(x, m.kernel[m.mask]),
    "windows": lambda m, x: sum(F.conv2d(x, m.kernel[i : i + 4]) for i in range(4)),
}


@pytest.mark.parametrize("layers", SLICES.values(), ids=SLICES)
def test_slices_are_read_from_the_whole(layers: Callable[[Lambda, Tensor], Tensor]) -> None:
    network = trained(Lambda(layers, kernel=torch.empty(8, 3, 3, 3), filters=torch.empty(4, 1, 1, 1)))
    network.register_buffer("mask", torch.tensor([1, 0, 0, 1, 0, 0, 1, 0], dtype=torch.bool))
    graph, (result,) = run(network, share, image=(3, 6, 7))
    assert result.refused == ()
    held = sorted(value.numel() for value in graph.module.state_dict().values())
    assert held in ([8 * 27], [4, 8 * 27], [3, 8 * 27], [7 * 27]), "with a modulation, or with an index"


LINEAR: dict[str, tuple[Callable[[Lambda, Tensor], Tensor], int]] = {
    "tied": (lambda m, x: F.linear(F.linear(x, m.rows), m.rows), 36),
    "tied to its transpose": (lambda m, x: F.linear(F.linear(x, m.rows), m.rows.t()), 36),
    "modulated": (lambda m, x: F.linear(F.linear(x, m.rows), m.rows * m.scale, m.scale[:, 0]), 42 + 6),
    "mixed": (lambda m, x: sum(F.linear(x, (1 - t) * m.rows + t * m.rows.t()) for t in (0.1, 0.2)), 36),
    "products": (lambda m, x: (x @ m.rows.t()) @ (m.rows * m.scale).t(), 42),
}


@pytest.mark.parametrize(("layers", "numbers"), LINEAR.values(), ids=LINEAR)
def test_linear_layers_share_like_convolutions(layers: Callable[[Lambda, Tensor], Tensor], numbers: int) -> None:
    network = Lambda(lambda m, x: layers(m, x.mean((2, 3))), rows=torch.empty(6, 6), scale=torch.empty(6, 1))
    graph, (_, _, result) = run(trained(network), fold_static_attention, fold_constants, share, image=(6, 5, 4))
    assert result.refused == ()
    assert stored_numbers(graph) == numbers


def test_a_modulated_linear_layer_takes_its_batchnorm_into_the_modulation() -> None:
    network = Lambda(
        lambda m, x: m.norm(F.linear(F.linear(x.mean((2, 3)), m.rows), m.rows * m.scale)),
        rows=torch.empty(6, 6),
        scale=torch.empty(6, 1),
        norm=nn.BatchNorm1d(6),
    )
    graph, _ = run(trained(network), *FOLDING, share, image=(6, 5, 4))
    assert stored_numbers(graph) == 36 + 6 + 6, "kernel, modulation and bias"


@pytest.mark.parametrize("groups", [1, 2])
def test_transposed_convolutions_share_too(groups: int) -> None:
    def layers(m: Lambda, x: Tensor) -> Tensor:
        x = F.conv_transpose2d(x, m.kernel, groups=groups)
        x = F.conv_transpose2d(x, m.kernel * (1 + m.filters), groups=groups)
        return m.norm(F.conv_transpose2d(x, m.kernel.flip((2, 3)) * m.channels, groups=groups))

    network = Lambda(
        layers,
        kernel=torch.empty(6, 6 // groups, 3, 3),
        filters=torch.empty(1, 6 // groups, 1, 1),
        channels=torch.empty(6, 1, 1, 1),
        norm=nn.BatchNorm2d(6),
    )
    graph, results = run(trained(network), *FOLDING, image=(6, 5, 4))
    assert share(graph.module).refused == ()
    kernel = 6 * 6 * 9 // groups
    assert stored_numbers(graph) == kernel + 6 // groups + 6 + 4 * 6, "with the statistics of the BatchNorm behind"
    (refused,) = (refusal for result in results for refusal in result.refused)
    assert "BatchNorm does not follow" in refused.reason


def test_each_child_that_is_not_shared_is_named_with_the_reason() -> None:
    network = MadeOf(
        own, lambda m: torch.tanh(m.kernel), lambda m: m.kernel * (1 + m.bank[0]), lambda m: m.kernel[m.order]
    )
    _, (result,) = float64(network, share)
    assert [refusal.site for refusal in result.refused] == ["norms.1", "norms.2"]
    tanh, full = (refusal.reason for refusal in result.refused)
    assert tanh == "made of kernel by tanh, which files do not keep; stored as a kernel of its own"
    assert full == (
        "what makes it of kernel (add, mul) takes as much room as the copy that it saves; stored as a kernel of its own"
    )


def test_where_every_child_has_a_kernel_of_its_own_the_parent_is_told_to_be_alone() -> None:
    _, (result,) = float64(MadeOf(own, lambda m: torch.tanh(m.kernel)), share)
    assert [refusal.site for refusal in result.refused] == ["norms.0", "norms.1"]
    assert "no layer is left to share kernel with" in result.refused[0].reason


@pytest.mark.slow
def test_channel_attention_is_frozen_into_a_child_of_any_kind() -> None:
    class Gated(MadeOf):
        gate = None

        def forward(self, x: Tensor) -> Tensor:
            x = self.stem(x)
            for i, (weight, norm) in enumerate(zip(self.weights, self.norms, strict=True)):
                gate = torch.sigmoid(x.mean((2, 3), keepdim=True)) if self.gate is None else self.gate[i]
                x = F.relu(norm(F.conv2d(x * gate, weight(self), padding=1, groups=self.groups)))
            return self.fc(x.mean((2, 3)))

    for groups in (1, 2):
        torch.manual_seed(0)
        module = Gated(own, CHILDREN["permuted and modulated"], CHILDREN["a low-rank adapter"], groups=groups)
        for transform in (share, materialise):
            graph = folded(module, 7)
            gates = torch.rand(3, 16, 1, 1, dtype=torch.float64)
            names = [node.name for node in channel_attentions(graph.module)]
            frozen = freeze_attention(graph.module, {n: g.flatten() for n, g in zip(names, gates, strict=True)})
            assert (frozen.changed, frozen.refused) == (3, ())
            transform(graph.module)
            module.gate = gates
            images = torch.randn(2, 3, 7, 7, dtype=torch.float64)
            expected = double_output(module, images)
            assert (graph(images) - expected).abs().max() <= ROUNDING * expected.abs().max()
            module.gate = None
            module.float()
