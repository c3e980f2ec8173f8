"""A handful of the odd networks through the real command, with ``--model``."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from tests.conftest import REPOSITORY, Cli
from tests.odd import flow, interfaces, values
from tests.odd.case import train

pytestmark = pytest.mark.slow

_THEMES = {theme.__name__: theme for theme in (flow, interfaces, values)}


def _weights(reference: str, folder: Path) -> Path:
    theme, _, name = reference.partition(":")
    torch.manual_seed(0)
    network = _THEMES[theme].TABLE[name].build()
    train(network)
    torch.save(network.state_dict(), folder / "weights.pth")
    return folder / "weights.pth"


@pytest.mark.slow
@pytest.mark.parametrize("reference", ["tests.odd.flow:prints", "tests.odd.interfaces:head_first_one_channel"])
def test_export_prints_one_document_whatever_the_network_prints(reference: str, cli: Cli, tmp_path: Path) -> None:
    weights = _weights(reference, tmp_path)
    done = cli("export", weights, "--model", reference, "--input-size", "10x12", "--json", PYTHONPATH=str(REPOSITORY))
    assert done.returncode == 0, done.stderr
    agreements = json.loads(done.stdout)["agreements"]
    assert [agreement["batch"] for agreement in agreements[:3]] == [1, 2, 5]
    assert all(agreement["passed"] for agreement in agreements)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "reference", "code", "said"),
    [
        ("inspect", "tests.odd.interfaces:two_outputs", 3, "a tuple of 2 tensors"),
        ("fuse", "tests.odd.flow:exits", 3, "sys.exit(0)"),
        ("fuse", "tests.odd.values:remembering", 3, "changes its own state ('memory')"),
        ("export", "tests.odd.flow:deaf_norm", 3, "stays in training mode after eval()"),
    ],
)
def test_a_refusal_is_one_sentence(
    command: str, reference: str, code: int, said: str, cli_here: Cli, tmp_path: Path
) -> None:
    weights = _weights(reference, tmp_path)
    done = cli_here(command, weights, "--model", reference, "--input-size", "10x12", PYTHONPATH=str(REPOSITORY))
    assert done.returncode == code
    assert said in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert done.stdout == ""
    assert list(tmp_path.iterdir()) == [weights]
