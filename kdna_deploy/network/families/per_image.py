"""The convolution with a kernel for each image, and kernels mixed for each image.

    y_i = x_i * W(x)_i                    W(x) [n, c', c/g, k, k]
    W(x) = π(x) E                         π [n, K], E [K, c'·c/g·k²]: one product for the whole batch

Written as one grouped convolution of all images beside each other, so that a batch of any size is traced: x as
[1, n·c, h, w], kernels as [n·c', c/g, k, k], n·g groups.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdna_deploy.network.method import Place

_STEMS = ("conv1", "features.0.0")


def convolve_each(x: Tensor, kernels: Tensor, place: Place) -> Tensor:
    """Image i of `x` [n, c, h, w] convolved with `kernels`[i], of [n, c', c/g, k, k]; returns [n, c', h', w']."""
    n, c, h, w = x.shape
    beside = x.reshape(1, n * c, h, w)
    stacked = kernels.reshape(n * place.c_out, *kernels.shape[2:])  # `flatten` is traced twice, four times as long
    out = F.conv2d(beside, stacked, None, place.stride, place.padding, 1, n * place.groups)
    return out.reshape(n, place.c_out, out.shape[2], out.shape[3])


def mixed(coefficients: Tensor, bank: Tensor) -> Tensor:
    """Kernels [n, c', c/g, k, k], each a sum of `bank` [K, c', c/g, k, k] with its image's `coefficients` [n, K]."""
    return (coefficients @ bank.flatten(1)).reshape(-1, *bank.shape[1:])


def behind_stem(place: Place) -> bool:
    """Whether a place is a convolution of the blocks or behind them; those that downsample are."""
    return not place.linear and place.name not in _STEMS


def pooled(x: Tensor) -> Tensor:
    """Means [n, c, 1, 1] of the maps of `x`."""
    return F.adaptive_avg_pool2d(x, 1)


def convolve_all(x: Tensor, kernel: Tensor, place: Place) -> Tensor:
    """All images of `x` convolved with one `kernel` [c', c/g, k, k]."""
    return F.conv2d(x, kernel, None, place.stride, place.padding, 1, place.groups)


def window_means(x: Tensor, windows: tuple[int, int]) -> Tensor:
    """Adaptive average pooling of `x` [n, c, h, w] to [n, c, *windows], as a product along each axis.

    ONNX pools over windows of one size alone, and 7 is no multiple of 2 or 3; for a fixed h and w these are constants.
    """
    along = [
        F.adaptive_avg_pool1d(torch.eye(size, dtype=x.dtype, device=x.device)[None], count)[0]
        for size, count in zip(x.shape[2:], windows, strict=True)
    ]
    return along[0].t() @ x @ along[1]


def fresh_kernel(place: Place) -> Tensor:
    """An untrained kernel [c', c/g, k, k] for this place."""
    layer = nn.Conv2d(place.c_in, place.c_out, place.kernel, groups=place.groups, bias=False)
    return layer.weight.detach()


def fresh_bank(kernels: int, place: Place) -> nn.Parameter:
    """A bank [K, c', c/g, k, k] of untrained kernels."""
    return nn.Parameter(torch.stack([fresh_kernel(place) for _ in range(kernels)]))
