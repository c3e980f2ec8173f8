"""ConvNeXt has the names and shapes of both publications of its checkpoints."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from kdna_deploy.network.architecture import Architecture
from kdna_deploy.network.backbone import KernelDNA
from kdna_deploy.network.configuration import configured
from kdna_deploy.network.families import ARCHITECTURES
from kdna_deploy.network.families.convnext import Block, Child, ConvNeXtSpec
from kdna_deploy.network.recognise import network_shapes, recognise

Shapes = dict[str, tuple[int, ...]]
WIDTHS, DEPTHS = (96, 192, 384, 768), (3, 3, 9, 3)
PLAIN = ARCHITECTURES["convnext_tiny_plain"]


def layer(name: str, *shape: int) -> Shapes:
    return {f"{name}.weight": shape, f"{name}.bias": shape[:1]}


def torchvisions() -> Shapes:
    """torchvision's ConvNeXt-Tiny, written down from its public model definition."""
    shapes = layer("features.0.0", 96, 3, 4, 4) | layer("features.0.1", 96)
    for stage, (width, depth) in enumerate(zip(WIDTHS, DEPTHS, strict=True)):
        if stage:
            shapes |= layer(f"features.{2 * stage}.0", width // 2) | layer(
                f"features.{2 * stage}.1", width, width // 2, 2, 2
            )
        for block in range(depth):
            name = f"features.{2 * stage + 1}.{block}"
            shapes |= {f"{name}.layer_scale": (width, 1, 1), **layer(f"{name}.block.0", width, 1, 7, 7)}
            shapes |= layer(f"{name}.block.2", width)
            shapes |= layer(f"{name}.block.3", 4 * width, width) | layer(f"{name}.block.5", width, 4 * width)
    return shapes | layer("classifier.0", 768) | layer("classifier.2", 1000, 768)


def originals() -> Shapes:
    """The original authors', likewise."""
    shapes = layer("downsample_layers.0.0", 96, 3, 4, 4) | layer("downsample_layers.0.1", 96)
    for stage, (width, depth) in enumerate(zip(WIDTHS, DEPTHS, strict=True)):
        if stage:
            shapes |= layer(f"downsample_layers.{stage}.0", width // 2)
            shapes |= layer(f"downsample_layers.{stage}.1", width, width // 2, 2, 2)
        for block in range(depth):
            name = f"stages.{stage}.{block}"
            shapes |= {f"{name}.gamma": (width,), **layer(f"{name}.dwconv", width, 1, 7, 7)}
            shapes |= layer(f"{name}.norm", width)
            shapes |= layer(f"{name}.pwconv1", 4 * width, width) | layer(f"{name}.pwconv2", width, 4 * width)
    return shapes | layer("norm", 768) | layer("head", 1000, 768)


@pytest.mark.parametrize(("shapes", "names"), [(torchvisions(), "torchvision"), (originals(), "original")])
def test_both_publications_are_the_plain_backbone(shapes: Shapes, names: str) -> None:
    found = recognise(shapes)
    assert found == replace(PLAIN, backbone=replace(PLAIN.backbone, names=names))
    assert network_shapes(found) == shapes


def small(names: str = "original") -> nn.Module:
    spec = ConvNeXtSpec(depths=(1, 1, 2, 1), widths=(8, 16, 24, 32), names=names)  # type: ignore[arg-type]
    return Architecture("small", spec, num_classes=5).build().eval()


def translated(name: str) -> str:
    """torchvision's name → the original authors'."""
    place, _, rest = name.removeprefix("features.").partition(".")
    if name.startswith("classifier"):
        return name.replace("classifier.0", "norm").replace("classifier.2", "head")
    if int(place) % 2 == 0:
        return f"downsample_layers.{int(place) // 2}.{rest}"
    block = {"layer_scale": "gamma", "block.0": "dwconv", "block.2": "norm", "block.3": "pwconv1", "block.5": "pwconv2"}
    for old, new in block.items():
        rest = rest.replace(old, new)
    return f"stages.{int(place) // 2}.{rest}"


def test_both_compute_the_same() -> None:
    torch.manual_seed(0)
    ours, theirs = small("torchvision"), small("original")
    for value in ours.state_dict().values():
        value.normal_(0, 0.3)
    theirs.load_state_dict(
        {
            translated(name): value.flatten() if "layer_scale" in name else value
            for name, value in ours.state_dict().items()
        }
    )
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(ours(images), theirs(images), rtol=1e-5, atol=1e-6)


def test_a_child_without_attention_is_a_block_with_its_parents_kernels() -> None:
    torch.manual_seed(0)
    parent, child = Block(8), Child(8, KernelDNA((), frozenset(), (4, 4)))
    own = {
        name: value for name, value in parent.state_dict().items() if name.split(".")[0] in ("dwconv", "norm", "gamma")
    }
    child.load_state_dict({**own, "bias1": parent.pwconv1.bias, "bias2": parent.pwconv2.bias})
    with torch.no_grad():
        for network in (parent, child):
            network.gamma.copy_(torch.linspace(-1, 1, 8))
        x = torch.randn(3, 8, 7, 7)
        torch.testing.assert_close(child(x, parent.pwconv1.weight, parent.pwconv2.weight), parent(x))


@pytest.mark.parametrize(("stage", "layout"), [("stages.2", "F-S-F-S-F"), ("stages.3", "F-S-S-F")])
def test_other_stages_and_layouts_are_told_by_their_names(stage: str, layout: str) -> None:
    asked = ARCHITECTURES["convnext_tiny"].configured(configured(None, {"layout": f"{stage}={layout}", "scale": 0.25}))
    assert recognise(network_shapes(asked)) == asked
