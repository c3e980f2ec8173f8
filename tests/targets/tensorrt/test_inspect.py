"""What became of a graph in an engine, on a network whose shared kernels are known."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

from kdna_deploy.runtimes.nvidia.library import OpenedLibrary
from kdna_deploy.runtimes.nvidia.onnx_input import read_onnx
from kdna_deploy.targets.tensorrt.build import BuildOptions, BuiltEngine, build_engine
from kdna_deploy.targets.tensorrt.inspect import EngineInspection, inspect_engine, is_reformat
from kdna_deploy.targets.tensorrt.layers import EngineLayer, EngineTensor
from tests.targets.tensorrt.onnx_files import CHANNELS, write_small

PARENT_BYTES = 4 * CHANNELS * CHANNELS * 9


@pytest.fixture(scope="module")
def built(rtx: OpenedLibrary, small: Path) -> BuiltEngine:
    return build_engine(read_onnx(small), rtx, BuildOptions())


@pytest.fixture(scope="module")
def inspected(built: BuiltEngine, small: Path) -> EngineInspection:
    return inspect_engine(onnx.load(small), built.plan, built.layers)


@pytest.mark.slow
def test_every_convolution_is_found_with_the_activation_fused_into_it(inspected: EngineInspection, small: Path) -> None:
    graph = onnx.load(small).graph
    convolutions = [node.name for node in graph.node if node.op_type == "Conv"]
    relus = {node.name for node in graph.node if node.op_type in ("Relu", "Sigmoid")}
    assert [convolution.node for convolution in inspected.convolutions] == convolutions
    fused = {name for convolution in inspected.convolutions for name in convolution.activations}
    assert fused
    assert fused <= relus


def test_each_prescale_is_found_with_the_layer_that_applies_it(inspected: EngineInspection, built: BuiltEngine) -> None:
    assert len(inspected.prescales) == 2
    layers = {layer.name: layer for layer in built.layers}
    for prescale in inspected.prescales:
        assert prescale.node in layers[prescale.layer].nodes
        assert prescale.node not in prescale.fused_with
        assert all(is_reformat(layers[name]) for name in prescale.reformats)
    assert inspected.reformats == sum(map(is_reformat, built.layers))


def test_the_parent_is_stored_three_times_modulated(inspected: EngineInspection) -> None:
    kernels = inspected.kernels
    assert (kernels.convolutions, kernels.not_found) == (6, ())
    assert kernels.found == kernels.distinct == 6
    assert [len(copies) for copies in kernels.duplicated] == [3]
    assert kernels.duplicated_bytes == 2 * PARENT_BYTES


@pytest.mark.slow
def test_sharing_in_the_file_is_undone_in_the_plan(
    rtx: OpenedLibrary, tmp_path: Path, inspected: EngineInspection
) -> None:
    path = write_small(tmp_path / "shared.onnx", children="share")
    built = build_engine(read_onnx(path), rtx, BuildOptions())
    kernels = inspect_engine(onnx.load(path), built.plan, built.layers).kernels
    assert kernels.duplicated_bytes == inspected.kernels.duplicated_bytes
    assert kernels.bytes == inspected.kernels.bytes


def test_without_a_list_of_layers_the_kernels_are_told_and_the_rest_is_not(built: BuiltEngine, small: Path) -> None:
    inspected = inspect_engine(onnx.load(small), built.plan, ())
    assert (inspected.layers, inspected.convolutions, inspected.prescales) == ({}, (), ())
    assert inspected.kernels.found == 6
    assert inspected.notes == ("the library lists no layers, so fusions and reformatting are unknown",)


def test_a_reformat_changes_the_order_in_memory_and_nothing_else() -> None:
    nchw = EngineTensor("a", (-1, 8, 4, 4), "Float", "Row major")
    nhwc = EngineTensor("b", (-1, 8, 4, 4), "Float", "Channel major")
    half = EngineTensor("c", (-1, 8, 4, 4), "Half", "Channel major")

    tensors = tuple[EngineTensor, ...]

    def layer(inputs: tensors, outputs: tensors, kind: str = "k", node: str = "") -> bool:
        return is_reformat(EngineLayer("l", kind, (node,) if node else (), inputs, outputs, ()))

    assert layer((nchw,), (nhwc,))
    assert layer((nchw,), (half,), kind="Reformat")
    assert not layer((nchw,), (nchw,))
    assert not layer((nchw,), (half,))
    assert not layer((nchw,), (nhwc,), node="node_transpose")
    assert not layer((nchw, nchw), (nhwc,))
    assert not layer((), ())
