"""A float32 file proves the fused graph that it was made of; where it cannot, or departs, the graph is compared."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import kdna_deploy as kd
from kdna_deploy.errors import ParityError
from kdna_deploy.targets import fuse as fusing
from kdna_deploy.targets.fused_rounding import measure_rounding
from tests.samples import RESNET, sample_path

pytestmark = pytest.mark.slow


@pytest.fixture
def compared(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What each comparison of the fused graph found."""
    found: list[float] = []

    def measured(*given: Any, **options: Any) -> Any:
        rounding = measure_rounding(*given, **options)
        found.append(rounding.fused_to_original)
        return rounding

    monkeypatch.setattr(fusing, "measure_rounding", measured)
    return found


@pytest.fixture
def wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    """The folding of a bias is off by a hundredth."""
    finish = fusing._finish

    def off(*given: Any) -> Any:
        graph, steps = finish(*given)
        with torch.no_grad():
            next(value for value in graph.module.state_dict().values() if value.ndim == 1).mul_(1.01)
        return graph, steps

    monkeypatch.setattr(fusing, "_finish", off)


def test_a_float32_file_proves_the_fused_graph_which_does_not_run(tmp_path: Path, compared: list[float]) -> None:
    done = kd.export(sample_path(RESNET), tmp_path / "net.onnx", input_size=64)
    assert [found.passed for found in done.onnx.agreements] == [True] * 6 and compared == []


@pytest.mark.parametrize("words", [{"weights": "fp16"}, {"batch": 2}, {"dynamic_size": True}, {"preprocess": "nchw"}])
def test_a_file_of_other_images_or_precision_leaves_that_to_the_graph(
    words: dict[str, Any], tmp_path: Path, compared: list[float]
) -> None:
    kd.export(sample_path(RESNET), tmp_path / "net.onnx", input_size=64, **words)
    assert len(compared) == 1


def test_where_folding_is_wrong_the_file_is_refused_and_the_graph_named(
    tmp_path: Path, compared: list[float], wrong: None
) -> None:
    with pytest.raises(ParityError, match=r"^The fused network differs from the original: .*please report this"):
        kd.export(sample_path(RESNET), tmp_path / "net.onnx", input_size=64)
    assert list(tmp_path.iterdir()) == [] and compared and compared[0] > 1e-3
