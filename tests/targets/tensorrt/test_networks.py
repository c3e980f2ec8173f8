"""Networks of every kind of block build with TensorRT-RTX in fp32, fp16 and int8, and their plans are accounted for."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from kdna_deploy.graph.graph import Graph
from kdna_deploy.precision import GraphPrecision
from kdna_deploy.runtimes.nvidia.library import OpenedLibrary
from kdna_deploy.targets.onnx.convert import to_onnx
from kdna_deploy.targets.onnx.half.convert import to_half
from kdna_deploy.targets.onnx.int8.calibration import calibrate
from kdna_deploy.targets.onnx.int8.quantize import quantise
from kdna_deploy.targets.tensorrt.export import EngineExport, export_engine
from tests.conftest import SUMMARY
from tests.samples import MOBILENET, PRESCALES, RESNET, fused_small, narrow, sample_path
from tests.targets.onnx.passes import applied

pytestmark = pytest.mark.slow

PRECISIONS: tuple[GraphPrecision, ...] = ("fp32", "fp16", "int8")
# What is stored does not depend on the size of images, and how it is computed not on the widths of the ResNets.
NETWORKS: dict[str, tuple[Callable[[], Path], int]] = {
    "resnet18": (partial(sample_path, RESNET), 64),
    "resnet50": (partial(narrow, "resnet50"), 64),
    "mobilenet_v2_1d2": (partial(sample_path, MOBILENET), 224),
}


def half(path: Path) -> onnx.ModelProto:
    model = onnx.load(path)
    applied(to_half, model)
    return model


def int8(path: Path, size: int) -> onnx.ModelProto:
    images = np.random.default_rng(0).standard_normal((8, 3, size, size)).astype(np.float32)
    return quantise(path, calibrate(path, [images], "minmax"), target="tensorrt")


def build(source: Path, size: int, precision: GraphPrecision) -> EngineExport:
    path = source
    if precision != "fp32":
        path = source.with_name(f"{precision}.onnx")
        onnx.save(half(source) if precision == "fp16" else int8(source, size), path)
    return export_engine(path, source.with_name(f"{precision}.rtx.engine"))


@pytest.mark.parametrize("arch", NETWORKS)
def test_a_network_builds_and_its_copies_of_parents_are_told(
    rtx: OpenedLibrary, arch: str, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """One test for all precisions, since fusing and translating the network takes longer than building engines."""
    checkpoint_of, size = NETWORKS[arch]
    fused = fused_small(checkpoint_of())
    assert fused.fused is not None
    checkpoint = fused.fused.ledger.storage
    ir.save(to_onnx(Graph(fused.graph.module, (3, size, size))), tmp_path / "net.onnx")
    made = {precision: build(tmp_path / "net.onnx", size, precision) for precision in PRECISIONS}
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
