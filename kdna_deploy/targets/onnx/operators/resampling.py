"""Borders around a map, and maps of another size.

nearest: y[p] = x[⌊p·h/H⌋]        linear, cubic: between the neighbours of (p + ½)·h/H − ½, or of p·(h−1)/(H−1) where
corners are aligned
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
import torch

from kdna_deploy.graph.graph import ATEN
from kdna_deploy.targets.onnx.operators.writer import Number, Size, Table, Untranslated, Writer

# PyTorch's border → ONNX's, and the first opset that has it.
_BORDERS = {
    "constant": ("constant", 18),
    "reflect": ("reflect", 18),
    "replicate": ("edge", 18),
    "circular": ("wrap", 19),
}


def border(
    w: Writer, x: ir.Value, pad: Sequence[Size], mode: str = "constant", value: Number | None = None
) -> ir.Value:
    """A border of a constant, of the map mirrored, of its rim or of its other side; `pad` begins with the last axis."""
    name, since = _BORDERS[mode]
    if w.opset < since:
        raise Untranslated(f"borders of mode {mode} before opset {since}")
    if mode != "constant" and not all(isinstance(size, int) and size >= 0 for size in pad):
        raise Untranslated("a negative border that is not constant")
    missing = [0] * (w.rank(x) - len(pad) // 2)
    before, after = [*missing, *reversed(pad[::2])], [*missing, *reversed(pad[1::2])]
    constant = [w.number(0 if value is None else value, x.dtype)] if mode == "constant" else []
    return w("Pad", x, w.integers([*before, *after]), *constant, mode=name)


def constant_pad(w: Writer, x: ir.Value, pad: Sequence[Size], value: Number = 0) -> ir.Value:
    """A border of a constant."""
    return border(w, x, pad, "constant", value)


def nearest(
    w: Writer, x: ir.Value, output_size: Sequence[Size] | None, scale_factors: Sequence[float] | None = None
) -> ir.Value:
    """The number at ⌊p·h/H⌋."""
    return _resize(w, x, scale_factors, mode="nearest", coordinates="asymmetric", nearest_mode="floor")


def _between(mode: str) -> Callable[..., ir.Value]:
    def write(
        w: Writer,
        x: ir.Value,
        output_size: Sequence[Size] | None,
        align_corners: bool,
        scale_factors: Sequence[float] | None = None,
    ) -> ir.Value:
        coordinates = "align_corners" if align_corners else "pytorch_half_pixel"
        cubic = {"cubic_coeff_a": -0.75} if mode == "cubic" else {}
        return _resize(w, x, scale_factors, mode=mode, coordinates=coordinates, **cubic)

    write.__doc__ = f"Between neighbours, {mode}."
    return write


def _resize(w: Writer, x: ir.Value, factors: Sequence[float] | None, coordinates: str, **how: Any) -> ir.Value:
    """By factors where those say exactly what is asked for, as a doubling does; to sizes elsewhere."""
    before, after = w.shape(x)[2:], w.sizes[2:]
    if not all(isinstance(size, int) for size in (*before, *after)):
        raise Untranslated("a map whose size depends on the batch")
    ratios = [int(new) / int(old) for new, old in zip(after, before, strict=True)]
    if factors is not None and list(factors) != ratios:
        raise Untranslated("factors that do not give whole sizes")
    if all(ratio == np.float32(ratio) and float(1 / ratio) == np.float32(1 / ratio) for ratio in ratios):
        target = [None, w.constant("scales", torch.tensor([1.0, 1.0, *ratios]))]
    else:
        target = [None, None, w.integers(w.sizes)]
    return w("Resize", x, *target, coordinate_transformation_mode=coordinates, **how)


TABLE: Table = {
    ATEN.pad.default: border,
    ATEN.constant_pad_nd.default: constant_pad,
    ATEN.upsample_nearest1d.vec: nearest,
    ATEN.upsample_nearest2d.vec: nearest,
    ATEN.upsample_nearest3d.vec: nearest,
    ATEN.upsample_linear1d.vec: _between("linear"),
    ATEN.upsample_bilinear2d.vec: _between("linear"),
    ATEN.upsample_trilinear3d.vec: _between("linear"),
    ATEN.upsample_bicubic2d.vec: _between("cubic"),
}
