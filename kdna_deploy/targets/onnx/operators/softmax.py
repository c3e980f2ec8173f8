"""Softmax and its logarithm along an axis.

softmax: yᵢ = exp xᵢ / Σⱼ exp xⱼ        log-softmax: yᵢ = xᵢ − log Σⱼ exp xⱼ
"""

from __future__ import annotations

from typing import Any

import onnx_ir as ir

from kdna_deploy.graph.graph import ATEN
from kdna_deploy.targets.onnx.operators.writer import Table, Writer


def softmax(w: Writer, x: ir.Value, dim: int, dtype: Any = None) -> ir.Value:
    """exp xᵢ / Σ exp xⱼ along `dim`, in `dtype` if one is given."""
    return w("Softmax", x if dtype is None else w.cast(x, w.dtype), axis=dim)


def log_softmax(w: Writer, x: ir.Value, dim: int, dtype: Any = None) -> ir.Value:
    """xᵢ − log Σ exp xⱼ along `dim`, in `dtype` if one is given."""
    return w("LogSoftmax", x if dtype is None else w.cast(x, w.dtype), axis=dim, shape=w.sizes)


TABLE: Table = {ATEN.softmax.int: softmax, ATEN.log_softmax.int: log_softmax}
