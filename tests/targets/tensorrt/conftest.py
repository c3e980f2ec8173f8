"""Files to build engines from."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.targets.tensorrt.onnx_files import PublishedOnnx, write_published, write_small


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small network with a dynamic batch. Never write beside it."""
    return write_small(tmp_path_factory.mktemp("small") / "small.onnx")


@pytest.fixture(scope="session")
def published_onnx(
    published: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], PublishedOnnx]:
    """Architecture → its ONNX file at 224 px with a dynamic batch, children materialised."""
    made: dict[str, PublishedOnnx] = {}

    def make(arch: str) -> PublishedOnnx:
        if arch not in made:
            made[arch] = write_published(published(arch), tmp_path_factory.mktemp("onnx") / f"{arch}.onnx")
        return made[arch]

    return make
