"""What is said of an architecture, in words or in a file beside a checkpoint, decides what its weights leave open."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from kdna_deploy.errors import ArchitectureError, ArtifactError, UsageError
from kdna_deploy.network.architecture import Architecture
from kdna_deploy.network.configuration import UNSAID, Configuration, configured
from kdna_deploy.network.families import ARCHITECTURES
from kdna_deploy.network.families.resnet import BASIC_LAYOUTS
from kdna_deploy.network.load import load_network
from kdna_deploy.network.recognise import chosen_layouts, network_shapes, recognise
from kdna_deploy.network.record import configuration_of, from_record, to_record

STRANGER = "F-SF-SF-SF"  # of as many kernels as no layout of the paper


def architecture(name: str, **words: Any) -> Architecture:
    return ARCHITECTURES[name].configured(configured(name, words))


@pytest.fixture
def narrow(tmp_path: Path) -> Callable[..., Path]:
    """Architecture and words → a checkpoint of a sixteenth of the width."""

    def make(name: str = "resnet18", **words: Any) -> Path:
        torch.save(architecture(name, scale=1 / 16, **words).build().state_dict(), tmp_path / "net.pth.tar")
        return tmp_path / "net.pth.tar"

    return make


@pytest.mark.parametrize("layout", BASIC_LAYOUTS)
def test_the_papers_layouts_are_told_by_their_numbers_of_kernels_and_said(layout: str) -> None:
    asked = architecture("resnet18", layout=layout)
    shapes = network_shapes(asked)
    assert recognise(shapes) == asked
    said = chosen_layouts(asked, shapes, UNSAID)
    published = ARCHITECTURES["resnet18"].layouts["layer3"]
    assert said == (
        ()
        if layout == published
        else (
            f"layer3 and layer4 taken for {layout}, by the numbers of full kernels and children; `layout` says another",
        )
    )


@pytest.mark.parametrize(
    ("name", "layout"),
    [
        ("resnet50", "layer3=F-S-S-F,layer4=F-F-F"),
        ("resnet50", "layer2=F-S-F-S-F"),
        ("mobilenet_v2", "features.10=F-S-S-S-F,features.16=F-F"),
        ("mobilenet_v2", "features.13=F-S-F-S-F"),
        ("resnet18", "layer4=FS-FSF"),
    ],
)
def test_which_stages_share_is_told_by_their_names(name: str, layout: str) -> None:
    asked = architecture(name, layout=layout)
    assert recognise(network_shapes(asked)) == asked


def test_an_order_that_nothing_tells_must_be_said_and_is_kept_in_the_record() -> None:
    asked = architecture("resnet18", layout=STRANGER)
    shapes = network_shapes(asked)
    with pytest.raises(
        ArchitectureError, match=r"whose layer3 has full kernels \(4\) and children \(3\) in an order that is not in it"
    ):
        recognise(shapes)
    assert recognise(shapes, Configuration(layout=STRANGER)) == asked
    stored = json.loads(json.dumps(to_record(asked)))
    assert from_record(stored) == asked
    assert recognise(shapes, configuration_of(from_record(stored))) == asked


def test_what_is_said_decides_between_layouts_of_as_many_kernels() -> None:
    other = "FSSF-SF"  # as many as the published FS-SF-SF
    shapes = network_shapes(architecture("resnet18", layout=other))
    assert recognise(shapes).layouts == ARCHITECTURES["resnet18"].layouts
    assert recognise(shapes, configured(None, {"layout": {"layer3": other, "layer4": other}})).layouts == {
        "layer3": other,
        "layer4": other,
    }


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ({"arch": "resnet18", "layout": "FS-FSF"}, "resnet18, layout FS-FSF: "),
        ({"spatial": False}, "no spatial attention"),
        ({"arch": "resnet18", "scale": 0.5}, "resnet18, scale 0.5: "),
        ({"reductions": 8}, "reductions 8"),
        ({"arch": "resnet18_plain"}, "resnet18_plain: "),
    ],
)
def test_what_does_not_fit_is_refused_as_it_was_said(words: dict[str, Any], said: str) -> None:
    with pytest.raises(ArchitectureError, match=said):
        recognise(network_shapes(ARCHITECTURES["resnet18"]), configured(words.pop("arch", None), words))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ({"layout": "FS"}, "must begin and end with F"),
        ({"layout": "FX-F"}, "is not a layout"),
        ({"layout": ""}, "is not a layout"),
        ({"layout": "layer3=FF,FF"}, "neither one layout nor one a stage"),
        ({"layout": "=FF"}, "neither one layout nor one a stage"),
        ({"layout": "layer3=FF,layer3=FF"}, "neither one layout nor one a stage"),
        ({"layout": "layer9=FF"}, "There is no stage 'layer9'"),
        ({"layout": "\x1b[2J"}, "`layout` is no text"),
        ({"reductions": "0"}, "`reductions` '0' are no whole numbers"),
        ({"reductions": "4;24"}, "`reductions`"),
        ({"reductions": (4, 24)}, "`reductions` of resnet18 are 1, not 2"),
        ({"scale": 0}, "`scale` 0"),
        ({"scale": float("nan")}, "`scale` nan"),
        ({"arch": "mobilenet_v2", "spatial": True}, "have no spatial attention; leave `spatial` out"),
        ({"arch": "resnet18_plain", "layout": "FF-FF"}, "resnet18_plain shares no kernels; leave `layout` out"),
    ],
)
def test_words_that_make_no_sense_are_refused(words: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said.replace("[", r"\[")):
        recognise(network_shapes(ARCHITECTURES["resnet18"]), configured("resnet18", words))  # type: ignore[arg-type]


def test_a_word_that_there_is_not_is_a_mistake_of_the_caller() -> None:
    with pytest.raises(TypeError, match="layuot"):
        configured("resnet18", {"layuot": "FS-FSF"})  # type: ignore[typeddict-unknown-key]


def test_a_file_beside_the_checkpoint_says_it_and_the_user_says_more(narrow: Callable[..., Path]) -> None:
    path = narrow(layout=STRANGER, reductions=4)
    beside = path.with_name("net.arch.json")
    beside.write_text(json.dumps({"arch": "resnet18", "layout": {"layer3": STRANGER, "layer4": STRANGER}}))
    loaded = load_network(path)
    assert loaded.architecture is not None and loaded.architecture.layouts["layer4"] == STRANGER
    said = "the architecture is as net.arch.json says: resnet18, layout layer3=F-SF-SF-SF, layer4=F-SF-SF-SF"
    assert loaded.checkpoint.notes == (said,)
    other = "F-SFSF-SF"
    chosen = load_network(path, Configuration(layout=other)).architecture
    assert chosen is not None and chosen.layouts == {"layer3": other, "layer4": other}


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ('{"layuot": "FS-FSF"}', "there is no word 'layuot', only arch, layout, channel"),
        ('{"layout": "FS"}', "must begin and end with F"),
        ('{"layout": 3}', "`layout` is no text"),
        ('{"channel": "no"}', "channel is "),
        ('{"reductions": [4.5]}', "`reductions`"),
        ('{"scale": 1e999}', "scale is not finite"),
        ('{"arch": "\\u001b[2J"}', "arch is not of its form"),
        ('{"arch": "resnet18"', "Expecting"),
        ("[" * 60_000, "recursion|nested"),
        ("[]", "it is no object"),
        ("\xff", "decode"),
        (f'{{"arch": "{"x" * 70_000}"}}', "too long"),
    ],
)
def test_a_damaged_file_beside_the_checkpoint_is_refused_by_name(
    narrow: Callable[..., Path], content: str, why: str
) -> None:
    path = narrow()
    path.with_name("net.arch.json").write_bytes(content.encode("latin-1"))
    with pytest.raises(ArchitectureError, match=rf"net\.arch\.json' describes no architecture: .*({why})") as refused:
        load_network(path)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("layouts", {}),
        ("layouts", {"layer9": "FF"}),
        ("layouts", {"layer3": "SF"}),
        ("layouts", {"layer3": "FF,layer4=FF"}),
        ("attentions", ["spatial", "channel"]),
        ("reductions", [4]),
        ("widths", [1, 2]),
    ],
)
def test_a_record_of_what_cannot_be_is_refused(field: str, value: Any) -> None:
    record = {**to_record(ARCHITECTURES["mobilenet_v2"]), field: value}
    with pytest.raises(ArtifactError, match="mobilenet_v2"):
        from_record(record)


@pytest.mark.parametrize(
    ("name", "scale", "widths"),
    [
        ("mobilenet_v2", 0.5, ARCHITECTURES["mobilenet_v2_1d2"].backbone.widths),
        ("mobilenet_v2", 1.4, (48, 24, 32, 48, 88, 136, 224, 448, 1792)),  # as torchvision widens it
        ("resnet18", 0.25, (16, 16, 32, 64, 128)),
    ],
)
def test_a_scale_multiplies_the_published_widths(name: str, scale: float, widths: tuple[int, ...]) -> None:
    scaled = architecture(name, scale=scale)
    assert scaled.backbone.widths == widths
    assert recognise(network_shapes(scaled), Configuration(name, scale=scale)) == scaled
