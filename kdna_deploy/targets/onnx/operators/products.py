"""Linear layers and matrix products.

    linear: y = x·wᵀ + b        product: y = a·b        Einstein: y = Σ over the letters that the result lacks

Linear layers of features [n, c] are one `Gemm`; others a product with the transposed weight.
"""

from __future__ import annotations

import string
from collections.abc import Sequence

import onnx_ir as ir
import torch

from kdna_deploy.graph.graph import ATEN
from kdna_deploy.targets.onnx.operators.shapes import permute
from kdna_deploy.targets.onnx.operators.softmax import softmax
from kdna_deploy.targets.onnx.operators.writer import Table, Untranslated, Writer


def linear(w: Writer, x: ir.Value, weight: ir.Value, bias: ir.Value | None = None) -> ir.Value:
    """y = x·wᵀ + b."""
    if w.rank(x) == 2 and w.rank(weight) == 2 and bias is not None:
        return w("Gemm", x, weight, bias, transB=1)
    if w.rank(weight) == 2:
        # Stored as it is multiplied with: 8-bit products take constants alone.
        weight = w.derived(weight, "transposed", torch.t) or permute(w, weight, [1, 0])
    y = w("MatMul", x, weight, shape=w.sizes)
    return y if bias is None else w("Add", y, bias)


def product(w: Writer, a: ir.Value, b: ir.Value) -> ir.Value:
    """y = a·b, over the axes in front of the last two position by position."""
    return w("MatMul", a, b)


def added_product(w: Writer, c: ir.Value, a: ir.Value, b: ir.Value, *, beta: float = 1, alpha: float = 1) -> ir.Value:
    """y = β·c + α·a·b."""
    if w.rank(a) == 2 and w.rank(b) == 2:
        return w("Gemm", a, b, c, alpha=float(alpha), beta=float(beta))
    y = w("MatMul", a, b)
    if alpha != 1:
        y = w("Mul", y, w.number(alpha, y.dtype))
    if beta != 1:
        c = w("Mul", c, w.number(beta, c.dtype))
    return w("Add", c, y)


def einstein_sum(
    w: Writer, equation: str, tensors: Sequence[ir.Value], *, path: Sequence[int] | None = None
) -> ir.Value:
    """Σ over the letters that the result lacks; `path`, the order of the products, does not change it."""
    return w("Einsum", *tensors, equation=equation.replace(" ", ""))


def contraction(w: Writer, a: ir.Value, b: ir.Value, dims_self: Sequence[int], dims_other: Sequence[int]) -> ir.Value:
    """Σ over pairs of axes, one of each tensor; what remains of the first comes first."""
    if w.rank(a) + w.rank(b) > len(string.ascii_letters):
        raise Untranslated("more axes than there are letters")
    letters = iter(string.ascii_letters)
    first = [next(letters) for _ in range(w.rank(a))]
    second = [next(letters) for _ in range(w.rank(b))]
    pairs = [(i % w.rank(a), j % w.rank(b)) for i, j in zip(dims_self, dims_other, strict=True)]
    for i, j in pairs:
        second[j] = first[i]
    kept = [letter for letter in (*first, *second) if (letter in first) != (letter in second)]
    return w("Einsum", a, b, equation=f"{''.join(first)},{''.join(second)}->{''.join(kept)}")


def attention(
    w: Writer,
    query: ir.Value,
    key: ir.Value,
    value: ir.Value,
    attn_mask: ir.Value | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    *,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> ir.Value:
    """y = softmax(s·q·kᵀ + mask)·v, with s = 1/√d where none is given."""
    if dropout_p or enable_gqa:
        raise Untranslated("dropout, or fewer heads of keys than of queries")
    if attn_mask is not None and attn_mask.dtype != query.dtype:
        raise Untranslated("a mask that is not of numbers to add")
    *_, length, width = w.shape(query)
    if not isinstance(width, int):
        raise Untranslated("a width that depends on the batch")
    if is_causal:
        attn_mask = _causal_mask(w, length, w.shape(key)[-2], query.dtype)
    # PyTorch scales both factors, so that neither overflows.
    root = w.number((width**-0.5 if scale is None else scale) ** 0.5, query.dtype)
    axes = list(range(w.rank(key)))
    transposed = permute(w, key, [*axes[:-2], axes[-1], axes[-2]])
    sizes = [*w.shape(query)[:-1], w.shape(key)[-2]]
    scores = w("MatMul", w("Mul", query, root), w("Mul", transposed, root), shape=sizes)
    if attn_mask is not None:
        scores = w("Add", scores, attn_mask)
    return w("MatMul", softmax(w, scores, -1), value)


def _causal_mask(w: Writer, queries: object, keys: object, dtype: ir.DataType | None) -> ir.Value:
    """[queries, keys]: 0 where a query may look, −∞ behind it."""
    if not (isinstance(queries, int) and isinstance(keys, int)):
        raise Untranslated("a causal mask whose size depends on the batch")
    return w.constant("causal_mask", torch.full((queries, keys), -torch.inf).triu(1), dtype)


TABLE: Table = {
    ATEN.linear.default: linear,
    ATEN.matmul.default: product,
    ATEN.mm.default: product,
    ATEN.bmm.default: product,
    ATEN.mv.default: product,
    ATEN.dot.default: product,
    ATEN.addmm.default: added_product,
    ATEN.baddbmm.default: added_product,
    ATEN.einsum.default: einstein_sum,
    ATEN.tensordot.default: contraction,
    ATEN.scaled_dot_product_attention.default: attention,
}
