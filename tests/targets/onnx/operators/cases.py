"""Calls of every operator that is translated directly, in the forms that networks have: name → function of images.

The images are [n, 4, 6, 8] around 0, with no two numbers alike. What is not a map is made one by a broadcasting sum, so
that every result is compared whole.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from kdna_deploy.graph.graph import ATEN

Call = Callable[[Tensor], Any]

CHANNELS, HEIGHT, WIDTH = SHAPE = (4, 6, 8)
_generator = torch.Generator().manual_seed(0)


def numbers(*shape: int) -> Tensor:
    """Constants of a network."""
    return torch.randn(*shape, generator=_generator) / 2


def positive(*shape: int) -> Tensor:
    return torch.rand(*shape, generator=_generator) + 0.5


def _each(*operators: Any, of: Callable[[Tensor], Tensor] = lambda x: x) -> dict[str, Call]:
    """A call of each of some operators that take one tensor."""
    return {_name(operator): (lambda x, operator=operator: operator(of(x))) for operator in operators}


def _name(operator: Any) -> str:
    return str(operator).removeprefix("aten.").removesuffix(".default")


def _upsampled(operator: Any, axes: int) -> Call:
    """Twice the size along the last `axes`, of maps that have as many."""
    shapes = {1: (CHANNELS, HEIGHT * WIDTH), 2: SHAPE, 3: (2, 2, HEIGHT, WIDTH)}
    aligned = () if "nearest" in str(operator) else (False,)
    return lambda x: operator(ATEN.reshape.default(x, [-1, *shapes[axes]]), None, *aligned, [2.0] * axes)


def _of_mask(operator: Any) -> Call:
    return lambda x: operator(ATEN.gt.Scalar(x, 0.0), ATEN.lt.Scalar(x, 0.5))


KERNEL, KERNEL_1D, KERNEL_3D = numbers(6, 4, 3, 3), numbers(6, 4, 3), numbers(5, 2, 3, 3, 3)
GROUPED, BIAS = numbers(8, 2, 3, 2), numbers(6)
TRANSPOSED, TRANSPOSED_1D, TRANSPOSED_3D = numbers(4, 3, 3, 3), numbers(4, 6, 3), numbers(2, 3, 2, 2, 2)
WEIGHT, FEATURES = numbers(5, 8), numbers(5)
ORDER, PLACES = torch.tensor([2, 0, 3, 1]), torch.tensor([[1, -1], [0, 2]])
MATRIX, VECTOR, ADDED = numbers(8, 3), numbers(8), numbers(3)
PER_CHANNEL = numbers(4), numbers(4), numbers(4), positive(4)
CONSTANT, SAME_SHAPE, SPREAD = numbers(4, 1, 1), numbers(4, 6, 8), positive(4, 1, 1)
INTEGERS = torch.arange(8)


def _line(x: Tensor) -> Tensor:
    """[n, 4, 48]"""
    return ATEN.reshape.default(x, [-1, CHANNELS, HEIGHT * WIDTH])


def _volume(x: Tensor) -> Tensor:
    """[n, 2, 2, 6, 8]"""
    return ATEN.reshape.default(x, [-1, 2, 2, HEIGHT, WIDTH])


def _rows(x: Tensor) -> Tensor:
    """[n, 192]"""
    return ATEN.reshape.default(x, [-1, CHANNELS * HEIGHT * WIDTH])


def _batch(x: Tensor) -> Any:
    return ATEN.sym_size.int(x, 0)


CONVOLUTIONS: Mapping[str, Call] = {
    "conv2d": lambda x: ATEN.conv2d.default(x, KERNEL, BIAS, [2, 1], [1, 2], [1, 2]),
    "conv2d without bias": lambda x: ATEN.conv2d.default(x, KERNEL),
    "conv2d, one number for both axes": lambda x: ATEN.conv2d.default(x, KERNEL, BIAS, [2], [1]),
    "conv2d in groups": lambda x: ATEN.conv2d.default(x, GROUPED, None, [1, 1], [0, 0], [1, 1], 2),
    "conv2d, same": lambda x: ATEN.conv2d.padding(x, GROUPED, None, [1, 1], "same", [2, 3], 2),
    "conv2d, valid": lambda x: ATEN.conv2d.padding(x, KERNEL, BIAS, [1, 1], "valid"),
    "conv1d": lambda x: ATEN.conv1d.default(_line(x), KERNEL_1D, BIAS, [2], [1]),
    "conv1d, same": lambda x: ATEN.conv1d.padding(_line(x), KERNEL_1D, BIAS, [1], "same"),
    "conv3d": lambda x: ATEN.conv3d.default(_volume(x), KERNEL_3D, None, [1, 1, 1], [1, 1, 1]),
    "conv3d, same": lambda x: ATEN.conv3d.padding(_volume(x), KERNEL_3D, FEATURES, [1, 1, 1], "same"),
    "conv_transpose1d": lambda x: ATEN.conv_transpose1d.default(_line(x), TRANSPOSED_1D, BIAS, [2], [1], [1]),
    "conv_transpose2d": lambda x: ATEN.conv_transpose2d.input(x, TRANSPOSED, None, [2, 3], [1, 0], [1, 2], 2, [2, 1]),
    "conv_transpose3d": lambda x: ATEN.conv_transpose3d.input(_volume(x), TRANSPOSED_3D, None, [2, 2, 2]),
    "convolution": lambda x: ATEN.convolution.default(x, KERNEL, BIAS, [1, 1], [1, 1], [1, 1], False, [0, 0], 1),
    "convolution, transposed": lambda x: ATEN.convolution.default(
        x, TRANSPOSED, None, [2, 2], [1, 1], [1, 1], True, [1, 1], 1
    ),
    "a kernel that is computed": lambda x: ATEN.conv2d.default(x, ATEN.mul.Tensor(KERNEL, ATEN.exp.default(KERNEL))),
}
PRODUCTS: Mapping[str, Call] = {
    "linear": lambda x: ATEN.linear.default(ATEN.reshape.default(x, [-1, 8]), WEIGHT, FEATURES),
    "linear without bias": lambda x: ATEN.linear.default(ATEN.reshape.default(x, [-1, 8]), WEIGHT),
    "linear over maps": lambda x: ATEN.linear.default(x, WEIGHT, FEATURES),
    "linear, weight computed": lambda x: ATEN.linear.default(x, ATEN.mul.Tensor(MATRIX, 2 * MATRIX)[0:8].t()),
    "linear with one weight twice": lambda x: ATEN.linear.default(ATEN.linear.default(x, WEIGHT), WEIGHT.t()),
    "matmul": lambda x: ATEN.matmul.default(x, MATRIX),
    "matmul of maps": lambda x: ATEN.matmul.default(x, ATEN.transpose.int(x, -1, 2)),
    "mm": lambda x: ATEN.mm.default(ATEN.reshape.default(x, [-1, 8]), MATRIX),
    "bmm": lambda x: ATEN.bmm.default(_line(x), ATEN.transpose.int(_line(x), 1, 2)),
    "mv": lambda x: ATEN.mv.default(ATEN.reshape.default(x, [-1, 8]), VECTOR),
    "dot": lambda x: ATEN.mul.Tensor(x, ATEN.dot.default(ATEN.mean.dim(x, [0, 1, 2]), VECTOR)),
    "addmm": lambda x: ATEN.addmm.default(ADDED, ATEN.reshape.default(x, [-1, 8]), MATRIX, beta=2, alpha=0.5),
    "baddbmm": lambda x: ATEN.baddbmm.default(
        FEATURES[:4], _line(x), ATEN.transpose.int(_line(x), 1, 2), beta=3, alpha=0.5
    ),
    "einsum": lambda x: ATEN.einsum.default("n c h w, w k -> n k h c", [x, MATRIX]),
    "tensordot": lambda x: ATEN.tensordot.default(x, SAME_SHAPE, [1, -1], [0, 2]),
    "attention": lambda x: ATEN.scaled_dot_product_attention.default(x, x, x),
    "attention, causal": lambda x: ATEN.scaled_dot_product_attention.default(x, x, x, None, 0.0, True),
    "attention, masked and scaled": lambda x: ATEN.scaled_dot_product_attention.default(
        x, x, x, SAME_SHAPE[0, :, :6], scale=0.3
    ),
}
ACTIVATIONS: Mapping[str, Call] = {
    **_each(*(ATEN.relu.default, ATEN.sigmoid.default, ATEN.tanh.default, ATEN.selu.default, ATEN.mish.default)),
    **_each(*(ATEN.hardswish.default, ATEN.hardsigmoid.default, ATEN.silu.default, ATEN.gelu.default)),
    **_each(ATEN.log_sigmoid.default, ATEN.relu6.default, of=lambda x: ATEN.mul.Tensor(x, 8)),
    **_each(ATEN.hardtanh.default, ATEN.elu.default, ATEN.celu.default, ATEN.leaky_relu.default),
    **_each(ATEN.softplus.default, ATEN.hardshrink.default, ATEN.softshrink.default),
    "gelu, tanh": lambda x: ATEN.gelu.default(x, approximate="tanh"),
    "hardtanh, wide": lambda x: ATEN.hardtanh.default(x, -0.3, 1.5),
    "elu, α": lambda x: ATEN.elu.default(x, 0.7),
    "celu, α": lambda x: ATEN.celu.default(x, 0.7),
    "leaky_relu, slope": lambda x: ATEN.leaky_relu.default(x, 0.2),
    "softplus, β": lambda x: ATEN.softplus.default(x, 3, 30),
    "hardshrink, λ": lambda x: ATEN.hardshrink.default(x, 0.2),
    "softshrink, λ": lambda x: ATEN.softshrink.default(x, 0.2),
    "threshold": lambda x: ATEN.threshold.default(x, 0.2, -3.0),
    "glu": lambda x: ATEN.glu.default(x, 1),
    "prelu": lambda x: ATEN.prelu.default(x, PER_CHANNEL[0]),
    "prelu, one slope": lambda x: ATEN.prelu.default(x, PER_CHANNEL[0][:1]),
    "clamp": lambda x: ATEN.clamp.default(x, -0.5, 0.25),
    "clamp, below": lambda x: ATEN.clamp.default(x, None, 0.25),
    "clamp_min": lambda x: ATEN.clamp_min.default(x, 0.25),
    "clamp_max": lambda x: ATEN.clamp_max.default(x, 0.25),
    "clamp of integers": lambda x: ATEN.add.Tensor(x, ATEN.clamp.default(INTEGERS, 1.5, 4)),
    "softmax": lambda x: ATEN.softmax.int(x, 1),
    "softmax in a type": lambda x: ATEN.softmax.int(x, -1, torch.float32),
    "log_softmax": lambda x: ATEN.log_softmax.int(x, 2),
}
ARITHMETIC: Mapping[str, Call] = {
    **_each(*(ATEN.neg.default, ATEN.abs.default, ATEN.exp.default, ATEN.erf.default, ATEN.sin.default)),
    **_each(*(ATEN.cos.default, ATEN.floor.default, ATEN.ceil.default, ATEN.round.default, ATEN.sign.default)),
    **_each(ATEN.square.default, ATEN.logical_not.default, of=lambda x: ATEN.relu.default(x)),
    **_each(*(ATEN.log.default, ATEN.sqrt.default, ATEN.rsqrt.default, ATEN.reciprocal.default), of=ATEN.exp.default),
    **{
        f"{_name(operator)} {what}": (lambda x, operator=operator, of=of: operator(x, of(x)))
        for operator in (ATEN.add.Tensor, ATEN.sub.Tensor, ATEN.rsub.Tensor, ATEN.mul.Tensor, ATEN.div.Tensor)
        for what, of in {
            "of maps": lambda x: ATEN.exp.default(x),
            "with a constant": lambda x: SPREAD,
            "with integers": lambda x: INTEGERS + 1,
        }.items()
    },
    **{
        _name(operator): (lambda x, operator=operator: operator(x, 0.7))
        for operator in (ATEN.add.Scalar, ATEN.sub.Scalar, ATEN.rsub.Scalar, ATEN.mul.Scalar, ATEN.div.Scalar)
    },
    "add, α": lambda x: ATEN.add.Tensor(x, CONSTANT, alpha=0.3),
    "sub, α": lambda x: ATEN.sub.Tensor(CONSTANT, x, alpha=2),
    "rsub, α": lambda x: ATEN.rsub.Scalar(x, 2.5, 3),
    "add of a number of the batch": lambda x: ATEN.add.Tensor(x, _batch(x)),
    "div of integers": lambda x: ATEN.add.Tensor(x, ATEN.div.Tensor(_few_integers(x), 3)),
    "div, down": lambda x: ATEN.div.Tensor_mode(x, 0.3, rounding_mode="floor"),
    "div, to zero": lambda x: ATEN.div.Scalar_mode(x, 0.3, rounding_mode="trunc"),
    "pow": lambda x: ATEN.pow.Tensor_Scalar(x, 3),
    "pow of maps": lambda x: ATEN.pow.Tensor_Tensor(ATEN.exp.default(x), x),
    "pow of a number": lambda x: ATEN.pow.Scalar(2, x),
    "minimum": lambda x: ATEN.minimum.default(x, CONSTANT),
    "maximum": lambda x: ATEN.maximum.default(x, CONSTANT),
    "clamp_min of maps": lambda x: ATEN.clamp_min.Tensor(x, CONSTANT),
    "clamp_max of maps": lambda x: ATEN.clamp_max.Tensor(x, CONSTANT),
    "lerp": lambda x: ATEN.lerp.Scalar(x, SAME_SHAPE, 0.3),
    "lerp, far": lambda x: ATEN.lerp.Scalar(x, SAME_SHAPE, 0.9),
    "where": lambda x: ATEN.where.self(ATEN.gt.Scalar(x, 0), x, CONSTANT),
    "where, else a number": lambda x: ATEN.where.ScalarOther(ATEN.gt.Scalar(x, 0), x, 2.0),
    "where, a number or else": lambda x: ATEN.where.ScalarSelf(ATEN.gt.Scalar(x, 0), 2.0, x),
    "masked_fill": lambda x: ATEN.masked_fill.Scalar(x, ATEN.gt.Tensor(x, CONSTANT), -1.5),
    "masked_fill with a tensor": lambda x: ATEN.masked_fill.Tensor(x, ATEN.gt.Scalar(x, 0), VECTOR[0]),
    **{
        f"{_name(operator)}": (lambda x, operator=operator: operator(ATEN.round.default(x), 0))
        for operator in (ATEN.eq.Scalar, ATEN.ne.Scalar, ATEN.lt.Scalar, ATEN.le.Scalar, ATEN.gt.Scalar, ATEN.ge.Scalar)
    },
    **{
        f"{_name(operator)}": (lambda x, operator=operator: operator(_few_integers(x), ATEN.round.default(x)))
        for operator in (ATEN.eq.Tensor, ATEN.ne.Tensor, ATEN.lt.Tensor, ATEN.le.Tensor, ATEN.gt.Tensor, ATEN.ge.Tensor)
    },
    "logical_and": _of_mask(ATEN.logical_and.default),
    "logical_or": _of_mask(ATEN.logical_or.default),
    "logical_xor": _of_mask(ATEN.logical_xor.default),
    "logical_and of numbers": lambda x: ATEN.logical_and.default(ATEN.relu.default(x), CONSTANT),
    "to copy": lambda x: ATEN._to_copy.default(ATEN.mul.Tensor(x, 3), dtype=torch.int64),
    "to": lambda x: ATEN.to.dtype(ATEN.gt.Scalar(x, 0.0), torch.float32),
}


def _few_integers(x: Tensor) -> Tensor:
    return ATEN._to_copy.default(ATEN.mul.Tensor(x, 2.0), dtype=torch.int32)


POOLING: Mapping[str, Call] = {
    "max_pool1d": lambda x: ATEN.max_pool1d.default(_line(x), [3], [2], [1]),
    "max_pool2d": lambda x: ATEN.max_pool2d.default(x, [3, 2], [2, 1], [1, 0], [1, 2]),
    "max_pool2d, stride of the window": lambda x: ATEN.max_pool2d.default(x, [2]),
    "max_pool2d, rounded up": lambda x: ATEN.max_pool2d.default(x, [3, 3], [2, 2], [0, 0], [1, 1], True),
    "max_pool2d, rounded up into the padding": lambda x: ATEN.max_pool2d.default(
        ATEN.slice.Tensor(x, 3, 0, 6), [2, 2], [2, 2], [1, 1], [1, 1], True
    ),
    "max_pool3d": lambda x: ATEN.max_pool3d.default(_volume(x), [2, 2, 2], [1, 2, 2]),
    "max_pool2d with indices": lambda x: ATEN.max_pool2d_with_indices.default(x, [2, 2])[0],
    "max_pool3d with indices": lambda x: ATEN.max_pool3d_with_indices.default(_volume(x), [2, 2, 2])[0],
    "avg_pool1d": lambda x: ATEN.avg_pool1d.default(_line(x), [3], [2], [1]),
    "avg_pool2d": lambda x: ATEN.avg_pool2d.default(x, [3, 3], [2, 2], [1, 1]),
    "avg_pool2d, padding not counted": lambda x: ATEN.avg_pool2d.default(x, [3, 3], [2, 2], [1, 1], False, False),
    "avg_pool2d, exactly rounded up": lambda x: ATEN.avg_pool2d.default(x, [2, 2], [2, 2], [0, 0], True),
    "avg_pool3d": lambda x: ATEN.avg_pool3d.default(_volume(x), [2, 2, 2]),
    "adaptive_avg_pool1d": lambda x: ATEN.adaptive_avg_pool1d.default(_line(x), [4]),
    "adaptive_avg_pool2d": lambda x: ATEN.adaptive_avg_pool2d.default(x, [1, 1]),
    "adaptive_avg_pool2d, windows": lambda x: ATEN.adaptive_avg_pool2d.default(x, [3, 2]),
    "adaptive_avg_pool3d": lambda x: ATEN.adaptive_avg_pool3d.default(_volume(x), [1, 1, 1]),
    "adaptive_max_pool1d": lambda x: ATEN.adaptive_max_pool1d.default(_line(x), [4])[0],
    "adaptive_max_pool2d": lambda x: ATEN.adaptive_max_pool2d.default(x, [1, 1])[0],
    "adaptive_max_pool2d, windows": lambda x: ATEN.adaptive_max_pool2d.default(x, [3, 2])[0],
    "adaptive_max_pool3d": lambda x: ATEN.adaptive_max_pool3d.default(_volume(x), [1, 3, 4])[0],
}
NORMALISATIONS: Mapping[str, Call] = {
    "batch_norm": lambda x: ATEN._native_batch_norm_legit_no_training.default(x, *PER_CHANNEL, 0.1, 1e-3)[0],
    "batch_norm, plain": lambda x: ATEN._native_batch_norm_legit_no_training.default(
        x, None, None, *PER_CHANNEL[2:], 0.1, 1e-5
    )[0],
    "instance_norm": lambda x: ATEN.instance_norm.default(x, *PER_CHANNEL[:2], None, None, True, 0.1, 1e-3, True),
    "instance_norm, plain": lambda x: ATEN.instance_norm.default(x, None, None, None, None, True, 0.1, 1e-5, True),
    "instance_norm by training": lambda x: ATEN.instance_norm.default(x, *PER_CHANNEL, False, 0.1, 1e-5, True),
    "group_norm": lambda x: ATEN.group_norm.default(x, 2, *PER_CHANNEL[:2], 1e-3),
    "group_norm, plain": lambda x: ATEN.group_norm.default(_line(x), 4),
    "layer_norm": lambda x: ATEN.layer_norm.default(x, [6, 8], SAME_SHAPE[0], SAME_SHAPE[1], 1e-3),
    "layer_norm, plain": lambda x: ATEN.layer_norm.default(x, [8]),
    "rms_norm": lambda x: ATEN.rms_norm.default(x, [8], VECTOR),
    "rms_norm, plain": lambda x: ATEN.rms_norm.default(x, [6, 8], None, 1e-3),
}
REDUCTIONS: Mapping[str, Call] = {
    "mean": lambda x: ATEN.mean.dim(x, [-1, 2], True),
    "mean, axes away": lambda x: ATEN.mean.dim(x, [2, 3]),
    "mean over channels": lambda x: ATEN.mean.dim(x, [1], True),
    "mean of all": lambda x: ATEN.mul.Tensor(x, ATEN.mean.default(x)),
    "mean of integers": lambda x: ATEN.mean.dim(_few_integers(x), [1], True, dtype=torch.float32),
    "mean, no axes told": lambda x: ATEN.mul.Tensor(x, ATEN.mean.dim(x, None)),
    "sum": lambda x: ATEN.sum.dim_IntList(x, [1, -1]),
    "sum of truths": lambda x: ATEN.sum.dim_IntList(ATEN.gt.Scalar(x, 0), [1]),
    "sum of all": lambda x: ATEN.mul.Tensor(x, ATEN.sum.default(x)),
    "amax": lambda x: ATEN.amax.default(x, [1], True),
    "amin": lambda x: ATEN.amin.default(x, [2, 3]),
    "max of all": lambda x: ATEN.mul.Tensor(x, ATEN.max.default(x)),
    "min of all": lambda x: ATEN.mul.Tensor(x, ATEN.min.default(x)),
    "max": lambda x: ATEN.max.dim(x, 1)[0],
    "place of the max": lambda x: ATEN.max.dim(x, -1, True)[1],
    "min": lambda x: ATEN.min.dim(x, 2)[0],
    "place of the min": lambda x: ATEN.min.dim(x, 2)[1],
    "var": lambda x: ATEN.var.correction(x, [2, 3], correction=0, keepdim=True),
    "var, corrected": lambda x: ATEN.var.correction(x, [1]),
    "std": lambda x: ATEN.std.correction(x, [-1], correction=1),
    "norm": lambda x: ATEN.linalg_vector_norm.default(x, 2, [1], True),
    "norm, absolute": lambda x: ATEN.linalg_vector_norm.default(x, 1, [2, 3]),
    "argmax": lambda x: ATEN.argmax.default(x, 1),
    "argmin": lambda x: ATEN.argmin.default(x, -1, True),
    "cumsum": lambda x: ATEN.cumsum.default(x, -2),
    "topk": lambda x: ATEN.topk.default(x, 3)[0],
    "topk, smallest": lambda x: ATEN.topk.default(x, 2, 1, False)[0],
    "places of topk": lambda x: ATEN.topk.default(x, 3, 1)[1],
    "sort": lambda x: ATEN.sort.default(x, 1)[0],
    "sort, downwards": lambda x: ATEN.sort.default(x, -1, True)[1],
}
SHAPES: Mapping[str, Call] = {
    **_each(
        *(ATEN.alias.default, ATEN.clone.default, ATEN.contiguous.default, ATEN.detach.default), of=ATEN.exp.default
    ),
    **_each(ATEN.lift_fresh_copy.default, of=ATEN.exp.default),
    "dropout": lambda x: ATEN.exp.default(ATEN.dropout.default(x, 0.5, False)),
    "feature_dropout": lambda x: ATEN.exp.default(ATEN.feature_dropout.default(x, 0.5, False)),
    "the image itself": lambda x: ATEN.alias.default(x),
    "reshape": lambda x: ATEN.reshape.default(x, [-1, 24, 8]),
    "view by the batch": lambda x: ATEN.view.default(x, [_batch(x), 2, 96]),
    "unsafe view": lambda x: ATEN._unsafe_view.default(x, [_batch(x), -1]),
    "reshape with the batch inside": lambda x: ATEN.reshape.default(
        ATEN.permute.default(x, [1, 0, 2, 3]), [2, 2, _batch(x), 48]
    ),
    "reshape to twice the batch": lambda x: ATEN.reshape.default(x, [_batch(x) * 2, 2, 48]),
    "reshape to the batch twice": lambda x: ATEN.matmul.default(
        ATEN.reshape.default(_rows(x), [_batch(x), 192]), ATEN.t.default(_rows(x))
    ),
    "flatten": lambda x: ATEN.flatten.using_ints(x, 1, -2),
    "flatten the batch": lambda x: ATEN.flatten.using_ints(x, 0, 1),
    "unflatten": lambda x: ATEN.unflatten.int(x, 1, [2, -1]),
    "permute": lambda x: ATEN.permute.default(x, [0, 3, -3, 2]),
    "transpose": lambda x: ATEN.transpose.int(x, 1, -1),
    "t": lambda x: ATEN.t.default(_rows(x)),
    "unsqueeze": lambda x: ATEN.unsqueeze.default(x, -1),
    "unsqueeze in front": lambda x: ATEN.unsqueeze.default(x, 0),
    "squeeze": lambda x: ATEN.squeeze.default(ATEN.exp.default(ATEN.unsqueeze.default(ATEN.cat.default([x, x]), 2))),
    "squeeze one axis": lambda x: ATEN.squeeze.dim(ATEN.mean.dim(x, [1], True), 1),
    "squeeze an axis that stays": lambda x: ATEN.exp.default(ATEN.squeeze.dim(x, 1)),
    "squeeze axes": lambda x: ATEN.squeeze.dims(ATEN.mean.dim(x, [2, 3], True), [-1, 1, 2]),
    "expand": lambda x: ATEN.expand.default(ATEN.mean.dim(x, [1], True), [-1, 5, -1, -1]),
    "expand to the batch": lambda x: ATEN.expand.default(CONSTANT, [_batch(x), 4, 6, 8]),
    "expand to twice the batch": lambda x: ATEN.expand.default(CONSTANT, [_batch(x) * 2 + 1, 4, 2, 3]),
    "expand_as": lambda x: ATEN.expand_as.default(ATEN.mean.dim(x, [2, 3], True), x),
    "repeat": lambda x: ATEN.repeat.default(x, [2, 1, 1, 3]),
    "repeat along new axes": lambda x: ATEN.repeat.default(SAME_SHAPE, [_batch(x), 1, 2, 1]),
    "cat": lambda x: ATEN.cat.default([x, ATEN.exp.default(x), x], 1),
    "cat along the batch": lambda x: ATEN.cat.default([x, x]),
    "cat with integers": lambda x: ATEN.cat.default([x, _few_integers(x)], -1),
    "cat with nothing": lambda x: ATEN.cat.default([torch.empty(0), x, x], 2),
    "stack": lambda x: ATEN.stack.default([x, ATEN.exp.default(x)], 1),
    "stack behind": lambda x: ATEN.stack.default([x, x], -1),
    "pixel_shuffle": lambda x: ATEN.pixel_shuffle.default(x, 2),
    "pixel_unshuffle": lambda x: ATEN.pixel_unshuffle.default(x, 2),
    "channel_shuffle": lambda x: ATEN.channel_shuffle.default(x, 2),
}


def _joined(parts: Any) -> Tensor:
    return ATEN.cat.default([parts[1], parts[0]], 1)


INDEXING: Mapping[str, Call] = {
    "slice": lambda x: ATEN.slice.Tensor(x, 2, 1, 5, 2),
    "slice from behind": lambda x: ATEN.slice.Tensor(x, -1, -3),
    "slice of all": lambda x: ATEN.exp.default(ATEN.slice.Tensor(x, 0, 0, 9223372036854775807)),
    "slice of the batch": lambda x: ATEN.slice.Tensor(ATEN.cat.default([x, x]), 0, 0, _batch(x)),
    "select": lambda x: ATEN.select.int(x, 1, 2),
    "select from behind": lambda x: ATEN.select.int(x, -1, -2),
    "unbind": lambda x: ATEN.unbind.int(x, 1)[3],
    "split": lambda x: ATEN.split.Tensor(x, 3, 3)[2],
    "split, two pieces": lambda x: _joined(ATEN.split.Tensor(x, 3, -1)),
    "split_with_sizes": lambda x: ATEN.split_with_sizes.default(x, [1, 3], 1)[1],
    "split into one": lambda x: ATEN.exp.default(ATEN.split.Tensor(x, 4, 1)[0]),
    "chunk": lambda x: ATEN.chunk.default(x, 3, 3)[1],
    "flip": lambda x: ATEN.flip.default(x, [-1, 1]),
    "roll": lambda x: ATEN.roll.default(x, [3, -1], [3, 1]),
    "roll by nothing": lambda x: ATEN.exp.default(ATEN.roll.default(x, [8], [3])),
    **{f"rot90, {k}": (lambda x, k=k: ATEN.exp.default(ATEN.rot90.default(x, k, [2, 3]))) for k in (1, 2, -1, 0)},
    "index_select": lambda x: ATEN.index_select.default(x, 1, ORDER),
    "index": lambda x: ATEN.index.Tensor(x, [None, ORDER]),
    "index by a table": lambda x: ATEN.index.Tensor(x, [None, None, PLACES]),
    "gather": lambda x: ATEN.gather.default(x, 1, ATEN.argmax.default(x, 1, True)),
}
RESAMPLING: Mapping[str, Call] = {
    "pad": lambda x: ATEN.pad.default(x, [1, 2, 0, 3]),
    "pad with a number": lambda x: ATEN.pad.default(x, [0, 0, 1, 0], "constant", -2.0),
    "pad inwards": lambda x: ATEN.pad.default(x, [-1, 1]),
    "pad, reflect": lambda x: ATEN.pad.default(x, [2, 1, 1, 3], "reflect"),
    "pad, replicate": lambda x: ATEN.pad.default(x, [2, 1, 1, 3], "replicate"),
    "constant_pad_nd": lambda x: ATEN.constant_pad_nd.default(x, [1, 1], 0.5),
    **{
        _name(operator): _upsampled(operator, axes)
        for axes, operators in {
            1: (ATEN.upsample_nearest1d.vec, ATEN.upsample_linear1d.vec),
            2: (ATEN.upsample_nearest2d.vec, ATEN.upsample_bilinear2d.vec, ATEN.upsample_bicubic2d.vec),
            3: (ATEN.upsample_nearest3d.vec, ATEN.upsample_trilinear3d.vec),
        }.items()
        for operator in operators
    },
    "nearest to a size": lambda x: ATEN.upsample_nearest2d.vec(x, [9, 5], None),
    "nearest, smaller": lambda x: ATEN.upsample_nearest2d.vec(x, [3, 4], None),
    "linear to a size": lambda x: ATEN.upsample_bilinear2d.vec(x, [9, 5], False, None),
    "linear, corners aligned": lambda x: ATEN.upsample_bilinear2d.vec(x, [11, 20], True, None),
    "cubic, corners aligned": lambda x: ATEN.upsample_bicubic2d.vec(x, None, True, [2.0, 2.0]),
}
CONSTANTS: Mapping[str, Call] = {
    "zeros": lambda x: ATEN.add.Tensor(x, ATEN.zeros.default([_batch(x), 4, 1, 1])),
    "ones": lambda x: ATEN.add.Tensor(x, ATEN.ones.default([_batch(x), 1, 1, 8])),
    "full": lambda x: ATEN.mul.Tensor(x, ATEN.full.default([_batch(x), 1, 1, 1], 1.5)),
    "zeros_like": lambda x: ATEN.cat.default([x, ATEN.zeros_like.default(x)], 1),
    "ones_like": lambda x: ATEN.cat.default([x, ATEN.ones_like.default(x)], 1),
    "full_like": lambda x: ATEN.cat.default([x, ATEN.full_like.default(x, 0.7)], 1),
    "new_zeros": lambda x: ATEN.add.Tensor(x, ATEN.new_zeros.default(x, [_batch(x), 1, 1, 1])),
    "new_ones": lambda x: ATEN.add.Tensor(x, ATEN.new_ones.default(x, [4, 1, 1])),
    "new_full": lambda x: ATEN.add.Tensor(x, ATEN.new_full.default(x, [_batch(x), 4, 1, 1], 0.7)),
    "fill": lambda x: ATEN.add.Tensor(x, ATEN.fill.Scalar(x, 0.7)),
    "arange": lambda x: ATEN.add.Tensor(x, ATEN.arange.default(8)),
    "eye": lambda x: ATEN.matmul.default(x, ATEN.eye.default(8)),
}
CASES: Mapping[str, Call] = {
    **CONVOLUTIONS,
    **PRODUCTS,
    **ACTIVATIONS,
    **ARITHMETIC,
    **POOLING,
    **NORMALISATIONS,
    **REDUCTIONS,
    **SHAPES,
    **INDEXING,
    **RESAMPLING,
    **CONSTANTS,
}
