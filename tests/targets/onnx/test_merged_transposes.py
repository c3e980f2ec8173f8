"""Transposes of many axes become transposes of few, and move the same numbers to the same places."""

from __future__ import annotations

import itertools

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx.reference import ReferenceEvaluator

from kdna_deploy.targets.onnx.merged_transposes import merge_transposes

CASES = [
    ((2, 9, 1, 1, 4, 3, 1, 1), (0, 2, 4, 3, 5, 1, 6, 7), 1),  # as published: positions behind cells
    ((2, 3, 2, 4, 5), (0, 1, 2, 3, 4), 0),  # nothing moves
    ((2, 3, 4, 2, 3), (0, 3, 4, 1, 2), 1),
    ((1, 1, 1, 1, 1), (4, 3, 2, 1, 0), 0),
    *(((2, 3, 1, 4, 2), order, 1) for order in itertools.islice(itertools.permutations(range(5)), 3, 120, 9)),
]


def transpose(shape: str, made: str, perm: str) -> ir.Model:
    graph = f"g (float[{shape}] x) => (float[{made}] y) {{ y = Transpose<perm=[{perm}]>(x) }}"
    return ir.from_proto(onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 18]> {graph}'))


@pytest.mark.parametrize("batch", [True, False], ids=["any batch", "fixed"])
@pytest.mark.parametrize(("sizes", "order", "most"), CASES, ids=str)
def test_the_same_numbers_go_to_the_same_places(
    sizes: tuple[int, ...], order: tuple[int, ...], most: int, batch: bool
) -> None:
    shape = ",".join(["n" if batch else str(sizes[0]), *map(str, sizes[1:])])
    out = ",".join("abcdefgh"[: len(sizes)])
    perm = ",".join(map(str, order))
    model = transpose(shape, out, perm)
    assert merge_transposes(model).changed == 1
    made = ir.to_proto(model)
    onnx.checker.check_model(made)
    x = np.random.default_rng(0).standard_normal(sizes, dtype=np.float32)
    (y,) = ReferenceEvaluator(made).run(None, {"x": x})
    assert np.array_equal(y, x.transpose(order))
    left = [node for node in made.graph.node if node.op_type == "Transpose"]
    assert len(left) <= most
    assert all(len(node.attribute[0].ints) <= 4 for node in left)
    assert merge_transposes(model).changed == 0


def test_transposes_of_few_axes_stay() -> None:
    model = transpose("n,3,4,5", "n,4,5,3", "0,2,3,1")
    assert merge_transposes(model).changed == 0
