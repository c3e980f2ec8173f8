"""Odd networks of users, from their weights to the numbers that ONNX Runtime returns, or to a refusal in one sentence.

A network that goes through is loaded from its state dict, fused, written as ``.pt2`` and read again, exported, and run
on ONNX Runtime. Every output column must be right to 1e-4 of its spread over images, at batches of one and three.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.parameter import is_lazy

from kdna_deploy.errors import KdnaError
from kdna_deploy.graph.file import load_fused, save_fused
from kdna_deploy.runtimes.ort import OrtSession
from kdna_deploy.targets.onnx.export import export_fused
from kdna_deploy.targets.onnx.options import OnnxOptions
from kdna_deploy.targets.source import Request, fuse_checkpoint
from tests.odd import flow, interfaces, layers, values
from tests.odd.case import Case, train
from tests.tensors import random_images

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("translations_once")]

THEMES = (values, interfaces, layers, flow)
CASES = [
    pytest.param(f"{theme.__name__}:{name}", case, id=name) for theme in THEMES for name, case in theme.TABLE.items()
]
RIGHT = 1e-4
# Of an output that hardly varies: behind the 12 residual layers of `deep` it was 24 off, on a processor with AVX2.
LAST_PLACES = 32


@pytest.fixture(autouse=True)
def _same_afterwards() -> Iterator[None]:
    """Some of the networks change settings of the process; the tests after them must not notice."""
    yield
    torch.set_default_dtype(torch.float32)
    torch.set_grad_enabled(True)


@pytest.mark.parametrize(("reference", "case"), CASES)
def test_it_is_right_or_refused(reference: str, case: Case, tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = case.build()
    if any(is_lazy(parameter) for parameter in network.parameters()):
        network(torch.zeros(1, *case.shape))
    train(network)
    weights = tmp_path / "weights.pth"
    torch.save(_state(network), weights)
    if not case.refusal:
        _goes_through(reference, case, weights)
        return
    with pytest.raises(KdnaError) as error:
        _goes_through(reference, case, weights)
    sentence = str(error.value)
    assert error.value.exit_code == case.code
    assert case.refusal in sentence
    assert "\n" not in sentence
    assert len(re.findall(r"[.!?]\s+[A-Z]", sentence)) <= 1, sentence
    assert not [path for path in tmp_path.iterdir() if path != weights]


def _state(network: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in network.state_dict().items()}


def _goes_through(reference: str, case: Case, weights: Path) -> None:
    opened = fuse_checkpoint(weights, Request(factory=reference, size=case.shape[1:]))
    assert opened.graph.image_shape == case.shape
    fused, exported = weights.with_suffix(".pt2"), weights.with_suffix(".onnx")
    try:
        export_fused(opened, exported, OnnxOptions())
        save_fused(opened.graph, opened.provenance, fused)
        again = load_fused(fused).graph
    except KdnaError:
        fused.unlink(missing_ok=True)
        raise
    original = case.build()
    original.load_state_dict(torch.load(weights))
    original = (original.double() if case.rounds else original.float()).eval()
    session = OrtSession(exported)
    spread = _run(original, random_images(16, case.shape, seed=7)).std(0)
    for batch in (1, 3):
        images = random_images(batch, case.shape, seed=batch)
        expected = _run(original, images)
        # An output that hardly varies cannot be asked for more than the last places of a float32.
        last_places = LAST_PLACES * 2.0**-24 * np.abs(expected).max(0)
        allowed = np.maximum(RIGHT * np.maximum(spread, spread.max() / 100), last_places)
        for got in (session.run(images.numpy()), again(images).numpy()):
            assert got.shape == expected.shape
            assert (np.abs(got.astype(np.float64) - expected) <= allowed).all()


def _run(original: nn.Module, images: torch.Tensor) -> np.ndarray:
    """Output of `original`, out of whatever it is wrapped in."""
    try:
        with torch.no_grad(), torch.compiler.set_stance("force_eager"):
            returned = original(images.clone().to(next(original.parameters()).dtype))
    finally:
        torch.set_default_dtype(torch.float32)  # some networks change it
    (output,) = [leaf for leaf in torch.utils._pytree.tree_leaves(returned) if isinstance(leaf, torch.Tensor)]
    return output.detach().double().numpy()
