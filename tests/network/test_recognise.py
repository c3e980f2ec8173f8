"""A checkpoint's names and shapes tell its architecture; those of no known architecture are explained."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kdna_deploy.errors import ArchitectureError, ArtifactError, UsageError
from kdna_deploy.network.checkpoint import load_checkpoint
from kdna_deploy.network.families import ARCHITECTURES, Architecture
from kdna_deploy.network.families.resnet import ResNetSpec
from kdna_deploy.network.recognise import compare, network_shapes, recognise
from kdna_deploy.network.record import from_record, to_record

Shapes = dict[str, tuple[int, ...]]
RESNET34 = Architecture("resnet34_plain", ResNetSpec("basic", (3, 4, 6, 3)))


def torchvision_resnet18(classes: int = 1000) -> Shapes:
    """Names and shapes of torchvision's ResNet-18, written down from its public model definition."""

    def norm(name: str, width: int) -> Iterator[tuple[str, tuple[int, ...]]]:
        yield from ((f"{name}.{entry}", (width,)) for entry in ("weight", "bias", "running_mean", "running_var"))
        yield f"{name}.num_batches_tracked", ()

    shapes: Shapes = {"conv1.weight": (64, 3, 7, 7), **dict(norm("bn1", 64))}
    c_in = 64
    for stage, width in enumerate((64, 128, 256, 512), start=1):
        for block in range(2):
            name = f"layer{stage}.{block}"
            shapes |= {f"{name}.conv1.weight": (width, c_in, 3, 3), **dict(norm(f"{name}.bn1", width))}
            shapes |= {f"{name}.conv2.weight": (width, width, 3, 3), **dict(norm(f"{name}.bn2", width))}
            if c_in != width:
                shapes[f"{name}.downsample.0.weight"] = (width, c_in, 1, 1)
                shapes |= dict(norm(f"{name}.downsample.1", width))
            c_in = width
    return {**shapes, "fc.weight": (classes, 512), "fc.bias": (classes,)}


def resized(name: str, classes: int = 1000, sharing: dict[str, Any] | None = None, **backbone: Any) -> Architecture:
    """Architecture `name` with other sizes, as a user trains it on data of their own."""
    entry = ARCHITECTURES[name]
    shared = replace(entry.sharing, **(sharing or {})) if entry.sharing else None
    return replace(entry, backbone=replace(entry.backbone, **backbone), sharing=shared, num_classes=classes)


RESIZED = {
    "quarter width, 10 classes": resized("resnet18", 10, widths=(16, 16, 32, 64, 128)),
    "one input channel": resized("resnet18", 2, in_channels=1),
    "reduction 8": resized("resnet18", sharing={"reductions": (8,)}),
    "bottlenecks at half width": resized("resnet50", 37, widths=(32, 32, 64, 128, 256)),
    "bottlenecks, reduction 16": resized("resnet50", sharing={"reductions": (16,)}),
    "mobile, two other reductions": resized("mobilenet_v2", 5, sharing={"reductions": (2, 12)}),
    "mobile, odd widths": resized("mobilenet_v2", 3, widths=(8, 8, 8, 12, 20, 28, 36, 48, 96)),
    "filter attention alone": resized("resnet18", sharing={"attentions": frozenset({"filter"})}),
    "plain, quarter width": resized("resnet18_plain", 10, widths=(16, 16, 32, 64, 128)),
    "plain mobile, 100 classes": resized("mobilenet_v2_1d2_plain", 100),
}


@pytest.mark.slow
def test_published_checkpoints_are_recognised_by_their_shapes_alone(
    arch: str, published: Callable[[str], Path]
) -> None:
    assert recognise(load_checkpoint(published(arch)).shapes) == ARCHITECTURES[arch]


def test_torchvisions_resnet18_is_recognised_as_the_plain_backbone() -> None:
    assert recognise(torchvision_resnet18()) == ARCHITECTURES["resnet18_plain"]


@pytest.mark.parametrize("architecture", RESIZED.values(), ids=RESIZED.keys())
def test_widths_classes_and_reductions_are_read_from_the_shapes(architecture: Architecture) -> None:
    assert recognise(network_shapes(architecture), recorded=architecture.name) == architecture


@pytest.mark.slow
@pytest.mark.parametrize("reduction", [16, 20])
def test_one_reduction_is_found_that_fits_all_widths_of_a_network(reduction: int) -> None:
    # Either makes the hidden width 24 // reduction = 1, as any from 13 to 24 would: only 48 // reduction tells.
    trained = resized("resnet18", 10, widths=(8, 8, 16, 24, 48), sharing={"reductions": (reduction,)})
    shapes = network_shapes(trained)
    recognised = recognise(shapes)
    assert recognised.name == "resnet18"
    assert network_shapes(recognised) == shapes


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "mobilenet_v2"])
@pytest.mark.parametrize("removed", [{"spatial"}, {"channel"}, {"channel", "spatial"}, {"filter", "spatial"}])
def test_checkpoints_of_the_ablations_are_recognised(name: str, removed: set[str]) -> None:
    entry = ARCHITECTURES[name]
    assert entry.sharing is not None
    kept = entry.sharing.attentions - removed
    ablated = resized(name, sharing={"attentions": kept})
    assert recognise(network_shapes(ablated)) == ablated


