"""Share: a parent kernel is stored once, and its children stay modulations of it.

    W_l = W * M        multiplied by whoever runs the graph: ONNX Runtime once, at session start

A weight that nobody shares is materialised, as is one whose modulations would take as much room as the copies they
save (a depthwise kernel [c, 1, k, k] is as large as its M).
"""

from __future__ import annotations

from torch import fx

from kdna_deploy.graph import WEIGHTED, calls, constant
from kdna_deploy.passes.fold_static_attention import weight_base
from kdna_deploy.passes.materialise import materialise
from kdna_deploy.passes.result import PassResult
from kdna_deploy.weight_expression import leaves


def share(module: fx.GraphModule) -> PassResult:
    """Materialise every weight but those of parents that are worth sharing."""
    shared = [consumers for consumers in shared_weights(module) if _saves(consumers)]
    return materialise(module, keep=frozenset(layer for consumers in shared for layer in consumers))


def shared_weights(module: fx.GraphModule) -> list[list[fx.Node]]:
    """The layers of each kernel that several use."""
    layers: dict[str, list[fx.Node]] = {}
    for layer in calls(module, WEIGHTED):
        base = weight_base(layer)
        if base is not None:
            layers.setdefault(str(base.target), []).append(layer)
    return [consumers for consumers in layers.values() if len(consumers) > 1]


def _saves(consumers: list[fx.Node]) -> bool:
    """Whether the parent and its modulations take less room than a kernel for each consumer."""
    base = weight_base(consumers[0])
    assert base is not None
    kernel = constant(base).numel()
    modulations = 0
    for layer in consumers:
        weight = layer.args[1]
        assert isinstance(weight, fx.Node)
        modulations += sum(constant(leaf).numel() for leaf in leaves(weight) if leaf.target != base.target)
    return kernel + modulations < len(consumers) * kernel
