"""Tensors of one number, in a shape that may depend on the batch; a constant where it does not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import onnx_ir as ir

from kdna_deploy.graph.graph import ATEN
from kdna_deploy.targets.onnx.operators.shapes import broadcast
from kdna_deploy.targets.onnx.operators.writer import Number, Table, Writer


def _filled(w: Writer, number: Number) -> ir.Value:
    return broadcast(w, w.number(number, w.dtype), w.sizes)


def of_number(number: int) -> Callable[..., ir.Value]:
    """The function that writes a tensor of `number`s; its shape and type are those of the result."""

    def write(w: Writer, *_shape: Any, **_memory: Any) -> ir.Value:
        return _filled(w, number)

    write.__doc__ = f"A tensor of {number}s."
    return write


def full(w: Writer, size: Any, fill_value: Number, **_memory: Any) -> ir.Value:
    """A tensor of one number, in a shape or in that of another tensor."""
    return _filled(w, fill_value)


def new_full(w: Writer, x: ir.Value, size: Any, fill_value: Number, **_memory: Any) -> ir.Value:
    """A tensor of one number, in a shape."""
    return _filled(w, fill_value)


TABLE: Table = {
    ATEN.zeros.default: of_number(0),
    ATEN.ones.default: of_number(1),
    ATEN.full.default: full,
    ATEN.zeros_like.default: of_number(0),
    ATEN.ones_like.default: of_number(1),
    ATEN.full_like.default: full,
    ATEN.new_zeros.default: of_number(0),
    ATEN.new_ones.default: of_number(1),
    ATEN.new_full.default: new_full,
    ATEN.fill.Scalar: full,
}
