"""The checkpoint of a fused graph, where a user names it: whatever it is called, and no other."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

import kdna_deploy as kd
from kdna_deploy.errors import ArtifactError
from kdna_deploy.graph.file import save_fused
from tests.samples import RESNET, fused_sample, sample_path

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("fused_once", "float_files_once")]


@pytest.fixture
def fused(tmp_path: Path) -> Path:
    """A fused graph that does not know where its checkpoint lies."""
    opened, path = fused_sample(RESNET), tmp_path / "net.fused.pt2"
    save_fused(opened.graph, opened.provenance, path)
    return path


def test_a_checkpoint_that_was_moved_and_renamed_is_the_same(fused: Path, tmp_path: Path) -> None:
    moved = Path(shutil.copy(sample_path(RESNET), tmp_path / "renamed.pt"))
    done = kd.export(fused, tmp_path / "net.onnx", source=moved, simplify=False)
    assert done.source is not None and done.source.network.checkpoint.path == moved


def test_another_checkpoint_is_refused(fused: Path, tmp_path: Path) -> None:
    """Of the same network, with weights that are the same but one."""
    content = torch.load(sample_path(RESNET), weights_only=True)
    next(iter(content["state_dict"].values())).view(-1)[0] += 1e-6
    torch.save(content, tmp_path / "other.pt")
    with pytest.raises(ArtifactError) as refused:
        kd.export(fused, tmp_path / "net.onnx", source=tmp_path / "other.pt")
    said = (
        f"'{tmp_path / 'other.pt'}' is not '{sample_path(RESNET).name}', from which '{fused}' was made, or has changed"
    )
    assert str(refused.value).startswith(said)
    assert not (tmp_path / "net.onnx").exists()


def test_a_network_in_memory_has_no_other(tmp_path: Path) -> None:
    with pytest.raises(kd.UsageError, match="and this network is in memory; leave it out"):
        kd.export(kd.load(sample_path(RESNET)), tmp_path / "net.onnx", source=sample_path(RESNET))
