"""Checkpoints in the published layout, made once a run, and the command line as a user types it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from tests import warm_process
from tests.built_once import build_once
from tests.data.fill import ARCHITECTURES, HERE, checkpoint, golden_input
from tests.gpu import no_gpu

REPOSITORY = Path(__file__).resolve().parent.parent
SAMPLES = REPOSITORY / "sample_checkpoints"

# On a busy machine, threads that spin while they wait cost far more than they gain on networks this small.
torch.set_num_threads(1)
build_once()

SUMMARY = "summary"  # property of a test whose value is a line to be printed after the run


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what tests found out beside passing."""
    reports = terminalreporter.stats.get("passed", [])
    lines = [value for report in reports for name, value in report.user_properties if name == SUMMARY]
    if lines:
        terminalreporter.section("engines built")
        terminalreporter.write_line("\n".join(sorted(lines)))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what needs a GPU where there is none, with the reason."""
    reason = no_gpu() or (None if torch.cuda.is_available() else f"PyTorch {torch.__version__} cannot use the GPU")
    if reason:
        for item in items:
            if item.get_closest_marker("gpu"):
                item.add_marker(pytest.mark.skip(reason=f"needs a GPU: {reason}"))


@pytest.fixture(scope="session", params=ARCHITECTURES)
def arch(request: pytest.FixtureRequest) -> str:
    """Each published architecture in turn."""
    return request.param


@pytest.fixture(scope="session")
def published(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Architecture → path of its checkpoint, container and prefix as published. Never write beside it."""
    folder = tmp_path_factory.mktemp("published")

    def make(arch: str) -> Path:
        path = folder / f"kdna_{arch}.pth.tar"
        if not path.exists():
            torch.save(checkpoint(arch), path)
        return path

    return make


@pytest.fixture(scope="session")
def golden() -> Callable[[str], dict[str, np.ndarray]]:
    """Architecture → outputs of the published code: ``logits`` for `golden_input()`, ``mean:<module>``."""

    def read(arch: str) -> dict[str, np.ndarray]:
        with np.load(HERE / "golden" / f"{arch}.npz") as stored:
            return {name: stored[name] for name in stored.files}

    return read


@pytest.fixture(scope="session")
def images() -> np.ndarray:
    """The two images [2, 3, 224, 224] that the golden logits belong to."""
    return golden_input().numpy()


Cli = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    """Run ``kdna-deploy`` in an empty folder, as a process of its own (`tests.warm_process`)."""

    def run(*arguments: str | Path, cwd: Path = tmp_path, **environment: str) -> subprocess.CompletedProcess[str]:
        return warm_process.run(list(map(str, arguments)), cwd, {**os.environ, **warm_process.THREADS, **environment})

    return run
