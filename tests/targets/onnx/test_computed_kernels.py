"""Networks whose kernels are computed for each image, as MACs are counted and other precisions made of their files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from torch import nn

import kdna_deploy as kd
from kdna_deploy.benchmark.cpu.profile import ProfileRequest, profile
from kdna_deploy.graph.graph import Graph
from kdna_deploy.network.cost import count
from kdna_deploy.runtimes.ort import OrtSession
from kdna_deploy.targets.onnx.codes.store import store_codes, stored_layers
from kdna_deploy.targets.onnx.computed_kernels import computed_kernels, kernel_nodes
from kdna_deploy.targets.onnx.convert import to_onnx
from kdna_deploy.targets.onnx.cost import count_onnx
from kdna_deploy.targets.onnx.half.convert import to_half
from kdna_deploy.targets.onnx.int8.calibration import calibrate
from kdna_deploy.targets.onnx.int8.quantize import QuantisedFor, quantise
from kdna_deploy.targets.onnx.ledger import onnx_storage, shared_kernels
from kdna_deploy.targets.onnx.options import Target
from tests.dynamic import LAYERS, Mixture, Warehouse, network
from tests.graph.passes.equivalence import IMAGE, captured, images, trained
from tests.targets.onnx.test_dynamic_convolution import folded, folded_layer

NETWORKS = {
    **{name: LAYERS[name] for name in ("pointwise", "four attentions", "warehouse")},
    "behind an activation": lambda: network(nn.Sequential(nn.Conv2d(4, 4, 1), nn.ReLU(), Mixture(padding=1))),
    "wide": lambda: network(Mixture(c_out=64, padding=1), 64),
}
BATCH = 8


@pytest.fixture(scope="module", params=NETWORKS)
def layer(request: pytest.FixtureRequest) -> tuple[nn.Module, Graph]:
    module = NETWORKS[request.param]()
    return module, folded(captured(module))


@pytest.mark.parametrize("batch", [1, 3, None])
@pytest.mark.parametrize("target", ["cpu", "any"])
def test_macs_are_those_of_the_network_in_every_form(
    layer: tuple[nn.Module, Graph], batch: int | None, target: Target, tmp_path: Path
) -> None:
    module, graph = layer
    ir.save(to_onnx(graph, batch=batch, target=target), tmp_path / "net.onnx")
    assert count_onnx(tmp_path / "net.onnx").macs == count(module, IMAGE).macs


def test_macs_of_a_file_of_any_size(layer: tuple[nn.Module, Graph], tmp_path: Path) -> None:
    module, graph = layer
    ir.save(to_onnx(graph, target="cpu", dynamic_size=True), tmp_path / "net.onnx")
    larger = (IMAGE[0], 11, 9)
    assert count_onnx(tmp_path / "net.onnx", larger).macs == count(module, larger).macs


@pytest.mark.slow
def test_a_loop_is_profiled_as_one_convolution(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    ir.save(to_onnx(folded_layer("warehouse"), target="cpu"), path)
    (found,) = profile([ProfileRequest("net", path, images(BATCH, IMAGE).numpy().astype(np.float32))], threads=1)
    assert {layer.operator: layer.group for layer in found.layers}["Scan"] == "convolutions"
    assert {"Conv", "Unsqueeze", "Squeeze"}.isdisjoint(found.by_operator)  # those in its body


def sqnr(model: ir.Model, module: nn.Module, folder: Path) -> float:
    """Decibels of what a valid `model` answers over how far that is off."""
    made = ir.to_proto(model)
    onnx.checker.check_model(made, full_check=True)
    onnx.save_model(made, folder / "made.onnx")
    x = images(BATCH, IMAGE).float()
    with OrtSession(folder / "made.onnx", threads=1) as session, torch.no_grad():
        expected = module.float()(x).numpy()
        off = session.run(x.numpy()) - expected
    return float(10 * np.log10((expected**2).mean() / (off**2).mean()))


@pytest.mark.parametrize("target", ["cpu", "any"])
def test_halves_reach_into_the_bodies_of_loops(layer: tuple[nn.Module, Graph], target: Target, tmp_path: Path) -> None:
    module, graph = layer
    model = to_onnx(graph, target=target)
    to_half(model)
    convolved = [node for node in model.graph.all_nodes() if node.op_type in ("Conv", "MatMul")]
    assert {node.outputs[0].dtype for node in convolved} == {ir.DataType.FLOAT16}
    # 2⁻¹¹ of a number is 66 dB; a few sums and the softmax make more of it.
    assert sqnr(model, module, tmp_path) > 55


def test_a_bank_is_stored_in_codes_once(layer: tuple[nn.Module, Graph], tmp_path: Path) -> None:
    module, graph = layer
    model = to_onnx(graph, target="cpu")
    before = onnx_storage(ir.to_proto(model), "float32")
    assert store_codes(model, "int8").changed == len(stored_layers(to_onnx(graph, target="cpu").graph))
    after = onnx_storage(ir.to_proto(model), "int8")
    assert (after.kernels, after.convolutions) == (before.kernels, before.convolutions)
    assert after.unique_bytes < before.unique_bytes / 2.5  # what is smaller than its codes and nodes stays
    assert sqnr(model, module, tmp_path) > 40  # half a code in 127: 42 dB of the largest, more of several


def test_layers_whose_kernels_are_made_for_each_image_are_no_children_of_one_another(
    layer: tuple[nn.Module, Graph],
) -> None:
    model = ir.to_proto(to_onnx(layer[1], target="cpu"))
    assert computed_kernels(ir.from_proto(model).graph)
    assert shared_kernels(model) == 0


def test_a_large_bank_has_blocks_of_4_bits(tmp_path: Path) -> None:
    module = NETWORKS["wide"]()
    model = to_onnx(folded(captured(module)), target="cpu")
    stored = store_codes(model, "int4")
    assert (stored.changed, stored.wide) == (1, 0)
    assert sqnr(model, module, tmp_path) > 20  # half a code in 8 of the largest of 32


@pytest.mark.parametrize(("target", "form"), [("cpu", "cpu"), ("openvino", "any"), ("tensorrt", "any")])
def test_what_makes_kernels_stays_in_float32(
    layer: tuple[nn.Module, Graph], target: QuantisedFor, form: Target, tmp_path: Path
) -> None:
    module, graph = layer
    ir.save(to_onnx(graph, target=form), tmp_path / "float.onnx")
    ranges = calibrate(tmp_path / "float.onnx", [images(BATCH, IMAGE).numpy().astype(np.float32)], "minmax")
    model = ir.from_proto(quantise(tmp_path / "float.onnx", ranges, (), target))
    assert len(computed_kernels(model.graph)) == len(computed_kernels(to_onnx(graph, target=form).graph))
    assert not {"DequantizeLinear", "QuantizeLinear"} & {node.op_type for node in kernel_nodes(model.graph)}
    assert sqnr(model, module, tmp_path) > 30  # a map in 8 bits, of which the kernels are made as well


@pytest.mark.slow
@pytest.mark.parametrize(("target", "loop"), [("cpu", "Scan"), ("tensorrt", "Loop")])
def test_int8_files_of_any_batch_go_over_the_images_as_their_target_does_best(
    target: Target, loop: str, tmp_path: Path
) -> None:
    layers = (Warehouse(), nn.Conv2d(4, 6, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    np.savez(tmp_path / "images.npz", images(20, IMAGE).float())
    done = kd.export(
        kd.load(trained(nn.Sequential(*layers)).float(), input_size=IMAGE[1:]),
        tmp_path / "net.onnx",
        target=target,
        precision="int8",
        calibration=tmp_path / "images.npz",
        workers=1,
    )
    assert {"Scan", "Loop"} & {node.op_type for node in onnx.load(done.path).graph.node} == {loop}
    assert "children" not in str(done)
