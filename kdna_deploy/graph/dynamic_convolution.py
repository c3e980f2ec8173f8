"""The convolution with a kernel for each image: what networks compute whose kernels are made for the image at hand.

    y[i] = conv(x[i], W(x)[i]) + b[i]        x [n, c, h, w]    W [n, c', c/g, k, k]    b [c'] or [n, c'] or none

One operator of a graph, so that passes and translations see it as one; PyTorch has none. Networks spell it, and so
do saved programs, as one image with the channels of all, in as many groups as there are images:

    reshape(conv(reshape(x, [1, n·c, h, w]), reshape(W, [n·c', c/g, k, k]), groups = n·g), [n, c', h', w'])

Does not apply: kernels that are the same for all images, which are ordinary convolutions.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, fx

from kdna_deploy.graph.graph import ATEN, calls


def dynamic_convolution(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
) -> Tensor:
    """Convolve each image of `x` [n, c, *s] with its own kernel, of `weight` [n, c', c/groups, *k].

    `bias` is [c'], or [n, c'] where images have their own. Returns [n, c', *s'].
    """
    n, channels = x.shape[:2]
    filters = weight.shape[1]
    images = x.reshape(1, n * channels, *x.shape[2:])
    kernels = weight.reshape(n * filters, *weight.shape[2:])
    y = torch.convolution(
        images,
        kernels,
        None,
        stride,
        padding,
        dilation,
        False,
        [0] * len(stride),
        n * groups,  # type: ignore[arg-type]
    )
    y = y.reshape(n, filters, *y.shape[2:])
    return y if bias is None else y + bias.reshape(-1, filters, *[1] * len(stride))


def dynamic_convolutions(module: fx.GraphModule) -> list[fx.Node]:
    """The calls of `dynamic_convolution` in a graph, in execution order."""
    return calls(module, {dynamic_convolution})


def spell_out(module: fx.GraphModule) -> None:
    """Write every dynamic convolution with PyTorch's own operators, as a saved program needs them."""
    for node in dynamic_convolutions(module):
        with module.graph.inserting_before(node):
            spelled = _spelled(module.graph, node)
        spelled.meta.update({key: node.meta[key] for key in ("val", "nn_module_stack") if key in node.meta})
        node.replace_all_uses_with(spelled)
        module.graph.erase_node(node)


def _spelled(graph: fx.Graph, node: fx.Node) -> fx.Node:
    arguments: Any = node.args
    x, weight, bias, stride, padding, dilation, groups = arguments
    images, kernels, made = (list(one.meta["val"].shape) for one in (x, weight, node))
    count = graph.call_function(ATEN.sym_size.int, (x, 0))
    y = graph.call_function(
        ATEN.convolution.default,
        (
            graph.call_function(ATEN.reshape.default, (x, [1, -1, *images[2:]])),
            graph.call_function(ATEN.reshape.default, (weight, [-1, *kernels[2:]])),
            *(None, stride, padding, dilation, False, [0] * len(stride)),
            count if groups == 1 else graph.call_function(operator.mul, (count, groups)),
        ),
    )
    y = graph.call_function(ATEN.reshape.default, (y, [-1, *made[1:]]))
    if bias is None:
        return y
    shift = graph.call_function(ATEN.reshape.default, (bias, [-1, made[1], *[1] * len(stride)]))
    return graph.call_function(ATEN.add.Tensor, (y, shift))
