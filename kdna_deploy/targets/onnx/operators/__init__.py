"""ATen operators in ONNX: one table, operator → the function that writes it; a file for each topic.

A function is called with the writer and the arguments of the operator, in the order and with the defaults of its
schema: a tensor is an `onnx_ir.Value`, a size that depends on the batch a symbolic expression, anything else what it is
in the graph. It returns the value of the result, or a tuple of them. What it does not cover it says by raising
`Untranslated`.

Does not apply: operators outside of the table, which are left to `torch.onnx` (docs/design.md, ONNX).
"""

from __future__ import annotations

from kdna_deploy.targets.onnx.operators import (
    activations,
    arithmetic,
    constants,
    convolutions,
    indexing,
    normalisations,
    pooling,
    products,
    reductions,
    resampling,
    shapes,
    softmax,
)
from kdna_deploy.targets.onnx.operators.writer import Table

OPERATORS: Table = {
    **activations.TABLE,
    **arithmetic.TABLE,
    **constants.TABLE,
    **convolutions.TABLE,
    **indexing.TABLE,
    **normalisations.TABLE,
    **pooling.TABLE,
    **products.TABLE,
    **reductions.TABLE,
    **resampling.TABLE,
    **shapes.TABLE,
    **softmax.TABLE,
}
