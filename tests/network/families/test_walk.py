"""The walk of docs/adding-an-architecture.md, with the code that is on that page: one file and one entry."""

from __future__ import annotations

import importlib.util
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch

import kdna_deploy as kd
from kdna_deploy.network.architecture import Architecture
from kdna_deploy.network.backbone import KernelDNA
from kdna_deploy.network.configuration import configured
from kdna_deploy.network.families import ARCHITECTURES
from kdna_deploy.network.recognise import network_shapes, recognise
from tests.conftest import REPOSITORY

FILE, ENTRY = re.findall(
    r"```python\n(.*?)```", (REPOSITORY / "docs" / "adding-an-architecture.md").read_text(encoding="utf-8"), re.DOTALL
)


@pytest.fixture
def entry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Architecture:
    """Of the page, in the table."""
    family = imported(tmp_path / "convmixer.py", monkeypatch)
    names = {"Architecture": Architecture, "KernelDNA": KernelDNA, "ConvMixerSpec": family.ConvMixerSpec}
    added = eval(ENTRY, names)  # the page's own
    for one in (added, added.plain):
        monkeypatch.setitem(ARCHITECTURES, one.name, one)
    return added


def imported(path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    path.write_text(FILE, encoding="utf-8")
    spec = importlib.util.spec_from_file_location("walk_convmixer", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    return module


def variants(entry: Architecture) -> Iterator[Architecture]:
    yield entry
    yield entry.plain
    for words in ({"layout": "F-S-S-F"}, {"layout": "F-F-F"}, {"reductions": 4, "scale": 0.5}, {"channel": False}):
        yield entry.configured(configured(None, words))  # type: ignore[arg-type]


@pytest.mark.slow
def test_it_is_recognised_in_every_configuration(entry: Architecture) -> None:
    for one in variants(entry):
        assert recognise(network_shapes(one)) == one


@pytest.mark.slow
def test_it_is_deployed(entry: Architecture, tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = entry.configured(configured(None, {"scale": 1 / 16})).build()
    torch.save(network.state_dict(), tmp_path / "net.pt")
    fused = kd.fuse(tmp_path / "net.pt", input_size=28, children="share")
    assert [parent.children for parent in fused.fused.ledger.parents] == [
        (f"blocks.kids.{index}.bn2",) for index in range(3)
    ]
    file = kd.export(fused, tmp_path / "net.onnx", simplify=False)
    assert kd.verify(file.path).passed  # from the checkpoint, by the table
