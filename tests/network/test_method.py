"""A method takes layers of a plain network by their names; what it does not take stays, and stays the backbone's."""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from typing import ClassVar

import pytest
import torch
from torch import nn

from kdna_deploy.network.architecture import Architecture
from kdna_deploy.network.backbone import Backbone, Shapes
from kdna_deploy.network.configuration import configured
from kdna_deploy.network.families import ARCHITECTURES
from kdna_deploy.network.method import Method, Place, c_in, c_out, places
from kdna_deploy.network.recognise import network_shapes, recognise
from kdna_deploy.network.record import from_record, to_record


@dataclass(frozen=True)
class Doubling(Method):
    """Depthwise layers have two kernels, and blocks a gate that doubles `times`."""

    times: int = 1
    kind: ClassVar[str] = "Doubling"
    gate_name: ClassVar[str] = "twice"
    told: ClassVar[tuple[str, ...]] = ("times",)

    def recognises(self, shapes: Shapes) -> bool:
        return any(".twice." in name for name in shapes)

    def fitted(self, backbone: Backbone, shapes: Shapes) -> Doubling:
        return replace(self, times=max(int(name.split(".")[-2]) + 1 for name in shapes if ".twice." in name))

    def convolution(self, place: Place) -> nn.Module | None:
        sizes = (place.c_in, place.c_out, place.kernel, place.stride, place.padding)
        return nn.Sequential(nn.Conv2d(*sizes, groups=place.groups)) if place.depthwise else None

    def gate(self, block: str, channels: int) -> nn.Module | None:
        return nn.Sequential(*(nn.BatchNorm2d(channels) for _ in range(self.times)))


@functools.cache
def small(times: int) -> Architecture:
    plain = ARCHITECTURES["mobilenet_v2_plain"].configured(configured(None, {"scale": 1 / 8}))
    return replace(plain, name="doubling", method=Doubling(times), baseline="mobilenet_v2_plain")


def test_it_replaces_layers_and_stands_in_front_of_residual_sums() -> None:
    shapes, plain = network_shapes(small(1)), network_shapes(small(1).plain)
    assert "features.3.conv.1.0.0.bias" in shapes and "features.3.conv.1.0.weight" not in shapes
    kept = {name for name in plain if ".conv.1.0." not in name and name != "features.1.conv.0.0.weight"}
    assert {name for name in shapes if ".twice." not in name and ".0.0.0." not in name} >= kept
    torch.manual_seed(0)
    network, x = small(1).build().eval(), torch.randn(2, 3, 32, 32)
    block = network.get_submodule("features.3")
    assert block.residual
    inside: list[torch.Tensor] = []
    block.get_submodule("twice").register_forward_hook(lambda *said: inside.append(said[2]))
    before: list[torch.Tensor] = []
    block.register_forward_hook(lambda *said: before.append(said[2] - said[1][0]))
    network(x)
    torch.testing.assert_close(inside[0], before[0])


def test_what_shapes_tell_of_it_is_recognised_and_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = replace(
        ARCHITECTURES["mobilenet_v2_plain"], name="doubling", method=Doubling(), baseline="mobilenet_v2_plain"
    )
    monkeypatch.setitem(ARCHITECTURES, "doubling", entry)
    found = recognise(network_shapes(small(3)))
    assert found == small(3)
    assert to_record(found)["method"] == {"times": 3}
    assert from_record(to_record(found)) == found
    assert "method" not in to_record(found.plain)
    assert (found.plain.name, found.plain.method) == ("mobilenet_v2_plain", None)


def test_places_are_the_layers_of_the_plain_network_in_their_order() -> None:
    with torch.device("meta"):
        found = places(small(1).plain.build())
    assert [place.name for place in found[:3]] == ["features.0.0", "features.1.conv.0.0", "features.1.conv.1"]
    assert (found[1].depthwise, found[1].pointwise, found[1].kernel) == (True, False, (3, 3))
    last = found[-1]
    assert (last.name, last.linear, last.bias, last.pointwise) == ("classifier.1", True, True, True)


def test_widths_are_told_by_kernels_banks_and_what_stands_behind() -> None:
    shapes: Shapes = {
        "a.weight": (8, 4, 3, 3),
        "b.weight": (2, 8, 4, 3, 3),
        "c.attention.fc1.weight": (16, 5),
        "bn.weight": (6,),
    }
    assert (c_in(shapes, "a"), c_in(shapes, "b"), c_in(shapes, "c")) == (4, 4, 5)
    assert (c_out(shapes, "a", "bn.weight"), c_out(shapes, "b", "x.weight", "bn.weight")) == (8, 6)
    for asked in (lambda: c_in(shapes, "d"), lambda: c_out(shapes, "b", "x.weight")):
        with pytest.raises(KeyError):
            asked()
