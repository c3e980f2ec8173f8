"""Files to build engines from."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.targets.tensorrt.onnx_files import write_small


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small network with a dynamic batch. Never write beside it."""
    return write_small(tmp_path_factory.mktemp("small") / "small.onnx")
