"""What results of the verbs show of themselves, and how their figures are reached in a notebook."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import kdna_deploy as kd
from kdna_deploy.errors import UsageError
from kdna_deploy.figures.drawing import svg
from kdna_deploy.figures.of_results import of_bench, of_sweep
from kdna_deploy.graph.ledger import Ledger
from kdna_deploy.selection.result import (
    Baseline,
    Contender,
    Figures,
    Interval,
    Limits,
    Sweep,
    SweptImages,
    SweptNetwork,
)
from kdna_deploy.verbs.load import LoadedNetwork
from tests.conftest import SAMPLES
from tests.graph.test_sharing_map import inspected
from tests.reports.test_bench_reports import FULL, PLAIN
from tests.samples import RESNET, SIZE, sample_path

STATES = ("float", "int8", "slow")


@pytest.fixture(scope="module")
def network() -> LoadedNetwork:
    return LoadedNetwork(inspected(RESNET).network, SIZE)


@pytest.mark.slow
def test_a_loaded_network_shows_what_it_shares(network: LoadedNetwork) -> None:
    sharing, spatial, filters = network.drawings
    assert [one.name for one in network.drawings] == ["sharing", "spatial-attention", "filter-attention"]
    ledger: Ledger = network.inspect().inspection.ledger
    text = svg(sharing)
    assert "FS-SF-SF" in text and f"stored: {ledger.storage.unique_bytes:,} bytes" in text
    assert f"with a kernel each: {ledger.storage.materialised_bytes:,} bytes" in text
    texts = (text, svg(spatial), svg(filters))
    for child in (child for parent in ledger.parents for child in parent.children):
        assert all(child in one for one in texts)


def test_axes_are_those_of_matplotlib(network: LoadedNetwork) -> None:
    cells, bars = network.axes()
    assert [label.get_text() for label in cells.get_yticklabels()][:2] == ["layer3 FS-SF-SF", "layer4 FS-SF-SF"]
    bars.set_title("mine")
    assert len(network.axes("spatial-attention")) == 6 + 1, "a panel a child, and the colours"
    with pytest.raises(UsageError, match="no figure 'front' of this result; it has sharing, spatial-attention"):
        network.axes("front")
    with pytest.raises(UsageError, match="nothing to draw"):
        kd.list().axes()


@pytest.mark.slow
def test_a_bench_shows_its_profiles_the_plain_backbone_first_and_its_roofline() -> None:
    times, roofline = of_bench(FULL)
    text = svg(times)
    assert text.index(PLAIN) < text.index("net.onnx") and "convolutions" in times.caption
    assert "GFLOP/s" in roofline.caption and all(name in svg(roofline) for name in (PLAIN, "net.onnx"))


def test_the_roofline_is_of_whole_inferences() -> None:
    def share(batch: int) -> float:
        *_, roofline = of_bench(replace(FULL, options=replace(FULL.options, batch=batch)))
        found = re.search(r"share of it, (\d+)%", roofline.caption)
        assert found
        return float(found[1])

    assert share(4) == pytest.approx(4 * share(1), abs=2)


def _swept(measured: bool = True) -> Sweep:
    candidates = tuple(
        Contender(
            *(name, f"{name}.onnx", "fp32", "same", "share", "keep", "onnxruntime", False, "measured"),
            figures=Figures(0.9 + i / 100, 0.0, 1.0, 10**6, 1.0 + i, Interval(1.0, None, None)) if measured else None,
        )
        for i, name in enumerate(STATES)
    )
    made = SweptNetwork("net", "net.pt", "", 1), SweptImages("images", "", "data", 50)
    return Sweep(*made, {}, Limits(), "latency", "", candidates, Baseline("plain", 10**6, 1.5), "int8", "", "")


def test_a_sweep_shows_its_front() -> None:
    (drawn,) = of_sweep(_swept())
    assert "recommended one is int8" in drawn.caption and "The baseline, plain, takes 1.5 ms" in drawn.caption
    assert all(f"{name}: " in svg(drawn) for name in STATES)
    assert of_sweep(_swept(measured=False)) == ()


@pytest.mark.slow
def test_an_evaluation_and_a_frozen_network_show_what_they_found(network: LoadedNetwork, tmp_path: Path) -> None:
    np.save(tmp_path / "few.npy", np.random.default_rng(0).standard_normal((4, 3, *SIZE), dtype=np.float32))
    fused = kd.fuse(network, attention="freeze", calibration=tmp_path / "few.npy")
    assert [one.name for one in fused.drawings] == ["channel-attention"]
    done = kd.evaluate(sample_path(RESNET), SAMPLES / "digits", input_size=SIZE, limit=10)
    (confusion,) = done.drawings
    assert f"{done.top1:.2%} are recognised" in confusion.caption