def test_counters_of_batchnorm_may_be_missing() -> None:
    shapes = network_shapes(ARCHITECTURES["resnet18"])
    without = {name: shape for name, shape in shapes.items() if not name.endswith("num_batches_tracked")}
    assert len(without) < len(shapes)
    assert recognise(without) == ARCHITECTURES["resnet18"]


@pytest.mark.slow
def test_a_stale_recorded_name_does_not_mislead() -> None:
    shapes = network_shapes(ARCHITECTURES["resnet18"])
    assert recognise(shapes, recorded="resnet50").name == "resnet18"
    assert recognise(shapes, recorded="my_experiment_7").name == "resnet18"


@pytest.mark.slow
def test_the_recorded_name_decides_between_two_names_of_one_network() -> None:
    # Both MobileNetV2 entries fit any width; at a third width only the name that was written down can tell.
    shapes = network_shapes(resized("mobilenet_v2_1d2", widths=(8, 8, 8, 8, 16, 24, 40, 80, 320)))
    assert recognise(shapes, recorded="mobilenet_v2_1d2").name == "mobilenet_v2_1d2"
    assert recognise(shapes).name == "mobilenet_v2"


def test_an_unknown_name_is_refused_with_the_choices() -> None:
    with pytest.raises(UsageError) as refusal:
        recognise(torchvision_resnet18(), "resnet19")
    assert "no architecture 'resnet19'" in str(refusal.value)
    for name in ARCHITECTURES:
        assert name in str(refusal.value)


def test_a_name_that_does_not_fit_is_refused_though_another_would() -> None:
    with pytest.raises(ArchitectureError, match="does not fit resnet50"):
        recognise(torchvision_resnet18(), "resnet50")


def test_an_unknown_network_is_refused_with_what_separates_it_from_the_nearest() -> None:
    with pytest.raises(ArchitectureError) as refusal:
        recognise(network_shapes(RESNET34))
    message = str(refusal.value)
    assert "\n" not in message
    assert "`model='package.module:factory'`" in message
    # Against plain ResNet-18: eight blocks more, of two convolutions and two BatchNorms of five entries each.
    assert f"resnet18_plain: {8 * 2 * (1 + 5)} unexpected" in message
    assert message.index("resnet18_plain:") < message.index("resnet18:")
    assert re.search(r"resnet18: \d+ missing \(layer3\..*\), \d+ unexpected", message)


def test_differing_names_are_listed_shortest_first() -> None:
    with pytest.raises(ArchitectureError) as refusal:
        recognise(network_shapes(RESNET34), "resnet18")
    lists = [names.split(", ") for names in re.findall(r"\((l[^()]*), …\)", str(refusal.value))]
    assert len(lists) == 2  # missing, unexpected
    for names in lists:
        assert [len(name) for name in names] == sorted(len(name) for name in names)


@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")
@pytest.mark.parametrize(
    "shapes",
    [
        {},
        {"weight": (3, 3)},
        {"conv1.weight": (64,), "fc.weight": ()},
        {**torchvision_resnet18(), "fc.weight": ()},
        {**torchvision_resnet18(), "conv1.weight": (64, 3)},
        {**torchvision_resnet18(), "layer1.0.conv1.weight": ()},
        {**torchvision_resnet18(), "layer1.0.conv1.weight": (0, 64, 3, 3)},
    ],
    ids=["nothing", "one weight", "too few axes", "scalar head", "flat stem", "scalar block", "empty block"],
)
def test_shapes_that_make_no_sense_are_refused_and_not_fatal(shapes: Shapes) -> None:
    with pytest.raises(ArchitectureError, match="fits no known architecture"):
        recognise(shapes)


def test_comparing_reports_missing_unexpected_and_reshaped_names() -> None:
    expected: Shapes = {"a": (1,), "b": (2,), "c": (3,), "bn.num_batches_tracked": ()}
    mismatch = compare(expected, {"a": (1,), "b": (4,), "d": (5,)})
    assert (mismatch.missing, mismatch.unexpected, mismatch.reshaped) == (("c",), ("d",), ("b",))
    assert str(mismatch) == "1 missing (c), 1 unexpected (d), 1 of another shape (b)"
    assert not compare(expected, expected)


@pytest.mark.parametrize("architecture", [*ARCHITECTURES.values(), *RESIZED.values()], ids=[*ARCHITECTURES, *RESIZED])
def test_a_record_read_back_from_json_gives_the_same_architecture(architecture: Architecture) -> None:
    assert from_record(json.loads(json.dumps(to_record(architecture)))) == architecture


def test_a_record_of_an_unknown_architecture_is_refused() -> None:
    record = {**to_record(ARCHITECTURES["resnet18"]), "name": "resnet19"}
    with pytest.raises(ArtifactError, match="unknown architecture 'resnet19'"):
        from_record(record)
