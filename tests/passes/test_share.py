"""Shared children stay products of one parent, and compute what materialised ones compute."""

from __future__ import annotations

import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from kdna_deploy.graph import CONVOLUTIONS, calls
from kdna_deploy.kernels import unmodulated
from kdna_deploy.ledger import graph_storage
from kdna_deploy.passes.materialise import materialise
from kdna_deploy.passes.share import share
from kdna_deploy.weight_expression import modulated_parts
from tests.gated import Gated, double_output, folded

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
