"""Channel attention spelled for the blocked layout: the same function, no reorders, and when it is left alone."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import numpy_helper

from kdna_deploy.runtimes.ort import OrtSession
from kdna_deploy.targets.onnx.cost import count_onnx
from kdna_deploy.targets.onnx.cpu_layout import BLOCK, fill_hidden_channels, widen_gates
from kdna_deploy.targets.onnx.ledger import optimised_model
from tests.samples import MOBILENET, RESNET, exported_sample, fused_sample

HIDDEN, CHANNELS = 6, 24
IMAGES = np.random.default_rng(3).standard_normal((2, 3, 9, 7), dtype=np.float32)


def gated(activation: str = "Relu", size: str = "9,7", extra_output: str = "") -> ir.Model:
    """A pointwise convolution whose output a channel attention scales; `extra_output` is read outside too."""
    random = np.random.default_rng(0)
    outputs = "float[n,24,h,w] y" + (f", float[n,{HIDDEN},1,1] {extra_output}" if extra_output else "")
    model = onnx.parser.parse_model(
        f'<ir_version: 8, opset_import: ["" : 18]> g (float[n,3,{size}] x) => ({outputs}) {{ '
        "m = Conv(x, w) p = GlobalAveragePool(m) a = Conv(p, w1, b1) "
        f"r = {activation}(a) c = Conv(r, w2, b2) g = Sigmoid(c) y = Mul(g, m) }}"
    )
    shapes = {
        "w": (CHANNELS, 3, 1, 1),
        "w1": (HIDDEN, CHANNELS, 1, 1),
        "b1": (HIDDEN,),
        "w2": (CHANNELS, HIDDEN, 1, 1),
        "b2": (CHANNELS,),
    }
    for name, shape in shapes.items():
        model.graph.initializer.append(numpy_helper.from_array(random.standard_normal(shape).astype(np.float32), name))
    return ir.from_proto(onnx.shape_inference.infer_shapes(model))


def run(model: ir.Model, folder: Path) -> np.ndarray:
    path = folder / "gated.onnx"
    ir.save(model, path)
    return OrtSession(path, threads=1).run(IMAGES)


def test_a_widened_gate_computes_the_same_bit_for_bit(tmp_path: Path) -> None:
    before = run(gated(), tmp_path)
    model = gated()
    assert widen_gates(model).changed == 1
    assert np.array_equal(run(model, tmp_path), before)


def test_filled_hidden_channels_compute_the_same(tmp_path: Path) -> None:
    before = run(gated(), tmp_path)
    model = gated()
    assert fill_hidden_channels(model).changed == 1
    _, first, second = convolutions(model)
    assert weight_of(first).shape == (BLOCK, CHANNELS, 1, 1)
    assert weight_of(second).shape == (CHANNELS, BLOCK, 1, 1)
    np.testing.assert_allclose(run(model, tmp_path), before, rtol=1e-6, atol=1e-6)


def convolutions(model: ir.Model) -> list[ir.Node]:
    return [node for node in model.graph if node.op_type == "Conv"]


def weight_of(node: ir.Node) -> ir.Value:
    value = node.inputs[1]
    assert value is not None
    return value


def test_a_second_run_changes_nothing() -> None:
    model = gated()
    assert (widen_gates(model).changed, fill_hidden_channels(model).changed) == (1, 1)
    assert (widen_gates(model).changed, fill_hidden_channels(model).changed) == (0, 0)


def test_one_gate_for_all_channels_is_left_alone() -> None:
    model = gated()
    gate = next(node for node in model.graph if node.op_type == "Sigmoid").outputs[0]
    gate.shape = ir.Shape(["n", 1, 1, 1])
    assert widen_gates(model).changed == 0


def test_maps_of_unknown_size_are_left_alone() -> None:
    assert widen_gates(gated(size="h,w")).changed == 0


@pytest.mark.parametrize("activation", ["Sigmoid", "Exp"])
def test_zeros_that_an_activation_would_change_are_not_filled_in(activation: str) -> None:
    assert fill_hidden_channels(gated(activation)).changed == 0


def test_hidden_channels_that_are_read_elsewhere_are_left_alone() -> None:
    assert fill_hidden_channels(gated(extra_output="r")).changed == 0


def parsed(body: str, shapes: dict[str, tuple[int, ...]], inputs: str = "") -> ir.Model:
    """A model of `IMAGES` with random constants of `shapes`; `inputs` declares more inputs."""
    random = np.random.default_rng(1)
    model = onnx.parser.parse_model(
        f'<ir_version: 8, opset_import: ["" : 18]> g (float[n,3,9,7] x{inputs}) => (float[n,24,h,w] y) {{ {body} }}'
    )
    for name, shape in shapes.items():
        model.graph.initializer.append(numpy_helper.from_array(random.standard_normal(shape).astype(np.float32), name))
    return ir.from_proto(onnx.shape_inference.infer_shapes(model))


GATE_SHAPES = {"w": (24, 3, 1, 1), "w1": (6, 24, 1, 1), "b1": (6,), "w2": (24, 6, 1, 1), "b2": (24,)}
GATE = "m = Conv(x, w) p = GlobalAveragePool(m) a = Conv{first}(p, w1, b1) r = Relu(a) c = Conv{second}(r, w2, b2) "


@pytest.mark.parametrize(
    ("first", "second", "shapes"),
    [
        ("<group = 2>", "", {"w1": (6, 12, 1, 1)}),
        ("", "<group = 2>", {"w2": (24, 3, 1, 1)}),
        ("<group = 2>", "<group = 2>", {"w1": (6, 12, 1, 1), "w2": (24, 3, 1, 1)}),
    ],
)
def test_hidden_channels_in_groups_are_left_alone(
    first: str, second: str, shapes: dict[str, tuple[int, ...]], tmp_path: Path
) -> None:
    body = GATE.format(first=first, second=second) + "g = Sigmoid(c) y = Mul(g, m)"
    model = parsed(body, GATE_SHAPES | shapes)
    before = run(model, tmp_path)
    assert (fill_hidden_channels(model).changed, widen_gates(model).changed) == (0, 1)
    assert np.array_equal(run(model, tmp_path), before)


@pytest.mark.parametrize(
    ("body", "shapes", "inputs"),
    [
        # The kernel of the hidden layer is read by a second one, or may be overridden, or is computed.
        ("a2 = Conv(p, w1) r2 = Relu(a2) g = Sum(c, p) g2 = ReduceMean(r2) y = Add(g, g2)", {}, ""),
        ("y = Sigmoid(c)", {}, ", float[6,24,1,1] w1"),
        ("y = Sigmoid(c)", {}, ", float[24,6,1,1] w2"),
    ],
)
def test_kernels_that_are_not_the_gate_s_alone_are_left_alone(
    body: str, shapes: dict[str, tuple[int, ...]], inputs: str
) -> None:
    model = parsed(GATE.format(first="", second="") + body, GATE_SHAPES | shapes, inputs)
    assert fill_hidden_channels(model).changed == 0


def test_dilations_pads_and_strides_on_one_pixel_fill_up_all_the_same(tmp_path: Path) -> None:
    """A hidden channel of zeros adds nothing, whatever the layers around it do with positions."""
    body = (
        GATE.format(first="<pads = [1,1,1,1], strides = [2,2]>", second="<pads = [2,2,2,2], dilations = [2,2]>")
        + "g = Sigmoid(c) y = Mul(g, m)"
    )
    model = parsed(body, GATE_SHAPES | {"w1": (6, 24, 3, 3), "w2": (24, 6, 3, 3)})
    before = run(model, tmp_path)
    assert fill_hidden_channels(model).changed == 1
    np.testing.assert_allclose(run(model, tmp_path), before, rtol=1e-6, atol=1e-6)


MAPS = {
    "one size": ("m2 = Relu(m) s1 = Mul(g, m) s2 = Mul(m2, g) y = Add(s1, s2)", 1),
    "two sizes": (
        "m2 = MaxPool<kernel_shape = [3,3], strides = [3,3]>(m) s1 = Mul(g, m) s2 = Mul(m2, g) "
        "t = GlobalAveragePool(s2) y = Add(s1, t)",
        2,
    ),
}


@pytest.mark.parametrize("name", MAPS)
def test_maps_that_share_a_gate_share_its_repeat_where_they_are_of_a_size(name: str, tmp_path: Path) -> None:
    maps, repeats = MAPS[name]
    model = parsed(GATE.format(first="", second="") + "g = Sigmoid(c) " + maps, GATE_SHAPES)
    before = run(model, tmp_path)
    assert widen_gates(model).changed == 2
    proto = ir.to_proto(model)
    onnx.checker.check_model(proto, full_check=True)
    assert [node.op_type for node in proto.graph.node].count("Resize") == repeats
    # The product is the same bit for bit; a pooling behind it adds in the order of the layout that it now has.
    np.testing.assert_allclose(run(model, tmp_path), before, rtol=0, atol=1e-6 if repeats > 1 else 0)


def test_names_that_are_taken_are_not_used_again(tmp_path: Path) -> None:
    body = GATE.format(first="", second="") + "g = Sigmoid(c) g_9x7 = Relu(m) repeat_9x7 = Mul(g, g_9x7) "
    model = parsed(body + "w1_filled = Sigmoid(m) y = Add(repeat_9x7, w1_filled)", GATE_SHAPES)
    before = run(model, tmp_path)
    assert (fill_hidden_channels(model).changed, widen_gates(model).changed) == (1, 1)
    onnx.checker.check_model(ir.to_proto(model), full_check=True)
    np.testing.assert_allclose(run(model, tmp_path), before, rtol=1e-6, atol=1e-6)


def test_a_constant_gate_is_left_alone() -> None:
    model = parsed("m = Conv(x, w) y = Mul(g, m)", {"w": (24, 3, 1, 1), "g": (1, 24, 1, 1)})
    model.graph.inputs[0].shape = ir.Shape([1, 3, 9, 7])
    for value in (model.graph.node(0).outputs[0], model.graph.outputs[0]):
        value.shape = ir.Shape([1, 24, 9, 7])
    assert widen_gates(model).changed == 0


@pytest.mark.slow
@pytest.mark.parametrize("name", [RESNET, MOBILENET])
@pytest.mark.parametrize("batch", [None, 2])
def test_the_runtime_changes_layout_no_more_often_than_in_the_plain_backbone(
    tmp_path: Path, name: str, batch: int | None
) -> None:
    """Behind the stem of 8 channels, which fill no block, and before the classifier: the plain backbone's own."""
    own = {RESNET: 1, MOBILENET: 2}[name]
    counts = {}
    for target in ("cpu", "any"):
        exported_sample(tmp_path / f"{target}.onnx", name, target=target, batch=batch)
        counts[target] = Counter(node.op_type for node in optimised_model(tmp_path / f"{target}.onnx").graph.node)
    if not counts["any"]["ReorderOutput"]:
        pytest.skip("ONNX Runtime has no blocked layout on this processor")
    assert counts["cpu"]["ReorderInput"] == 0
    assert counts["cpu"]["ReorderOutput"] <= own
    assert counts["any"]["ReorderInput"] > 0


@pytest.mark.slow
def test_both_targets_agree(tmp_path: Path) -> None:
    images = np.random.default_rng(0).standard_normal((3, 3, 64, 64), dtype=np.float32)
    for target in ("cpu", "any"):
        exported_sample(tmp_path / f"{target}.onnx", RESNET, target=target)
    assert count_onnx(tmp_path / "any.onnx").macs == fused_sample(RESNET).provenance.macs
    one, other = (OrtSession(tmp_path / f"{target}.onnx", threads=1).run(images) for target in ("cpu", "any"))
    np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)
