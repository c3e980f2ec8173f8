"""The value of a weight of an ONNX model: stored, or what nodes make of initialisers alone, as shared children are.

Does not apply: weights that depend on the model's input.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator


def weight_value(name: str, model: onnx.ModelProto) -> NDArray[Any] | None:
    """The array that `name` stands for in `model`; None where it depends on an input."""
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    if name in stored:
        return numpy_helper.to_array(stored[name])
    made_by = {output: node for node in model.graph.node for output in node.output}
    needed, stack = {""}, [name]  # an operand that is left out has no name
    while stack:
        at = stack.pop()
        if at in needed:
            continue
        needed.add(at)
        if at in made_by:
            stack += made_by[at].input
        elif at not in stored:
            return None
    nodes = [node for node in model.graph.node if needed & set(node.output) - {""}]
    held = [tensor for key, tensor in stored.items() if key in needed]
    result = helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None)
    part = helper.make_graph(nodes, "weight", [], [result], held)
    evaluator = ReferenceEvaluator(helper.make_model(part, opset_imports=model.opset_import))
    (value,) = evaluator.run(None, {})
    return np.asarray(value)
