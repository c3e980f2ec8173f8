"""The profile: which group each executed node belongs to, and sums that add up. Never how long anything took."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from kdna_deploy.benchmark.baseline import plain_backbone
from kdna_deploy.benchmark.cpu.profile import GROUPS, Layer, Profile, ProfileRequest, explain, profile
from kdna_deploy.benchmark.subject import given
from tests.samples import PRESCALES, exported_sample

GATES = PRESCALES["resnet18"]
NAMES = ("cpu", "any", "plain")


@pytest.fixture(scope="module")
def profiles(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Profile]:
    """The sample exported for ONNX Runtime on a CPU, for any runtime, and its plain backbone."""
    folder = tmp_path_factory.mktemp("profile")
    for target in ("cpu", "any"):
        exported_sample(folder / f"{target}.onnx", target=target, simplify=False)
    plain = plain_backbone(given(folder / "cpu.onnx", folder), folder / "plain").artifacts.source("onnx").path
    images = np.random.default_rng(0).standard_normal((1, 3, 64, 64), dtype=np.float32)
    paths = {"cpu": folder / "cpu.onnx", "any": folder / "any.onnx", "plain": plain}
    found = profile([ProfileRequest(name, paths[name], images) for name in NAMES], threads=1)
    assert tuple(one.name for one in found) == NAMES
    return {one.name: one for one in found}


def nodes(profile: Profile, group: str) -> Counter[str]:
    """Operator → number of nodes, of one group."""
    return Counter(layer.operator.replace("Fused", "") for layer in profile.layers if layer.group == group)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_groups_and_operators_add_up_to_the_same_time(profiles: dict[str, Profile], name: str) -> None:
    found = profiles[name]
    total = sum(layer.microseconds for layer in found.layers)
    assert total > 0
    assert tuple(found.by_group) == GROUPS
    assert sum(found.by_group.values()) == pytest.approx(total)
    assert sum(us for _, us in found.by_operator.values()) == pytest.approx(total)
    assert sum(count for count, _ in found.by_operator.values()) == len(found.layers)
    times = [us for _, us in found.by_operator.values()]
    assert times == sorted(times, reverse=True)


@pytest.mark.slow
@pytest.mark.parametrize("target", ["cpu", "any"])
def test_every_gate_and_its_prescale_is_found(profiles: dict[str, Profile], target: str) -> None:
    found = profiles[target]
    assert nodes(found, "pre-scale") == {"Mul": GATES}
    gates = nodes(found, "channel attention")
    assert gates["Conv"] == 2 * GATES
    assert gates["GlobalAveragePool"] + gates["ReduceMean"] == GATES
    assert gates["Upsample"] + gates["Resize"] == (GATES if target == "cpu" else 0)


@pytest.mark.slow
def test_a_plain_backbone_has_neither_gates_nor_prescales(profiles: dict[str, Profile]) -> None:
    groups = profiles["plain"].by_group
    assert (groups["channel attention"], groups["pre-scale"]) == (0, 0)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_convolutions_are_those_of_the_network_and_the_classifier(profiles: dict[str, Profile], name: str) -> None:
    found = nodes(profiles[name], "convolutions")
    # Stem, 16 and 3 shortcuts; the layouts of KernelDNA have further layers.
    assert found["Conv"] == 20 if name == "plain" else found["Conv"] > 20
    assert found["Gemm"] == 1
    assert nodes(profiles["cpu"], "convolutions") == nodes(profiles["any"], "convolutions")


@pytest.mark.slow
def test_layout_holds_conversions_alone_and_the_cpu_spelling_has_fewer(profiles: dict[str, Profile]) -> None:
    layouts = {name: nodes(profiles[name], "layout") for name in NAMES}
    for found in layouts.values():
        assert found.keys() <= {"ReorderInput", "ReorderOutput", "Transpose"}
    # None at all on a processor for which the runtime has no blocked layout.
    assert layouts["cpu"] == layouts["plain"]
    if layouts["any"]:
        assert layouts["any"].total() >= layouts["cpu"].total() + 2 * GATES


@pytest.mark.slow
def test_layers_are_in_the_order_of_execution_with_the_shape_of_their_output(profiles: dict[str, Profile]) -> None:
    for found in profiles.values():
        assert len({layer.name for layer in found.layers}) == len(found.layers)
        assert found.layers[-1].shape == (1, 10)
        assert all(layer.microseconds >= 0 for layer in found.layers)
    widest = next(layer for layer in profiles["plain"].layers if layer.group == "convolutions")
    assert widest.shape[2:] == (32, 32)


def test_operators_are_counted_and_summed() -> None:
    layers = [
        ("a", "Conv", "convolutions", 4.0),
        ("b", "Mul", "pre-scale", 9.0),
        ("c", "Conv", "channel attention", 2.0),
    ]
    made = Profile("net", tuple(Layer(name, op, group, (), us) for name, op, group, us in layers))
    assert list(made.by_operator.items()) == [("Mul", (1, 9.0)), ("Conv", (2, 6.0))]
    assert made.by_group == dict(zip(GROUPS, (4.0, 2.0, 9.0, 0, 0), strict=True))


def test_a_difference_is_taken_apart_into_macs_and_overhead() -> None:
    explained = explain("net", "plain", latency_ms=14.0, baseline_ms=10.0, macs=125, baseline_macs=100)
    assert (explained.name, explained.baseline) == ("net", "plain")
    assert explained.difference_ms == pytest.approx(4.0)
    assert explained.extra_macs_ms == pytest.approx(2.5)
    assert explained.overhead_ms == pytest.approx(1.5)
    assert explained.extra_macs_ms + explained.overhead_ms == pytest.approx(explained.difference_ms)


def test_conversions_of_8_bits_are_layout_though_they_have_no_names(tmp_path: Path) -> None:
    """As files in int8 have them (`targets.onnx.int8.compact`)."""
    kernel, scale, zero = np.ones((16, 3, 3, 3), np.int8), np.float32(0.1), np.uint8(128)
    constants = {"k": kernel, "s": np.array(scale), "z": np.array(zero), "n": np.array(np.int8(0))}
    nodes = [
        helper.make_node("QuantizeLinear", ["input", "s", "z"], ["a"]),
        helper.make_node("DequantizeLinear", ["a", "s", "z"], ["b"]),
        helper.make_node("DequantizeLinear", ["k", "s", "n"], ["w"]),
        helper.make_node("Conv", ["b", "w"], ["c"], name="conv"),
        helper.make_node("QuantizeLinear", ["c", "s", "z"], ["d"]),
        helper.make_node("DequantizeLinear", ["d", "s", "z"], ["output"]),
    ]
    graph = helper.make_graph(
        nodes,
        "int8",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, 3, 8, 8])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    path = tmp_path / "net.int8.onnx"
    onnx.save_model(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8), path)
    (found,) = profile([ProfileRequest("net", path, np.ones((1, 3, 8, 8), np.float32))], threads=1)
    groups = {layer.operator: layer.group for layer in found.layers}
    wanted = {"QuantizeLinear": "layout", "QLinearConv": "convolutions", "DequantizeLinear": "layout"}
    assert wanted.items() <= groups.items()
