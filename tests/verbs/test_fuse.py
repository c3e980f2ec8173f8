"""`fuse` as the library has it: what it may not write over."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from torch import nn

import kdna_deploy as kd
from kdna_deploy.errors import InputError, UsageError
from kdna_deploy.network.checkpoint import Checkpoint
from kdna_deploy.network.load import Network
from kdna_deploy.verbs.load import LoadedNetwork


@pytest.mark.parametrize("verb", [kd.fuse, kd.export])
def test_the_base_of_adapters_is_an_input(tmp_path: Path, verb: Callable[..., object]) -> None:
    """It is refused before anything is loaded, so that what lies in the files does not matter."""
    given, base = tmp_path / "adapters.pt", tmp_path / "vit.onnx"
    for path in (given, base):
        path.write_bytes(b"weights")
    with pytest.raises(UsageError, match=r"vit\.onnx' is the input itself"):
        verb(given, base, base=base)
    assert base.read_bytes() == b"weights"


def test_so_is_one_that_a_file_beside_the_adapters_names(tmp_path: Path) -> None:
    given, base = tmp_path / "adapters.pt", tmp_path / "vit.safetensors"
    for path in (given, base):
        path.write_bytes(b"weights")
    described = tmp_path / "adapters.arch.json"
    described.write_text('{"base": "vit.safetensors"}')
    with pytest.raises(UsageError, match=r"vit\.safetensors' is the input itself; .* `save_merged`"):
        kd.fuse(given, save_merged=base)
    described.write_text("{")  # told when the network is loaded
    with pytest.raises(InputError, match=r"adapters\.pt'"):
        kd.fuse(given, save_merged=base)
    assert base.read_bytes() == b"weights"


@pytest.fixture
def loaded(tmp_path: Path) -> LoadedNetwork:
    """Adapters of one file beside the network of another."""
    files = (tmp_path / "adapters.safetensors", tmp_path / "vit.bin")
    for path in files:
        path.write_bytes(b"weights")
    adapters, base = (Checkpoint(path, "0" * 64, {}) for path in files)
    return LoadedNetwork(Network(nn.Identity(), replace(adapters, base=base)))


def test_so_is_every_file_that_a_network_was_loaded_from(tmp_path: Path, loaded: LoadedNetwork) -> None:
    with pytest.raises(UsageError, match=r"adapters\.safetensors' is the input itself; .* `save_merged`"):
        kd.fuse(loaded, save_merged=tmp_path / "adapters.safetensors")
    (tmp_path / "link.safetensors").symlink_to("vit.bin")
    with pytest.raises(UsageError, match=r"link\.safetensors' is the input itself; .* `save_merged`"):
        kd.fuse(loaded, save_merged=tmp_path / "link.safetensors")
    with pytest.raises(UsageError, match=r"vit\.bin' is the input itself"):
        kd.export(loaded, tmp_path / "vit.xml", openvino=True)
    assert (tmp_path / "vit.bin").read_bytes() == b"weights"
