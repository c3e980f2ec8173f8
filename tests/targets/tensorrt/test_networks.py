"""Every published network builds with TensorRT-RTX at 224 px in fp32, fp16 and int8, and its plan is accounted for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

from kdna_deploy.precision import GraphPrecision
from kdna_deploy.runtimes.nvidia.library import OpenedLibrary
from kdna_deploy.targets.onnx.half.convert import to_half
from kdna_deploy.targets.onnx.int8.quantize import calibrate, quantise
from kdna_deploy.targets.tensorrt.export import EngineExport, export_engine
from tests.conftest import SUMMARY
from tests.samples import PRESCALES
from tests.targets.onnx.passes import applied
from tests.targets.tensorrt.onnx_files import PublishedOnnx

pytestmark = pytest.mark.slow

PRECISIONS: tuple[GraphPrecision, ...] = ("fp32", "fp16", "int8")


def half(path: Path) -> onnx.ModelProto:
    model = onnx.load(path)
    applied(to_half, model)
    return model


def int8(path: Path) -> onnx.ModelProto:
    images = np.random.default_rng(0).standard_normal((8, 3, 224, 224)).astype(np.float32)
    return quantise(path, calibrate(path, [images], "minmax"), target="tensorrt")


def build(source: PublishedOnnx, precision: GraphPrecision, folder: Path) -> EngineExport:
    path = source.path
    if precision != "fp32":
        path = folder / f"{precision}.onnx"
        onnx.save(half(source.path) if precision == "fp16" else int8(source.path), path)
    return export_engine(path, folder / f"{precision}.rtx.engine")


def test_a_published_network_builds_and_its_copies_of_parents_are_told(
    rtx: OpenedLibrary,
    published_onnx: Callable[[str], PublishedOnnx],
    arch: str,
    tmp_path: Path,
    record_property: Callable[[str, object], None],
) -> None:
    """One test for all precisions, since capturing and translating the network takes longer than building engines."""
    source = published_onnx(arch)
    checkpoint = source.checkpoint
    made = {precision: build(source, precision, tmp_path) for precision in PRECISIONS}
    for precision, engine in made.items():
        record_property(SUMMARY, f"{arch} {precision}: {summary(engine)}")
        inspection = engine.inspection
        assert engine.record.precision == precision
        assert engine.record.warnings == ()
        assert inspection.kernels.convolutions == len(inspection.convolutions) == checkpoint.convolutions
        assert len(inspection.prescales) == PRESCALES[arch]
    kernels = made["fp32"].inspection.kernels
    assert kernels.found == checkpoint.convolutions
    assert kernels.bytes == checkpoint.materialised_bytes
    # TensorRT knows no modulation: of every parent it stores what its children were multiplied out to.
    assert kernels.duplicated_bytes == checkpoint.materialised_bytes - checkpoint.unique_bytes
    copies = sum(len(names) - 1 for names in kernels.duplicated)
    assert copies == checkpoint.convolutions - checkpoint.kernels
    # A map in 8 bits is not moved about around its pre-scale.
    assert not any(prescale.reformats for prescale in made["int8"].inspection.prescales)


def summary(engine: EngineExport) -> str:
    kernels = engine.inspection.kernels
    return (
        f"engine {engine.bytes / 1e6:.2f} MB; {kernels.found} of {kernels.distinct} distinct kernels found in it, "
        f"{kernels.bytes / 1e6:.2f} MB; {len(kernels.duplicated)} parents stored more than once, "
        f"{kernels.duplicated_bytes / 1e6:.2f} MB of copies"
    )
