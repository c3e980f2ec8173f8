"""What a half cannot hold is found before anything is cast, and attributed to the kernel that it comes from."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from kdna_deploy.graph.ledger import Parent
from kdna_deploy.targets.onnx.half.audit import HalfAudit, audit_half

Array = np.ndarray
PARENTS = (Parent("parent.weight", (4, 4, 1, 1), "own", ("child0", "child1")),)


def kernel(largest: float = 1.0, seed: int = 0) -> Array:
    values = np.random.default_rng(seed).uniform(0.5, 1.0, (4, 4, 1, 1)).astype(np.float32)
    values[1, 2] = largest
    return values


def network(**weights: Array) -> onnx.ModelProto:
    """A stem, a gate in front of a child, its parent's own layer, and another child."""
    model = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 18]> g (float[n,4,6,6] x) => (float[n,4,6,6] y) {'
        "a = Conv(x, stem) p = GlobalAveragePool(a) f = Conv(p, squeeze) r = Relu(f) e = Conv(r, excite) "
        "s = Sigmoid(e) m = Mul(a, s) b = Conv(m, child0, bias) c = Conv(b, own) y = Conv(c, child1) }"
    )
    names = (
        "stem/Conv gate/Pool gate/Conv gate/Relu gate/Conv_2 gate/Sigmoid child0/Mul child0/Conv own/Conv child1/Conv"
    )
    for node, name in zip(model.graph.node, names.split(), strict=True):
        node.name = name
    stored = {name: kernel() for name in ("stem", "squeeze", "excite", "child0", "own", "child1")}
    stored["bias"] = np.zeros(4, np.float32)
    for name, values in (stored | weights).items():
        model.graph.initializer.append(numpy_helper.from_array(values.astype(np.float32), name))
    return model


GATE = ["gate/Pool", "gate/Conv", "gate/Relu", "gate/Conv_2", "gate/Sigmoid"]


def kernels(audit: HalfAudit) -> dict[str, tuple[str, ...]]:
    return {one.kernel: one.overflowing for one in audit.kernels}


def test_a_network_that_fits_keeps_nothing_in_float32() -> None:
    audit = audit_half(network(own=kernel(65504.0)), {"a": 16376.0, "y": 1.0}, PARENTS)
    assert dict(audit.keep_float) == {}
    assert kernels(audit) == {"stem": (), "gate": (), "parent.weight": ()}


def test_a_child_that_overflows_is_named_under_its_parent() -> None:
    audit = audit_half(network(child1=kernel(65536.0)), {}, PARENTS)
    assert dict(audit.keep_float) == {"child1/Conv": "a weight of 6.55e+04"}
    (parent,) = [one for one in audit.kernels if one.kernel == "parent.weight"]
    assert parent.layers == ("child0", "own", "child1")
    assert parent.overflowing == ("child1",)
    assert parent.largest == 65536.0


def test_negative_weights_overflow_too() -> None:
    assert list(audit_half(network(stem=kernel(-1e6)), {}).keep_float) == ["stem/Conv"]


def test_without_parents_each_layer_is_a_kernel() -> None:
    audit = audit_half(network(), {})
    assert {"child0", "own", "child1", "stem"} < set(kernels(audit))


def test_a_bias_that_overflows_keeps_its_layer_in_float32() -> None:
    audit = audit_half(network(bias=np.asarray([0, 0, -7e4, 0])), {}, PARENTS)
    assert dict(audit.keep_float) == {"child0/Conv": "a weight of 7e+04"}


def test_an_activation_near_the_limit_keeps_who_makes_and_who_reads_it() -> None:
    audit = audit_half(network(), {"c": 16377.0}, PARENTS)
    assert dict(audit.keep_float) == dict.fromkeys(("own/Conv", "child1/Conv"), "an activation of 1.64e+04")


@pytest.mark.parametrize(
    ("weights", "sizes", "own"),
    [({"excite": kernel(7e4)}, {}, ["gate/Conv_2"]), ({}, {"r": 2e4}, ["gate/Relu", "gate/Conv_2"])],
)
def test_a_gate_stays_in_float32_as_a_whole(weights: dict[str, Array], sizes: dict[str, float], own: list[str]) -> None:
    audit = audit_half(network(**weights), sizes, PARENTS)
    assert sorted(audit.keep_float) == sorted(GATE)
    assert {name for name, reason in audit.keep_float.items() if reason.startswith("its gate has a")} == {*GATE} - {
        *own
    }


def test_the_share_of_subnormal_weights_is_that_of_the_parent_and_its_children() -> None:
    """16 weights in each of three layers, of which one has 4 below 2⁻¹⁴ and 4 that are 0."""
    tiny = kernel()
    tiny[0] = 2.0**-14 * 0.999
    tiny[1] = 0.0
    tiny[2] = 2.0**-14
    audit = audit_half(network(child0=tiny), {}, PARENTS)
    (parent,) = [one for one in audit.kernels if one.kernel == "parent.weight"]
    assert parent.subnormal == pytest.approx(4 / 44)
    assert {one.subnormal for one in audit.kernels if one is not parent} == {0.0}


@pytest.mark.slow
def test_children_multiplied_at_session_start_are_judged_by_their_products() -> None:
    """W · M of 300 · 300 overflows, though a half holds both."""
    model = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 18]> g (float[n,4,6,6] x) => (float[n,4,6,6] y) {'
        "w0 = Mul(w, m0) w1 = Mul(w, m1) a = Conv(x, w0) y = Conv(a, w1) }"
    )
    for node, name in zip(model.graph.node, ["child0/Mul", "child1/Mul", "child0/Conv", "child1/Conv"], strict=True):
        node.name = name
    values = {"w": kernel(300.0), "m0": np.full((4, 1, 1, 1), 300.0), "m1": np.ones((4, 1, 1, 1))}
    for name, array in values.items():
        model.graph.initializer.append(numpy_helper.from_array(array.astype(np.float32), name))
    audit = audit_half(model, {"w0": 90000.0}, PARENTS)
    assert set(audit.keep_float) == {"child0/Mul", "child0/Conv"}
    assert kernels(audit) == {"parent.weight": ("child0",)}
