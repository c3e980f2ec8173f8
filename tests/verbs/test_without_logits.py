"""Networks that return something else than logits [n, classes]: written in float32, and refused where logits judge."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import kdna_deploy as kd
from kdna_deploy.runtimes.open import read_provenance

pytestmark = pytest.mark.slow


class Scored(nn.Module):
    """One number for each image, [n], as of a network that tells two classes apart; or a map, [n, 1, 6, 5]."""

    def __init__(self, mapped: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.mapped = nn.Conv2d(3, 1, 3), mapped
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        return y if self.mapped else y.mean((2, 3)).squeeze(1)


RETURNED = {False: r"\[n\]", True: r"\[n, 1, 6, 5\]"}


@pytest.fixture
def images(tmp_path: Path) -> Path:
    np.save(tmp_path / "i.npy", np.random.default_rng(0).standard_normal((12, 3, 8, 7), dtype=np.float32))
    return tmp_path / "i.npy"


@pytest.mark.parametrize("mapped", [False, True])
@pytest.mark.parametrize(
    ("words", "said"),
    [
        ({"precision": "int8", "calibration": "i.npy"}, '`precision="int8"` is judged by logits; choose fp32 or fp16'),
        ({"weights": "int8", "calibration": "i.npy"}, '`weights="int8"` is judged by logits; choose fp32 or fp16'),
        ({"weights": "int4"}, '`weights="int4"` is judged by logits; choose fp32 or fp16'),
    ],
)
def test_what_logits_judge_is_refused(
    images: Path, monkeypatch: pytest.MonkeyPatch, mapped: bool, words: dict[str, Any], said: str
) -> None:
    monkeypatch.chdir(images.parent)
    with pytest.raises(kd.UsageError, match=f"This network returns {RETURNED[mapped]}, and {said}"):
        kd.export(kd.load(Scored(mapped), input_size=(8, 7)), "net.onnx", **words)
    assert not Path("net.onnx").exists()


@pytest.mark.parametrize("mapped", [False, True])
def test_no_axis_is_recorded_as_one_of_classes(tmp_path: Path, mapped: bool) -> None:
    (tmp_path / "names.txt").write_text("a\nb\nc\nd\ne\n")
    fused = kd.fuse(kd.load(Scored(mapped), input_size=(8, 7)))
    done = kd.export(fused, tmp_path / "net.onnx", simplify=False)
    assert read_provenance(done.path).num_classes is None
    assert done.to_dict()["num_classes"] is None
    with pytest.raises(kd.UsageError, match=f"returns {RETURNED[mapped]} and no logits to be named"):
        kd.export(fused, tmp_path / "other.onnx", labels=tmp_path / "names.txt")
    assert not (tmp_path / "other.onnx").exists()
