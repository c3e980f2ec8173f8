"""What a network is computed in: one word, and what a graph or a runtime can have of it.

fp32    kernels, activations and products in float32
tf32    the same graph, its products rounded to TF32 where a GPU may: a way to run, which no file is in
fp16    kernels and activations in float16
int8    kernels and activations in int8, products summed in int32
"""

from __future__ import annotations

from typing import Literal, get_args

Precision = Literal["fp32", "tf32", "fp16", "int8"]
GraphPrecision = Literal["fp32", "fp16", "int8"]
FloatPrecision = Literal["fp32", "tf32", "fp16"]  # to which a float32 graph can be cast

PRECISIONS: tuple[Precision, ...] = get_args(Precision)
