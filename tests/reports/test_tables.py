"""What tables say of channel attention that was frozen or dropped, in words and layer by layer."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from rich.console import Console

from kdna_deploy.graph.freezing import AttentionChoice, AttentionOptions
from kdna_deploy.reports.attention import attention_parts
from kdna_deploy.reports.report import Report
from kdna_deploy.reports.terminal import rendered as shown
from kdna_deploy.targets.fuse import Fused, FuseOptions, fuse
from tests.gated import Gated

SHAPE = (3, 9, 9)


def fused(choice: AttentionChoice, below: float | None = None) -> Fused:
    torch.manual_seed(0)
    images = np.random.default_rng(0).standard_normal((6, *SHAPE), dtype=np.float32)
    batches = None if choice == "keep" else (lambda: [images])
    return fuse(Gated().eval(), SHAPE, FuseOptions(attention=AttentionOptions(choice, batches, below)))


def rendered(choice: Fused | None) -> str:
    text = io.StringIO()
    Console(width=100, file=text, color_system=None).print(shown(Report(attention_parts(choice), {})))
    return " ".join(text.getvalue().split())


@pytest.mark.slow
@pytest.mark.parametrize(("choice", "fate"), [("freeze", "frozen"), ("drop", "dropped")])
def test_every_gate_is_listed_with_its_fate_and_the_change_is_told(choice: AttentionChoice, fate: str) -> None:
    found = fused(choice)
    text = rendered(found)
    assert found.change is not None
    assert text.count(f" {fate} ") == 2
    for gate in found.freezing.statistics:
        assert f"{gate.variance**0.5:.4f}" in text and f"{gate.explained:.1%}" in text
    assert f"NOT equivalent to the trained one: over {found.change.images} images" in text
    assert f"top-1 is the same for {found.change.same_top1} of 6" in text


@pytest.mark.slow
def test_a_gate_that_varies_more_than_was_allowed_is_kept() -> None:
    low, high = sorted(gate.variance for gate in fused("freeze").freezing.statistics)
    text = rendered(fused("freeze", (low + high) / 2))
    assert (text.count(" frozen "), text.count(" kept ")) == (1, 1)


@pytest.mark.slow
def test_nothing_is_said_of_channel_attention_that_was_kept() -> None:
    assert attention_parts(None) == attention_parts(fused("keep")) == ()
