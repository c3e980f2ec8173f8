"""The architectures compute what the published code computes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from kdna_deploy.network.load import load_network


@pytest.mark.slow
def test_logits_equal_those_of_the_published_code(
    arch: str,
    published: Callable[[str], Path],
    golden: Callable[[str], dict[str, np.ndarray]],
    images: np.ndarray,
) -> None:
    network = load_network(published(arch))
    with torch.no_grad():
        logits = network.module(torch.from_numpy(images)).numpy()
    assert np.abs(logits - golden(arch)["logits"]).max() <= 1e-4
