"""Gate statistics are those of all images at once, however they are batched."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from kdna_deploy.errors import InputError, UsageError
from kdna_deploy.graph.capture import capture
from kdna_deploy.graph.freezing import AttentionOptions, plan_freezing
from kdna_deploy.graph.gate_statistics import measure_gates
from kdna_deploy.graph.graph import Graph, cast_floats
from kdna_deploy.progress import SILENT
from tests.gated import Gated, folded


@pytest.fixture
def graph() -> Graph:
    torch.manual_seed(0)
    made = folded(Gated())
    cast_floats(made.module, torch.float32)
    return made


def _images(count: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((count, 3, 9, 9), dtype=np.float32)


def test_streamed_statistics_equal_those_of_the_gates_themselves() -> None:
    torch.manual_seed(0)
    module = Gated().eval()
    seen: list[torch.Tensor] = []
    module.gates[0].register_forward_hook(lambda _, __, out: seen.append(out.detach().double().flatten(1)))
    images = _images(11)
    with torch.no_grad():
        module(torch.from_numpy(images))
    first = measure_gates(capture(_without_hooks(module), (3, 9, 9)), [images[:4], images[4:5], images[5:]])[0]
    beta = seen[0]
    assert torch.allclose(first.mean.flatten(), beta.mean(0), rtol=1e-6)
    assert first.variance == pytest.approx(float(beta.var(0, correction=0).mean()), rel=1e-5)
    assert first.explained == pytest.approx(float(beta.mean(0).var(correction=0) / beta.var(correction=0)), rel=1e-5)


def _without_hooks(module: Gated) -> Gated:
    """A copy without the hook, which torch.export would trace."""
    copy = Gated()
    copy.load_state_dict(module.state_dict())
    return copy


@pytest.mark.slow
def test_a_gate_that_does_not_move_is_explained_by_its_mean(graph: Graph) -> None:
    same = np.repeat(_images(1), 6, axis=0)
    for row in measure_gates(graph, [same]):
        assert row.variance < 1e-12
        assert row.explained > 0.999


def test_no_images_and_nan_images_are_refused(graph: Graph) -> None:
    with pytest.raises(InputError, match="no calibration images"):
        measure_gates(graph, [])
    with pytest.raises(InputError, match="NaN"):
        measure_gates(graph, [np.full((2, 3, 9, 9), np.nan, np.float32)])


def test_freeze_below_freezes_only_the_gates_that_hardly_move(graph: Graph) -> None:
    images = _images(16)
    statistics = measure_gates(graph, [images])
    threshold = sum(row.variance for row in statistics) / 2
    plan = plan_freezing(graph, AttentionOptions("freeze", lambda: [images], threshold), SILENT)
    assert set(plan.gates) == {row.node for row in statistics if row.variance < threshold}
    assert 0 < len(plan.gates) < len(statistics)


def test_freezing_without_images_is_refused_and_dropping_is_not(graph: Graph) -> None:
    with pytest.raises(UsageError, match="with `calibration`"):
        plan_freezing(graph, AttentionOptions("freeze"), SILENT)
    with pytest.raises(UsageError, match="`freeze_below` goes with"):
        plan_freezing(graph, AttentionOptions("drop", below=1.0), SILENT)
    assert set(plan_freezing(graph, AttentionOptions("drop"), SILENT).gates.values()) == {None}
    assert not plan_freezing(graph, AttentionOptions("keep"), SILENT).gates
