"""Passes work on `onnx_ir`, and most tests of them read and write protocol buffers: what stands between the two."""

from __future__ import annotations

from collections.abc import Callable
from typing import Concatenate, ParamSpec, TypeVar

import onnx
import onnx_ir as ir

Rest = ParamSpec("Rest")
Result = TypeVar("Result")


def applied(
    transform: Callable[Concatenate[ir.Model, Rest], Result],
    model: onnx.ModelProto,
    *args: Rest.args,
    **kwargs: Rest.kwargs,
) -> Result:
    """Run a pass on `model`, in place; returns what the pass says of it."""
    opened = ir.from_proto(model)
    result = transform(opened, *args, **kwargs)
    model.CopyFrom(ir.to_proto(opened))
    return result


def opened(graph: onnx.GraphProto) -> ir.Graph:
    return ir.from_proto(graph)
