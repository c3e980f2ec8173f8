"""Find convolutions with a kernel for each image, by what they compute.

    conv(x' [1, n·c, h, w], W' [n·c', c/g, k, k], groups = n·g)
        → reshape(dynamic_convolution(reshape(x', [n, c, h, w]), reshape(W', [n, c', c/g, k, k])), [1, n·c', h', w'])

    W' [n, c', c·k²] · im2col(x) [n, c·k², h'·w']
        → reshape(dynamic_convolution(x, reshape(W', [n, c', c, k, k])), [n, c', h'·w'])

A convolution with n·g groups is that whatever made x' and W': its groups i·g + j read the channels of image i alone.
Reshapes that undo each other go, and a constant that is added to its channels becomes its bias.

Does not apply: paddings that are told in words, and groups that are no multiple of the batch; translations refuse them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import fx

from kdna_deploy.graph.dynamic_convolution import dynamic_convolution, dynamic_convolutions
from kdna_deploy.graph.graph import (
    ATEN,
    CONVOLUTIONS,
    PRODUCTS,
    add_constant,
    ancestors,
    calls,
    constant,
    constant_nodes,
    site,
    take_site,
    tidy,
)
from kdna_deploy.graph.passes.result import PassResult, Refusal
from kdna_deploy.graph.weight_expression import evaluate
from kdna_deploy.network.result_shapes import each_axis

_RESHAPES = frozenset({ATEN.reshape.default, ATEN.view.default, ATEN._unsafe_view.default})


def find_dynamic_convolutions(module: fx.GraphModule) -> PassResult:
    """Write every convolution with a kernel for each image as `dynamic_convolution`."""
    changed, refused = 0, []
    for layer in calls(module, CONVOLUTIONS | {ATEN.convolution.default}):
        if not isinstance(_arguments(layer)["groups"], fx.Node):
            continue
        reason = refusal(layer)
        if reason is None:
            _replace(layer)
            changed += 1
        else:
            refused.append(Refusal(site(layer), f"it has {reason}"))
    fixed = constant_nodes(module)
    for product in calls(module, PRODUCTS):
        if _is_of_columns(product, fixed):
            _replace_columns(product)
            changed += 1
    module.graph.eliminate_dead_code()  # reshapes that nobody reads would be readers of what a bias is added to
    changed += sum(_take_bias(node, constant_nodes(module)) for node in dynamic_convolutions(module))
    tidy(module)
    return PassResult(changed, tuple(refused))


def _arguments(layer: fx.Node) -> dict[str, Any]:
    """Arguments of a convolution by name, with the defaults of its overload."""
    schema: Any = layer.target._schema  # type: ignore[union-attr]
    given = {argument.name: argument.default_value for argument in schema.arguments}
    return {**given, **dict(zip(given, layer.args, strict=False)), **layer.kwargs}


def refusal(layer: fx.Node) -> str | None:
    """Why the operator cannot stand for a convolution with as many groups as there are images; None where it can."""
    given = _arguments(layer)
    if not isinstance(given["groups"], fx.Node):
        return "a stride or padding that depends on the batch"
    images, kernels = given["input"].meta["val"].shape, given["weight"].meta["val"].shape
    if isinstance(given["padding"], str):
        return f"a kernel for each image, with padding '{given['padding']}'; give that in numbers"
    if given.get("transposed"):
        return "a kernel for each image, and is transposed"
    if images[0] != 1 or None in _of_each_image(given["groups"].meta["val"], images[1], kernels[0]):
        return "a number of groups that depends on the batch, and channels or kernels that are no multiple of it"
    return None


def _of_each_image(groups: Any, *sizes: Any) -> list[int | None]:
    """`groups` and `sizes` for each image, the size of the batch being the symbol in `groups`; None for no multiple."""
    import sympy  # type: ignore[import-untyped]  # here, for most networks have no such convolution

    symbols = groups.node.expr.free_symbols if isinstance(groups, torch.SymInt) else set()
    if len(symbols) != 1:
        return [None]
    batch = symbols.pop()
    shares = [
        sympy.cancel(size.node.expr / batch) if isinstance(size, torch.SymInt) else None for size in (groups, *sizes)
    ]
    return [int(share) if share is not None and share.is_Integer else None for share in shares]


def _replace(layer: fx.Node) -> None:
    given = _arguments(layer)
    x, weight, bias = given["input"], given["weight"], given["bias"]
    images, kernels = x.meta["val"].shape, weight.meta["val"].shape
    axes = len(images) - 2
    groups, channels, filters = _of_each_image(given["groups"].meta["val"], images[1], kernels[0])
    with layer.graph.inserting_before(layer):
        x, weight = _reshaped(x, [-1, channels, *images[2:]]), _reshaped(weight, [-1, filters, *kernels[1:]])
        bias = None if bias is None else _reshaped(bias, [-1, filters])
        settings = [each_axis(given[name], axes) for name in ("stride", "padding", "dilation")]
        made = layer.graph.call_function(dynamic_convolution, (x, weight, bias, *settings, groups))
    _put(made, layer, layer.meta["val"].shape[2:], [1, -1, *layer.meta["val"].shape[2:]])


def _is_of_columns(product: fx.Node, fixed: set[fx.Node]) -> bool:
    """Whether a product multiplies the columns of an image's windows by a matrix of that image's own."""
    matrix, columns = product.args[:2]
    if not isinstance(matrix, fx.Node) or matrix in fixed or not isinstance(columns, fx.Node):
        return False
    if columns.target is not ATEN.im2col.default or matrix.meta["val"].dim() != 3:
        return False
    return _same(matrix.meta["val"].shape[:1], columns.meta["val"].shape[:1]) and len(columns.args) == 5


def _replace_columns(product: fx.Node) -> None:
    matrix, columns = product.args[:2]
    assert isinstance(matrix, fx.Node) and isinstance(columns, fx.Node)
    x, kernel, dilation, padding, stride = columns.args
    assert isinstance(x, fx.Node)
    channels, *size = x.meta["val"].shape[1:]
    filters = matrix.meta["val"].shape[1]
    settings = [each_axis(one, 2) for one in (kernel, stride, padding, dilation)]
    sizes = [(n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, s, p, d in zip(size, *settings, strict=True)]
    with product.graph.inserting_before(product):
        weight = _reshaped(matrix, [-1, filters, channels, *settings[0]])
        made = product.graph.call_function(dynamic_convolution, (x, weight, None, *settings[1:], 1))
    _put(made, product, sizes, [-1, filters, math.prod(sizes)])


def _put(made: fx.Node, layer: fx.Node, sizes: Sequence[Any], whole_shape: Sequence[Any]) -> None:
    """Let `made`, with maps of `sizes`, stand for `layer`, whose result has the `whole_shape`."""
    x, weight = made.args[:2]
    _describe(made, [x.meta["val"].shape[0], weight.meta["val"].shape[1], *sizes], layer)  # type: ignore[union-attr]
    take_site(made, layer)
    with layer.graph.inserting_before(layer):
        whole = _reshaped(made, whole_shape)
    layer.replace_all_uses_with(whole)
    layer.graph.erase_node(layer)
    for user in [user for user in whole.users if user.target in _RESHAPES and whole is not made]:
        with layer.graph.inserting_before(user):
            user.replace_all_uses_with(_reshaped(made, list(user.meta["val"].shape), user.args[1]))


def _reshaped(source: fx.Node, shape: Sequence[Any], spelled: Any = None) -> fx.Node:
    """`source` in the `shape`, whose −1 is the size that depends on the batch, without reshapes that change nothing."""
    while source.target in _RESHAPES:
        source = source.args[0]  # type: ignore[assignment]
    value = source.meta["val"]
    made = value.new_empty(value.shape).reshape(shape)
    if _same(made.shape, value.shape):
        return source
    held = [size if isinstance(size, int) else -1 for size in shape]
    node = source.graph.call_function(ATEN.reshape.default, (source, held if held.count(-1) < 2 else spelled))
    node.meta["val"] = made
    return node


def _same(one: Sequence[Any], other: Sequence[Any]) -> bool:
    return [str(size) for size in one] == [str(size) for size in other]


def _describe(made: fx.Node, shape: Sequence[Any], layer: fx.Node) -> None:
    made.meta = {key: value for key, value in layer.meta.items() if key != "val"}
    made.meta["val"] = layer.meta["val"].new_empty(shape)


def _precision(fixed: fx.Node) -> torch.dtype:
    """Of the constants that `fixed` is computed from; what is read from a file stays in that."""
    values = (constant(one) for one in ancestors(fixed) if one.op == "get_attr")
    return next((value.dtype for value in values if value.is_floating_point()), torch.float64)


def _take_bias(node: fx.Node, fixed: set[fx.Node]) -> int:
    """Let a constant that is added to the channels of `node` be its bias; whether there was one."""
    x, weight, bias, *settings = node.args
    if bias is not None or len(node.users) != 1:
        return 0
    (user,) = node.users
    shift = next((one for one in user.all_input_nodes if one is not node), None)
    if user.target is not ATEN.add.Tensor or shift not in fixed or user.kwargs or len(user.args) != 2:
        return 0
    value = evaluate(shift)
    rank, filters = len(node.meta["val"].shape), int(node.meta["val"].shape[1])
    wanted = [1] * (rank - value.dim()) + list(value.shape)
    if wanted != [1, filters, *[1] * (rank - 2)]:
        return 0
    held = add_constant(node, f"{node.name}_bias", value.flatten().to(_precision(shift)))
    node.args = (x, weight, held, *settings)
    user.replace_all_uses_with(node)
    return 1
