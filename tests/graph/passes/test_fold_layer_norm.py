"""A LayerNorm's scale and bias go into the layers behind it, exactly, or stay with the reason."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdna_deploy.graph.graph import ATEN, calls
from kdna_deploy.graph.passes.canonicalise import canonicalise
from kdna_deploy.graph.passes.fold_layer_norm import fold_layer_norm
from kdna_deploy.graph.passes.fold_static_attention import fold_static_attention
from tests.graph.passes.equivalence import PIPELINE, Lambda, run, trained

C, H, W = 4, 7, 8  # of the images
Network = Callable[[Lambda, Tensor], Tensor]
Case = tuple[Network, dict[str, nn.Module | Tensor]]


def maps(m: Lambda, x: Tensor) -> Tensor:
    """The norm over the channels of maps, as ConvNeXt has it."""
    return m.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


NORM = nn.LayerNorm(C)
FOLDED: dict[str, Case] = {
    "into a linear layer": (lambda m, x: m.layer(m.norm(x.transpose(1, 3))), {"norm": NORM, "layer": nn.Linear(C, 6)}),
    "of a vector": (lambda m, x: m.layer(m.norm(x.mean((2, 3)))), {"norm": NORM, "layer": nn.Linear(C, 6)}),
    "through a permutation, a bias made": (
        lambda m, x: m.layer(maps(m, x)),
        {"norm": NORM, "layer": nn.Conv2d(C, 6, 1, bias=False)},
    ),
    "of tokens, seen as maps and back": (
        lambda m, x: m.layer(m.norm(x.flatten(2).transpose(1, 2)).view(-1, H, W, C).unsqueeze(1).squeeze(1)),
        {"norm": NORM, "layer": nn.Linear(C, 6)},
    ),
    "through a flattening": (
        lambda m, x: m.layer(maps(m, x.mean((2, 3), keepdim=True)).flatten(1)),
        {"norm": NORM, "layer": nn.Linear(C, 6)},
    ),
    "into grouped filters with taps": (
        lambda m, x: m.layer(maps(m, x)),
        {"norm": NORM, "layer": nn.Conv2d(C, 6, 3, stride=2, dilation=2, groups=2)},
    ),
    "into a 1×1 convolution said to pad": (
        lambda m, x: m.layer(maps(m, x)),
        {"norm": NORM, "layer": nn.Conv2d(C, 6, 1, padding="same")},
    ),
    "a scale alone, into padding": (
        lambda m, x: m.layer(maps(m, x)),
        {"norm": nn.LayerNorm(C, bias=False), "layer": nn.Conv2d(C, 6, 3, padding=1)},
    ),
    "RMSNorm": (lambda m, x: m.layer(m.norm(x.transpose(1, 3))), {"norm": nn.RMSNorm(C), "layer": nn.Linear(C, 6)}),
    "into several layers, one modulated": (
        lambda m, x: m.layer(maps(m, x)) + F.conv2d(maps(m, x), (m.weight * m.scale)[:, :, None, None]),
        {"norm": NORM, "layer": nn.Conv2d(C, 6, 1), "weight": torch.ones(6, C), "scale": torch.ones(6, 1)},
    ),
}


@pytest.mark.parametrize(("network", "layers"), FOLDED.values(), ids=FOLDED)
def test_the_affine_is_folded_into_every_layer_behind(network: Network, layers: dict[str, nn.Module | Tensor]) -> None:
    graph, (*_, result) = run(trained(Lambda(network, **layers)), canonicalise, fold_static_attention, fold_layer_norm)
    norms = calls(graph.module, {ATEN.layer_norm.default, ATEN.rms_norm.default})
    assert (result.changed, result.refused) == (len(norms), ())
    assert all(len(norm.all_input_nodes) == 1 for norm in norms)


SHARED = {"norm": NORM, "first": nn.Conv2d(C, C, 1), "filters": torch.ones(C, 1, 1, 1)}
KEPT: dict[str, tuple[Network, dict[str, nn.Module | Tensor], str]] = {
    "a residual reads it": (
        lambda m, x: (lambda y: m.layer(y) + y)(maps(m, x)),
        {"norm": NORM, "layer": nn.Conv2d(C, C, 1)},
        "something else than a linear layer or a convolution of its channels reads it",
    ),
    "an activation lies between": (
        lambda m, x: m.layer(F.relu(maps(m, x))),
        {"norm": NORM, "layer": nn.Conv2d(C, 6, 1)},
        "something else than",
    ),
    "a layer reads other axes": (
        lambda m, x: m.layer(m.norm(x.transpose(1, 3)).transpose(1, 2).transpose(2, 3)),
        {"norm": NORM, "layer": nn.Linear(W, 6)},
        "something else than",
    ),
    "a view cuts the channels": (
        lambda m, x: m.layer(m.norm(x.transpose(1, 3)).reshape(-1, W, H, 2, 2)),
        {"norm": NORM, "layer": nn.Linear(2, 6)},
        "something else than",
    ),
    "the network returns it": (lambda m, x: m.norm(x.mean((2, 3))), {"norm": NORM}, "something else than"),
    "a child shares the kernel": (
        lambda m, x: m.first(maps(m, x)) + F.conv2d(x, m.first.weight * (1 + m.filters)),
        SHARED,
        "the kernel of first is shared, and its layers would each need another",
    ),
    "zeros are padded": (
        lambda m, x: m.layer(maps(m, x)),
        {"norm": NORM, "layer": nn.Conv2d(C, 6, 3, padding=(0, 1))},
        "layer pads with zeros, to which its bias would be added",
    ),
    "zeros are padded as many as keep the size": (
        lambda m, x: m.layer(maps(m, x)),
        {"norm": NORM, "layer": nn.Conv2d(C, 6, 3, padding="same")},
        "layer pads with zeros",
    ),
    "several axes are normalised": (
        lambda m, x: m.layer(m.norm(x)),
        {"norm": nn.LayerNorm([H, W]), "layer": nn.Linear(W, 6)},
        "it normalises several axes",
    ),
    "a kernel depends on the image": (
        lambda m, x: F.linear(m.norm(x.transpose(1, 3)), m.layer.weight * x.mean()),
        {"norm": NORM, "layer": nn.Linear(C, 6)},
        "is not constant",
    ),
    "its scale depends on the image": (
        lambda m, x: m.layer(F.layer_norm(x.transpose(1, 3), [C], x.mean((0, 2, 3)))),
        {"layer": nn.Linear(C, 6)},
        "its scale or bias is not constant",
    ),
}


@pytest.mark.parametrize(("network", "layers", "reason"), KEPT.values(), ids=KEPT)
def test_what_cannot_be_folded_is_refused(network: Network, layers: dict[str, nn.Module | Tensor], reason: str) -> None:
    _, (*_, result) = run(trained(Lambda(network, **layers)), canonicalise, fold_static_attention, fold_layer_norm)
    assert result.changed == 0
    assert result.refused
    assert all(reason in refusal.reason for refusal in result.refused)


def test_a_norm_without_affine_is_none_of_its_business() -> None:
    network = Lambda(lambda m, x: m.norm(x.transpose(1, 3)), norm=nn.LayerNorm(C, elementwise_affine=False))
    _, (result,) = run(trained(network), fold_layer_norm)
    assert (result.changed, result.refused) == (0, ())


def test_the_whole_pipeline_folds_a_convnext_block() -> None:
    """With what it has in front and behind: the scale of the layer in front, the layer scale and the bias of this."""

    def block(m: Lambda, x: Tensor) -> Tensor:
        out = F.conv2d(maps(m, m.spatial(x)), m.expand.weight[:, :, None, None], m.expand.bias)
        return x + m.gamma * m.project(F.gelu(out))

    layers = {
        "spatial": nn.Conv2d(C, C, 3, padding=1, groups=C),
        "norm": NORM,
        "expand": nn.Linear(C, 4 * C),
        "project": nn.Conv2d(4 * C, C, 1),
        "gamma": torch.ones(C, 1, 1),
    }
    graph, results = run(trained(Lambda(block, **layers)), *PIPELINE)
    assert [result.changed for result in (results[-4], results[-2])] == [1, 1]
    (norm,) = calls(graph.module, {ATEN.layer_norm.default})
    assert len(norm.all_input_nodes) == 1
