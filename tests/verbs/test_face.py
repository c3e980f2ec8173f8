"""The library's face: verbs with the command line's words and defaults, for files and for modules."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import kdna_deploy as kd
from kdna_deploy.cli.app import COMMANDS
from kdna_deploy.network.configuration import Words
from tests.cli.handed import commands
from tests.samples import RESNET, sample_path

pytestmark = pytest.mark.usefixtures("fused_once")

VERBS: dict[str, Callable[..., Any]] = {name: getattr(kd, name) for name in ("load", *COMMANDS)}
# What only a command needs (a confirmation, a form of output, another thing to do), and only a verb; earlier names are
# further names of an option.
OF_COMMANDS = {
    "json",
    "yes_drop",
    "onnx",
    "check",
    "compare",
    "ckpt",
    "model_file",
    "models",
    "inputs",
    "data",
    "images",
    "server",
}
OF_VERBS = {
    "network",
    "source",
    "file",
    "models",
    "inputs",
    "output",
    "listener",
    "data",
    "images",
    "server",
    "channel_attention",
}


def small() -> nn.Module:
    torch.manual_seed(0)
    layers = (nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return nn.Sequential(*layers, nn.Linear(4, 3)).eval()


def test_the_package_offers_its_verbs_and_its_errors() -> None:
    offered = {name for name in dir(kd) if not name.startswith("_")}
    assert {name for name in offered if name.islower()} == set(VERBS)
    assert all(issubclass(getattr(kd, name), kd.KdnaError) for name in offered if name.endswith(("Error", "Failure")))
    assert resources.files("kdna_deploy").joinpath("py.typed").is_file()
    with pytest.raises(AttributeError, match="no attribute 'convert'"):
        _ = kd.convert


@pytest.mark.parametrize("name", [name for name in VERBS if name != "load"])
def test_a_verb_has_the_words_and_the_defaults_of_its_command(name: str) -> None:
    options = {one.name: one.default for one in commands()[name].params if one.name not in OF_COMMANDS}
    words = {one.name: one.default for one in inspect.signature(VERBS[name]).parameters.values()}
    if words.pop("architecture", None):  # further words, by name
        words |= dict.fromkeys(Words.__annotations__)
    assert options.keys() - {"output", "source"} == words.keys() - OF_VERBS
    for word in options.keys() & words.keys() - {"output"}:
        default = getattr(options[word], "value", options[word])
        assert (default or None) == (words[word] or None), word  # nothing, and an empty list of a command


@pytest.mark.parametrize(
    ("verb", "words", "said"),
    [
        ("fuse", {"children": "bogus"}, "`children` is 'bogus'; choose 'materialize' or 'share'"),
        ("fuse", {"attention": "thaw"}, "`attention` is 'thaw'; choose 'keep', 'freeze' or 'drop'"),
        ("fuse", {"attention": "freeze"}, "name a folder of them"),
        ("fuse", {"channel_attention": "freeze"}, "name a folder of them"),
        ("export", {"attention": "freeze", "channel_attention": "drop"}, "`attention` is said twice"),
        ("fuse", {"input_size": "wide"}, "'wide' is not an image size"),
        ("fuse", {"mean": "dark"}, "`mean` 'dark' is not a list of numbers"),
        ("export", {"precision": "fp8"}, "`precision` is 'fp8'; choose 'fp32', 'fp16' or 'int8'"),
        ("export", {"precision": "int8"}, "needs images like those the network will see"),
        ("export", {"target": "tpu"}, "`target` is 'tpu'"),
        ("export", {"workers": 2}, "`workers` and `ray` judge what is in int8 or int4; leave them out"),
        ("export", {"batch": 0}, "'0' is not a batch size"),
        ("export", {"tf32": False}, "`tf32=False`, `compute_capability` and `layers` concern engines"),
        ("bench", {"protocol": "quick"}, "`protocol` is 'quick'"),
        ("bench", {"streams": 2}, "belong to `gpu`"),
        ("bench", {"methods": "kw"}, "`methods` belongs to `suite='table1'`"),
        ("bench", {"suite": "table1", "methods": "kw,foo"}, "`methods` is 'foo'; choose 'se', 'cbam', 'eca', "),
        ("bench", {"runtime": ["tensorrt"]}, "runs on the GPU; add `gpu`"),
        ("run", {"images": ".", "top": 0}, "`top` is 0; give a number of classes from 1"),
        ("evaluate", {"batch_size": 0, "data": "."}, "`batch_size` is 0"),
        ("package", {"server": "nginx"}, "`server` is 'nginx'; choose 'triton', 'openvino-model-server', 'kserve', "),
        ("ship", {"targets": "tpu"}, "`targets` is 'tpu'; choose 'cpu', "),
        ("ship", {"targets": ["cpu-int8"]}, "name them with `calibration`"),
        ("ship", {"children": "bogus"}, "`children` is 'bogus'; choose 'materialize' or 'share'"),
        ("sweep", {"data": ".", "max_size": "10"}, "`max_size` '10' has no unit; write it as 10MB"),
        ("sweep", {"data": ".", "minimize": "cost"}, "`minimize` is 'cost'; choose 'latency', 'size' or 'memory'"),
        ("sweep", {"data": ".", "limit": 0}, "`limit` 0 is not a number above 0"),
        ("sweep", {"data": ".", "save": "figures.csv"}, "`save` writes JSON; name it figures.json"),
    ],
)
def test_a_word_that_there_is_not_is_refused_before_any_work(verb: str, words: dict[str, Any], said: str) -> None:
    with pytest.raises(kd.UsageError) as refused:
        VERBS[verb](sample_path(RESNET), **words)
    assert said in str(refused.value)
    assert "--" not in str(refused.value)


@pytest.mark.slow
def test_a_module_goes_all_the_way_and_is_not_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    module = small()
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    network = kd.load(module, input_size=8)
    fused = kd.fuse(network)
    assert fused.path is None and list(tmp_path.iterdir()) == []
    file = kd.export(fused)
    assert file.path == Path("network.onnx") and file.path.exists()
    assert kd.verify(file).passed  # against the network in memory
    with pytest.raises(kd.UsageError, match="holds the network of"):
        kd.verify(file.path)
    assert kd.verify(file.path, against=file.path).passed
    assert all(torch.equal(before[name], tensor) for name, tensor in module.state_dict().items())


def test_what_is_loaded_is_not_loaded_again() -> None:
    with pytest.raises(kd.UsageError, match="a module is loaded already"):
        kd.load(small(), ema=True)
    network = kd.load(small(), input_size=8)
    with pytest.raises(kd.UsageError, match="this network is loaded already"):
        kd.fuse(network, arch="resnet18")
    with pytest.raises(kd.UsageError, match="fused already"):
        kd.fuse(kd.fuse(network))
    with pytest.raises(kd.UsageError, match="lies in no file, and verify takes files"):
        kd.verify(network)
    with pytest.raises(kd.UsageError, match=r"A list is neither the file of a checkpoint nor a torch\.nn\.Module"):
        kd.load([])


@pytest.mark.slow
def test_a_fused_network_is_exported_with_other_children_than_it_has(tmp_path: Path) -> None:
    fused = kd.fuse(sample_path(RESNET), input_size=64, children="share")
    shared = kd.export(fused, tmp_path / "shared.onnx", simplify=False)
    apart = kd.export(fused, tmp_path / "apart.onnx", children="materialize", simplify=False)
    assert apart.path.stat().st_size > 1.5 * shared.path.stat().st_size


@pytest.mark.slow
def test_a_result_is_text_html_and_data() -> None:
    fused = kd.fuse(small(), input_size=8)
    assert "plain: nothing shared" in str(fused) == repr(fused)
    assert "<table>" in fused._repr_html_() and "plain: nothing shared" in fused._repr_html_()
    assert json.loads(json.dumps(fused.to_dict()))["kind"] == "fuse"
    with pytest.raises(AttributeError):
        fused.path = Path("elsewhere")  # type: ignore[misc]


@pytest.mark.slow
def test_attention_that_was_frozen_stays_so_whatever_the_children_become(tmp_path: Path) -> None:
    words = {"input_size": 64, "attention": "drop", "children": "share"}
    fused = kd.fuse(sample_path(RESNET), **words)  # type: ignore[arg-type]
    before = str(fused.source.graph.module.graph)
    file = kd.export(fused, tmp_path / "net.onnx", children="materialize", simplify=False)
    assert file.source is not None
    made = file.source.provenance.options
    assert (made["channel_attention"], made["children"]) == ("drop", "materialize")
    assert "Sigmoid" not in file.onnx.nodes  # type: ignore[union-attr]
    assert str(fused.source.graph.module.graph) == before
    apart = kd.fuse(sample_path(RESNET), input_size=64, attention="drop")
    with pytest.raises(kd.UsageError, match="fuse the checkpoint again with both choices"):
        kd.export(apart, tmp_path / "other.onnx", children="share")
