"""A column of −1e9, of a constant or of an infinity hides nothing: wrong weights in the other columns are caught.

Judged by the largest logit, as was done once, −1e9 would allow a difference of 1e5 everywhere.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, fx, nn

from kdna_deploy.errors import ParityError
from kdna_deploy.evaluation.verify import verify_files
from kdna_deploy.graph.file import save_fused
from kdna_deploy.graph.graph import WEIGHTED, Graph, calls, constant
from kdna_deploy.graph.passes import PassResult
from kdna_deploy.graph.provenance import Provenance
from kdna_deploy.targets import fuse as fusion
from kdna_deploy.targets.fuse import fuse
from kdna_deploy.targets.onnx.export import export_onnx
from kdna_deploy.targets.onnx.options import OnnxOptions

pytestmark = pytest.mark.slow

SHAPE = (3, 9, 9)
CLASSES = 6
MASKS = {"-1e4": -1e4, "-1e9": -1e9, "constant": 2.5, "-inf": float("-inf"), "inf": float("inf")}


class Masked(nn.Module):
    """A small classifier whose classes 2 and 5 are masked out; another leads always, so that top-1 tells nothing."""

    def __init__(self, mask: float, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.features = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU())
        self.fc = nn.Linear(8, CLASSES)
        self.mask = mask

    def forward(self, x: Tensor) -> Tensor:
        logits = self.fc(self.features(x).mean((2, 3)))
        masked = torch.tensor([False, False, True, False, False, True])
        leading = torch.tensor([0.0, 0.0, 0.0, 1e3, 0.0, 0.0])
        return (logits + leading).masked_fill(masked, self.mask)


def provenance() -> Provenance:
    return Provenance("net.pt", "0" * 64, None, "tests:none", False, SHAPE, 1, 1, 0)


@pytest.fixture(scope="module")
def graphs() -> dict[str, Graph]:
    return {name: fuse(Masked(mask, seed=0).eval(), SHAPE).graph for name, mask in MASKS.items()}


@pytest.mark.parametrize("mask", MASKS)
def test_export_catches_other_weights(mask: str, graphs: dict[str, Graph], tmp_path: Path) -> None:
    right, wrong = (Masked(MASKS[mask], seed).eval() for seed in (0, 1))
    options = OnnxOptions(simplify=False)
    export_onnx(graphs[mask], right, provenance(), tmp_path / "right.onnx", options)
    with pytest.raises(ParityError, match="nothing was written"):
        export_onnx(graphs[mask], wrong, provenance(), tmp_path / "wrong.onnx", options)
    assert [path.name for path in tmp_path.iterdir()] == ["right.onnx"]


@pytest.mark.parametrize("mask", MASKS)
def test_verify_catches_other_weights(mask: str, graphs: dict[str, Graph], tmp_path: Path) -> None:
    export_onnx(graphs[mask], Masked(MASKS[mask], 0).eval(), provenance(), tmp_path / "a.onnx", OnnxOptions())
    other = fuse(Masked(MASKS[mask], seed=1).eval(), SHAPE).graph
    save_fused(graphs[mask], provenance(), tmp_path / "same.pt2")
    save_fused(other, provenance(), tmp_path / "other.pt2")
    assert verify_files(tmp_path / "a.onnx", tmp_path / "same.pt2", None).passed
    assert not verify_files(tmp_path / "a.onnx", tmp_path / "other.pt2", None).passed


@pytest.mark.parametrize("mask", MASKS)
def test_fuse_catches_a_pass_that_moves_a_weight(mask: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def bug(module: fx.GraphModule) -> PassResult:
        constant(calls(module, WEIGHTED)[0].args[1]).mul_(1.001)
        return PassResult(1)

    finishing = fusion.finishing
    monkeypatch.setattr(fusion, "finishing", lambda *choices: (*finishing(*choices), ("bug", bug)))
    with pytest.raises(ParityError, match="differs from the original"):
        fuse(Masked(MASKS[mask], seed=0).eval(), SHAPE)
