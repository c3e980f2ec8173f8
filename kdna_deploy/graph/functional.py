"""In-place operators, and layers that torch takes apart in evaluation, as functional operators: a rewrite each.

    x.relu_()               → relu(x), read instead of x by whatever reads it from then on
    batch_norm              → _native_batch_norm_legit_no_training(x, γ, β, μ, σ², momentum, ε)[0]
    flatten, chunk          → reshape, split
    dropout in evaluation   → nothing, and so is `to` of the same type; of another, a copy

It is what `torch.export` does by tracing the network once more. Does not apply, and says so: writes that something else
sees (through a view, into the input or a buffer), and whatever else torch takes apart.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, fx

from kdna_deploy.graph.graph import ATEN, BATCH_NORM, CONVOLUTIONS, TRANSPOSED

# Composite operators whose result is memory of its own, for certain.
_FRESH = (
    CONVOLUTIONS
    | TRANSPOSED
    | {
        *(ATEN.linear.default, ATEN.matmul.default, ATEN.batch_norm.default, ATEN.layer_norm.default),
        *(ATEN.max_pool2d.default, ATEN.adaptive_avg_pool2d.default, ATEN.group_norm.default),
    }
)
_SIZES = frozenset(
    {operator.getitem, operator.add, operator.sub, operator.mul, operator.floordiv, operator.mod, operator.truediv}
    | {operator.eq, operator.ne, operator.lt, operator.le, operator.gt, operator.ge, math.ceil, math.floor}
)
# Composite operators that the passes know, though they may be views.
_KEPT = frozenset({ATEN.reshape.default, ATEN.contiguous.default})
# Others without a view in their schema, which torch takes apart nevertheless.
_TAKEN_APART = frozenset({"instance_norm", "feature_dropout", "alpha_dropout"})


class _NotHere(Exception):
    """A node that no rewrite here makes functional."""


def functionalise(module: fx.GraphModule) -> bool:
    """Make a captured graph functional in place; False where rewrites cannot, and the graph is to be thrown away."""
    order = {node: position for position, node in enumerate(module.graph.nodes)}
    try:
        for node in list(module.graph.nodes):
            if node.op == "call_function":
                _functional(node, order)
    except _NotHere:
        return False
    module.graph.eliminate_dead_code()
    return True


def _functional(node: fx.Node, order: dict[fx.Node, int]) -> None:
    target = node.target
    if not isinstance(target, torch._ops.OpOverload):
        if target not in _SIZES:
            raise _NotHere
    elif target in _REWRITES:
        with node.graph.inserting_before(node):
            _replace(node, _REWRITES[target](node), order)
    elif target._schema.is_mutable:
        _out_of_place(node, order)
    elif _is_composite(target) and target not in _KEPT and (_aliases(target) or _name(target) in _TAKEN_APART):
        raise _NotHere


def _replace(node: fx.Node, made: fx.Node, order: dict[fx.Node, int]) -> None:
    order.setdefault(made, order[node])
    made.meta = made.meta or dict(node.meta)
    node.replace_all_uses_with(made)
    node.graph.erase_node(node)


def _out_of_place(node: fx.Node, order: dict[fx.Node, int]) -> None:
    """Compute what `node` writes into its first operand, and let all that reads the operand later read it."""
    written = node.args[0]
    if not isinstance(written, fx.Node) or _may_share_memory(written) or not _keeps_type(node):
        raise _NotHere
    if any(_may_share_memory(user) for user in written.users if order[user] < order[node]):
        raise _NotHere
    with node.graph.inserting_before(node):
        made = node.graph.call_function(_counterpart(node.target), node.args, node.kwargs)
    _replace(node, made, order)
    for user in [user for user in written.users if user is not made and order[user] > order[made]]:
        user.replace_input_with(written, made)


def _counterpart(target: Any) -> torch._ops.OpOverload:
    """``relu`` of ``relu_``."""
    packet = getattr(ATEN, _name(target).removesuffix("_"), None)
    found = getattr(packet, target._overloadname, None)
    if not isinstance(found, torch._ops.OpOverload) or found._schema.is_mutable or _is_composite(target):
        raise _NotHere
    if [argument.name for argument in found._schema.arguments] != [a.name for a in target._schema.arguments]:
        raise _NotHere
    return found


def _keeps_type(node: fx.Node) -> bool:
    """Whether the result has the type of the operand that it is written into without being cast."""
    values = [source.meta.get("val") for source in node.all_input_nodes]
    types = {value.dtype for value in values if isinstance(value, Tensor)}
    return len(types) == 1 and types.pop().is_floating_point


def _may_share_memory(node: fx.Node) -> bool:
    """Whether the result of `node` may lie in the memory of another tensor."""
    if node.target is operator.getitem:
        return _may_share_memory(_operand(node))
    if not isinstance(node.target, torch._ops.OpOverload):
        return node.op in ("placeholder", "get_attr")
    if node.target in _FRESH or not isinstance(node.meta.get("val"), (Tensor, tuple, list)):
        return False
    return _is_composite(node.target) or _aliases(node.target)


def _batch_norm(node: fx.Node) -> fx.Node:
    arguments: Any = node.args
    x, weight, bias, mean, variance, training, momentum, eps, *_ = arguments
    if training or mean is None or variance is None:
        raise _NotHere
    norm = node.graph.call_function(BATCH_NORM, (x, weight, bias, mean, variance, momentum, eps))
    value = node.meta["val"]
    # In evaluation the operator's other two results, statistics of a batch, are empty: a saved file counts all three.
    norm.meta = {**node.meta, "val": (value, value.new_empty(0), value.new_empty(0))}
    return node.graph.call_function(operator.getitem, (norm, 0))


def _reshape(node: fx.Node) -> fx.Node:
    """To a constant shape, or to (−1, rest) where the batch stays the first axis."""
    source = _operand(node)
    before, after = source.meta["val"].shape, node.meta["val"].shape
    shape = list(after)
    if not all(isinstance(size, int) for size in shape):
        shape = [-1, *after[1:]]
        if not all(isinstance(size, int) for size in (*before[1:], *shape)):
            raise _NotHere
        if math.prod(before[1:]) != math.prod(shape[1:]):  # the batch is flattened as well
            raise _NotHere
    return node.graph.call_function(ATEN.reshape.default, (source, shape))


def _chunk(node: fx.Node) -> fx.Node:
    arguments: Any = (*node.args, 0)
    source, parts, axis = arguments[:3]
    size = source.meta["val"].shape[axis]
    if not isinstance(size, int):
        raise _NotHere
    return node.graph.call_function(ATEN.split.Tensor, (source, -(-size // parts), axis))


def _without_dropout(node: fx.Node) -> fx.Node:
    if node.args[2]:
        raise _NotHere
    return _operand(node)


def _without_cast(node: fx.Node) -> fx.Node:
    source = _operand(node)
    before, after = source.meta["val"], node.meta["val"]
    copied = len(node.args) > 2 or {"copy", "memory_format"} & set(node.kwargs)
    if copied or before.device != after.device:
        raise _NotHere
    if before.dtype != after.dtype:
        return node.graph.call_function(ATEN._to_copy.default, (source,), {"dtype": after.dtype})
    return source


def _is_composite(target: torch._ops.OpOverload) -> bool:
    """Whether torch has the operator as a composition of others alone."""
    return bool(torch._C._dispatch_has_kernel_for_dispatch_key(target.name(), "CompositeImplicitAutograd"))


def _aliases(target: torch._ops.OpOverload) -> bool:
    schema = target._schema
    return any(side.alias_info is not None for side in (*schema.arguments, *schema.returns))


def _name(target: torch._ops.OpOverload) -> str:
    return target._schema.name.removeprefix("aten::")


def _operand(node: fx.Node) -> fx.Node:
    source = node.args[0]
    assert isinstance(source, fx.Node)
    return source


_REWRITES: Mapping[Any, Callable[[fx.Node], fx.Node]] = {
    ATEN.batch_norm.default: _batch_norm,
    **dict.fromkeys((ATEN.flatten.using_ints, ATEN.unflatten.int, ATEN.view_as.default), _reshape),
    ATEN.chunk.default: _chunk,
    # Of constants, which nothing writes into here.
    **dict.fromkeys((ATEN.lift_fresh_copy.default, ATEN.detach_.default), _operand),
    ATEN.dropout.default: _without_dropout,
    **dict.fromkeys((ATEN.to.dtype, ATEN.to.dtype_layout, ATEN.type_as.default), _without_cast),
}
