"""A fused graph in which attention is fixed, exported as it is, or with its attention again where that is asked for."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import onnx
import pytest
import torch

import kdna_deploy as kd
from kdna_deploy.runtimes.open import read_provenance
from tests.conftest import Cli
from tests.gated import Gated

pytestmark = pytest.mark.slow
MODEL = ("--model", "tests.gated:Gated")


@pytest.fixture
def dropped(tmp_path: Path, cli_here: Cli) -> Path:
    torch.manual_seed(0)
    torch.save(Gated().state_dict(), tmp_path / "gated.pth")
    words = ("--input-size", "16", "--attention", "drop", "--yes-drop")
    assert cli_here("fuse", "gated.pth", *MODEL, *words).returncode == 0
    return tmp_path / "gated.fused.pt2"


def gates(path: Path) -> int:
    return Counter(node.op_type for node in onnx.load(path).graph.node)["Sigmoid"]


def test_it_is_as_fused_unless_it_is_asked_for(dropped: Path, tmp_path: Path, cli_here: Cli) -> None:
    assert cli_here("export", dropped, *MODEL, "-o", "as-fused.onnx").returncode == 0
    kept = cli_here("export", dropped, *MODEL, "--attention", "keep", "-o", "kept.onnx")
    assert kept.returncode == 0 and "fused again from gated.pth" in kept.stderr
    plain = cli_here("export", "gated.pth", *MODEL, "--input-size", "16", "-o", "plain.onnx")
    assert "fused again" not in plain.stderr
    counts = [gates(tmp_path / f"{name}.onnx") for name in ("as-fused", "kept", "plain")]
    assert counts == [0, counts[2], counts[2]] and counts[2] > 0
    assert [
        read_provenance(tmp_path / f"{name}.onnx").options["channel_attention"] for name in ("as-fused", "kept")
    ] == ["drop", "keep"]
    for name in ("as-fused", "kept"):
        assert cli_here("export", dropped, *MODEL, "--check", f"{name}.onnx").returncode == 0, name


def test_what_keeps_its_attention_is_not_fused_again(tmp_path: Path) -> None:
    fused = kd.fuse(kd.load(Gated().eval(), input_size=16))
    file = kd.export(fused, tmp_path / "net.onnx", attention="keep", simplify=False)
    assert file.source is not None and file.source.notes == fused.source.notes


def test_a_network_in_memory_has_its_attention_again(tmp_path: Path) -> None:
    fused = kd.fuse(kd.load(Gated().eval(), input_size=16), attention="drop")
    kept = kd.export(fused, tmp_path / "kept.onnx", attention="keep", children="share", simplify=False)
    assert kept.source is not None and kept.source.provenance.options["channel_attention"] == "keep"
    with pytest.raises(kd.UsageError, match="`attention` is said twice"):
        kd.export(fused, tmp_path / "net.onnx", attention="keep", channel_attention="drop")
