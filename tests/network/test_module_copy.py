"""Copies of networks that `copy.deepcopy` refuses compute the same, and nothing done to them reaches the original."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import nn

from kdna_deploy.network.module_copy import twin
from tests.odd.values import TABLE

IMAGES = torch.linspace(-1, 1, 2 * 3 * 10 * 12).view(2, 3, 10, 12)


@pytest.mark.parametrize(
    "name", ["uncopyable_attributes", "non_leaf", "uncopyable", "cycle", "replaced_forward", "hooks"]
)
def test_a_twin_computes_the_same_and_shares_no_weights(name: str) -> None:
    network = TABLE[name].build().eval()
    other = twin(network)
    with torch.no_grad():
        expected = network(IMAGES)
        assert other(IMAGES).equal(expected)
        for value in (*other.parameters(), *other.buffers()):
            value.add_(1)
        assert network(IMAGES).equal(expected)
        assert not other(IMAGES).equal(expected)
    assert [key for key, _ in other.named_modules()] == [key for key, _ in network.named_modules()]


@pytest.mark.parametrize("name", ["uncopyable_attributes", "non_leaf", "uncopyable"])
def test_it_is_needed(name: str) -> None:
    with pytest.raises(Exception):  # noqa: B017  # whatever the attribute raises
        copy.deepcopy(TABLE[name].build())


def test_parts_that_are_shared_stay_shared() -> None:
    network = TABLE["uncopyable"].build()
    network.again = network.stem
    other = twin(network)
    assert other.again is other.stem
    assert other.stem is not network.stem
    assert other.again.weight is other.stem.weight


def test_a_cycle_leads_to_the_twin() -> None:
    network = TABLE["cycle"].build()
    network.lock = __import__("threading").Lock()
    other = twin(network)
    assert other.inner.owner[0] is other
    assert other.lock is network.lock


def _tied() -> nn.Module:
    network = TABLE["uncopyable"].build()
    network.other = nn.Conv2d(3, 8, 3)
    network.other.weight = network.stem.weight
    return network


@pytest.mark.parametrize("make", [_tied])
def test_tied_weights_stay_tied(make: Callable[[], nn.Module]) -> None:
    other = twin(make())
    assert other.other.weight is other.stem.weight
