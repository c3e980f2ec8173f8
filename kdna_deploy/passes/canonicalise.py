"""Canonicalise: one spelling for what runtimes know under one name.

    mean over all of h, w   → adaptive average pool to 1×1 (+ reshape where the mean drops the axes)
    x[:, :, 0, 0]-style and flatten views of one batch → reshape to (−1, rest)
    dropout, alias, detach, contiguous in evaluation → nothing

ONNX then gets `GlobalAveragePool` (TensorRT's parser refuses a `ReduceMean` whose axes it cannot resolve) and
a `Reshape` with a constant shape. In-place operators are gone since the capture.

Does not apply: means over other axes, or views that mix the batch with another axis.
"""

from __future__ import annotations

import math
from typing import Any

from torch import fx

from kdna_deploy.graph import ATEN, calls, tidy
from kdna_deploy.passes.result import PassResult

_IDENTITIES = frozenset(
    {ATEN.alias.default, ATEN.detach.default, ATEN.dropout.default, ATEN.contiguous.default, ATEN.clone.default}
)
_RESHAPES = frozenset({ATEN.view.default, ATEN.reshape.default, ATEN._unsafe_view.default, ATEN.flatten.using_ints})


def canonicalise(module: fx.GraphModule) -> PassResult:
    """Rewrite every site that has a canonical spelling."""
    changed = _drop_identities(module) + _pool_means(module) + _fix_reshapes(module)
    tidy(module)
    return PassResult(changed)


def _drop_identities(module: fx.GraphModule) -> int:
    changed = 0
    for node in calls(module, _IDENTITIES):
        if node.target is ATEN.dropout.default and node.args[2]:
            continue
        node.replace_all_uses_with(node.args[0])  # type: ignore[arg-type]
        changed += 1
    return changed


def _pool_means(module: fx.GraphModule) -> int:
    changed = 0
    for node in calls(module, {ATEN.mean.dim}):
        source = node.args[0]
        if not isinstance(source, fx.Node) or source.meta["val"].dim() != 4:
            continue
        axes: Any = node.args[1]
        if axes is None or sorted(axis % 4 for axis in axes) != [2, 3] or node.kwargs.get("dtype") is not None:
            continue
        keeps = len(node.args) > 2 and bool(node.args[2])
        with module.graph.inserting_before(node):
            pooled = module.graph.call_function(ATEN.adaptive_avg_pool2d.default, (source, [1, 1]))
            pooled.meta = dict(node.meta)
            pooled.meta["val"] = source.meta["val"].mean((2, 3), keepdim=True)
            result = pooled
            if not keeps:
                result = module.graph.call_function(ATEN.view.default, (pooled, [-1, int(node.meta["val"].shape[1])]))
                result.meta = dict(node.meta)
        node.replace_all_uses_with(result)
        changed += 1
    return changed


def _fix_reshapes(module: fx.GraphModule) -> int:
    """Write views whose first axis is the batch as (−1, rest): no shape arithmetic is left in the graph."""
    changed = 0
    for node in calls(module, _RESHAPES):
        source = node.args[0]
        assert isinstance(source, fx.Node)
        before, after = source.meta["val"].shape, node.meta["val"].shape
        rest = list(after[1:])
        if not before or not after or not all(isinstance(n, int) for n in (*before[1:], *rest)):
            continue
        if isinstance(after[0], int) or math.prod(before[1:]) != math.prod(rest):
            continue
        if node.target is ATEN.view.default and node.args[1] == [-1, *rest]:
            continue
        node.target = ATEN.view.default
        node.args = (source, [-1, *rest])
        changed += 1
    return changed
