"""Every published network builds with TensorRT-RTX at 224 px, and its plan is accounted for to the byte."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from kdna_deploy.tensorrt.engine_export import export_engine
from kdna_deploy.tensorrt.library import OpenedLibrary
from tests.samples import PRESCALES
from tests.tensorrt.onnx_files import PublishedOnnx

pytestmark = pytest.mark.slow


def test_a_published_network_builds_and_its_copies_of_parents_are_told(
    rtx: OpenedLibrary, published_onnx: Callable[[str], PublishedOnnx], arch: str, tmp_path: Path
) -> None:
    source = published_onnx(arch)
    made = export_engine(source.path, tmp_path / f"{arch}.rtx.engine")
    kernels = made.inspection.kernels
    print(
        f"\n{arch}: engine {made.bytes / 1e6:.2f} MB, {kernels.found} kernels of {kernels.bytes / 1e6:.2f} MB in it, "
        f"{len(kernels.duplicated)} parents stored more than once ({kernels.duplicated_bytes / 1e6:.2f} MB of copies)"
    )
    checkpoint = source.checkpoint
    assert kernels.convolutions == kernels.found == checkpoint.convolutions
    assert kernels.not_found == ()
    assert kernels.bytes == checkpoint.materialised_bytes
    # TensorRT knows no modulation: of every parent it stores what its children were multiplied out to.
    assert kernels.duplicated_bytes == checkpoint.materialised_bytes - checkpoint.unique_bytes
    copies = sum(len(names) - 1 for names in kernels.duplicated)
    assert copies == checkpoint.convolutions - checkpoint.kernels
    assert len(made.inspection.convolutions) == checkpoint.convolutions
    assert len(made.inspection.prescales) == PRESCALES[arch]
    assert made.record.warnings == ()
