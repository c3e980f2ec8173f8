"""A user's own KernelDNA variant goes from its state dict to a verified ONNX file through the real command."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import onnx
import pytest
import torch
from torch import nn

from kdna_deploy.graph.file import save_fused
from kdna_deploy.graph.provenance import provenance_of
from kdna_deploy.network.load import load_network
from kdna_deploy.targets.fuse import fuse
from tests.conftest import REPOSITORY, Cli
from tests.user_variant.network import GATES, NORM_CALLS, build

FACTORY = "tests.user_variant.network:build"
SIZE = 32


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """A bare state dict of the variant, its BatchNorm statistics those of its own activations."""
    torch.manual_seed(0)
    network = build().train()
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = None  # plain averages
            nn.init.uniform_(layer.weight, 0.5, 1.5)
            nn.init.normal_(layer.bias, 0.0, 0.1)
    with torch.no_grad():
        for _ in range(4):
            network(torch.randn(8, 3, SIZE, SIZE))
    torch.save(network.state_dict(), tmp_path / "mine.pth")
    return tmp_path / "mine.pth"


@pytest.mark.slow
def test_every_kernel_and_every_batchnorm_of_the_variant_is_found(weights: Path) -> None:
    fused = fuse(load_network(weights, factory=FACTORY).module, (3, SIZE, SIZE))
    parents = {parent.name: parent for parent in fused.ledger.parents}
    assert {name: (parent.layer is not None, len(parent.children)) for name, parent in parents.items()} == {
        "donor": (True, 1),
        "stencil": (True, 1),
        "bank_1": (True, 1),
        "echo.weight": (True, 1),
    }
    assert parents["donor"].children == ("norms.borrowed",)
    assert parents["bank_1"].layer == "norms.paid"
    assert fused.channel_attentions == GATES


@pytest.mark.slow
def test_the_variant_is_fused_exported_and_verified(weights: Path, cli_here: Cli) -> None:
    environment = {"PYTHONPATH": str(REPOSITORY)}
    done = cli_here("fuse", weights.name, "--model", FACTORY, "--input-size", str(SIZE), "--json", **environment)
    assert done.returncode == 0, done.stderr
    fused = json.loads(done.stdout)
    changed = {step["name"]: step["changed"] for step in fused["passes"]}
    assert changed["fold_batchnorm"] == NORM_CALLS
    assert [step["refused"] for step in fused["passes"]] == [[]] * len(fused["passes"])
    assert fused["channel_attentions"] == GATES
    assert sorted(parent["name"] for parent in fused["ledger"]["parents"]) == [
        "bank_1",
        "donor",
        "echo.weight",
        "stencil",
    ]
    assert all(len(parent["children"]) == 1 for parent in fused["ledger"]["parents"])

    done = cli_here("export", fused["output"], "--onnx", "--model", FACTORY, "--json", **environment)
    assert done.returncode == 0, done.stderr
    exported = json.loads(done.stdout)
    assert [agreement["batch"] for agreement in exported["agreements"]] == [1, 2, 5, 1, 1, 3]
    path = weights.parent / exported["output"]
    operators = Counter(node.op_type for node in onnx.load(path).graph.node)
    assert dict(operators) == exported["nodes"]
    assert operators["Mul"] == GATES, "a product is a pre-scale; no weight is multiplied at run time"
    assert operators["GlobalAveragePool"] == GATES + 1
    assert not set(operators) & {"BatchNormalization", "ReduceMean", "Shape", "Identity"}

    done = cli_here("verify", path.name, "--model", FACTORY, "--json", **environment)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["passed"] is True


@pytest.mark.slow
def test_code_of_the_variant_is_never_run_unasked(weights: Path, cli: Cli) -> None:
    network = load_network(weights, factory=FACTORY)
    graph = fuse(network.module, (3, SIZE, SIZE)).graph
    target = weights.with_name("mine.fused.pt2")
    save_fused(graph, provenance_of(network, graph.image_shape, GATES).beside(target, weights), target)
    done = cli("export", target.name, "--onnx", PYTHONPATH=str(REPOSITORY))
    assert done.returncode == 2
    assert f"--model {FACTORY}" in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(weights.parent.glob("*.onnx"))


@pytest.mark.slow
def test_a_network_built_by_a_file_is_remembered_by_every_artifact(
    weights: Path, cli_here: Cli, tmp_path: Path
) -> None:
    (tmp_path / "my code").mkdir()
    (tmp_path / "my code" / "net.py").write_text("from tests.user_variant.network import build\n")
    named = ("--model", str(tmp_path / "my code" / "net.py") + ":build")
    environment = {"PYTHONPATH": str(REPOSITORY)}
    assert cli_here("fuse", weights.name, *named, "--input-size", str(SIZE), **environment).returncode == 0
    unnamed = cli_here("export", "mine.fused.pt2", **environment)
    assert unnamed.returncode == 2
    assert "add --model 'my code/net.py:build' to let its code build the original" in unnamed.stderr
    done = cli_here("export", "mine.fused.pt2", "--model", "my code/net.py:build", **environment)
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines()[-1] == "next: kdna-deploy bench mine.onnx --model 'my code/net.py:build'"
    for name in ("mine.onnx", "mine.fused.pt2"):
        assert "--model 'my code/net.py:build'" in cli_here("verify", name, **environment).stderr
    again = cli_here("export", weights.name, "--check", "mine.onnx", *named, **environment)
    assert again.returncode == 0, again.stderr
