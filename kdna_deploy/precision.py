"""What a network is computed in, and what its weights are stored in: one word each.

fp32    kernels, activations and products in float32
tf32    the same graph, its products rounded to TF32 where a GPU may: a way to run, which no file is in
fp16    kernels and activations in float16
int8    kernels and activations in int8, products summed in int32

Weights may be stored in less than a file computes in: fp16, or codes and scales, int8 and int4.
"""

from __future__ import annotations

from typing import Literal, get_args

Precision = Literal["fp32", "tf32", "fp16", "int8"]
GraphPrecision = Literal["fp32", "fp16", "int8"]
FloatPrecision = Literal["fp32", "tf32", "fp16"]  # to which a float32 graph can be cast
Weights = Literal["fp32", "fp16", "int8", "int4"]
Codes = Literal["int8", "int4"]  # weights that are judged by images, as int8 is

PRECISIONS: tuple[Precision, ...] = get_args(Precision)
WEIGHTS: tuple[Weights, ...] = get_args(Weights)
CODES: tuple[Codes, ...] = get_args(Codes)
