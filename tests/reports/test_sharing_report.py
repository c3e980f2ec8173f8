"""A child that is not shared is named with the reason: in the table of `fuse`, as a note of `export`, and in JSON."""

from __future__ import annotations

import pytest
import torch
from rich.console import Console

from kdna_deploy.reports.attention import attention_data
from kdna_deploy.reports.fuse import fuse_report
from kdna_deploy.reports.terminal import rendered
from kdna_deploy.targets.source import FusedSource, Request, open_fused_source
from tests.user_variant.network import build

REASON = "its modulation of stencil takes as much room as the copy that it saves; stored as a kernel of its own"


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> FusedSource:
    """The user's network, which has a depthwise child."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("variant") / "mine.pth"
    torch.save(build().state_dict(), path)
    return open_fused_source(path, Request(factory="tests.user_variant.network:build", size=(32, 32), children="share"))


@pytest.mark.slow
def test_export_notes_each_child_that_is_not_shared(shared: FusedSource) -> None:
    assert shared.notes == tuple(f"not shared: {site}: {REASON}" for site in ("norms.thin", "norms.wide"))


@pytest.mark.slow
def test_fuse_prints_each_child_that_is_not_shared(shared: FusedSource) -> None:
    assert shared.fused is not None
    console = Console(width=200)
    with console.capture() as printed:
        console.print(rendered(fuse_report(shared, None)))
    lines = [line.split(maxsplit=2) for line in printed.get().splitlines() if line.startswith("not shared")]
    assert [line[2].strip() for line in lines] == [f"{site}: {REASON}" for site in ("norms.thin", "norms.wide")]
    assert "not folded" not in printed.get()


def test_the_documents_of_both_list_each_child_that_is_not_shared(shared: FusedSource) -> None:
    assert shared.fused is not None
    expected = [{"site": site, "reason": REASON} for site in ("norms.thin", "norms.wide")]
    assert fuse_report(shared, None).data["not_shared"] == expected
    assert attention_data(shared.fused)["not_shared"] == expected
