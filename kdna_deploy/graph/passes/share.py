"""Share: of kernels that several layers are made from, store what takes the least room, and compute the rest from it.

    W_l = W * M,  W[i] * M,  a * W + b * V,  W + A·B, …        computed by whoever runs the graph: ONNX Runtime once, at
                                                               session start

What to store is a minimum cut between the trained constants and the layers' weights: a parent and its modulations, or
the children, whichever is smaller. Where both are equal the children are (a depthwise kernel [c, 1, k, k] is as large
as its M).

Does not apply: a kernel that one layer uses, and operators that files do not keep (`KEPT`): both are materialised. A
child that loses its parent in this way is named, with the reason.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Collection, Iterable, Sequence

import torch
from torch import Tensor, fx

from kdna_deploy.graph.graph import ATEN, add_constant, ancestors, calls, constant, constant_nodes, tidy
from kdna_deploy.graph.kernels import Kernel, Site, is_weight, shared_kernels, sites, unmodulated
from kdna_deploy.graph.ledger import conv_label
from kdna_deploy.graph.minimum_cut import minimum_cut
from kdna_deploy.graph.passes.fold_static_attention import merge_equal
from kdna_deploy.graph.passes.materialise import materialise, materialised_name
from kdna_deploy.graph.passes.result import PassResult, Refusal
from kdna_deploy.graph.weight_expression import VIEWS, evaluate, name_of, shape_of

# Operators on constants that stay in a file: pure, and translated by every export.
KEPT = frozenset(
    {
        ATEN.add.Tensor,
        ATEN.cat.default,
        ATEN.div.Tensor,
        ATEN.einsum.default,
        ATEN.expand.default,
        ATEN.flip.default,
        ATEN.index_select.default,
        ATEN.lerp.Scalar,
        ATEN.matmul.default,
        ATEN.mm.default,
        ATEN.mul.Tensor,
        ATEN.neg.default,
        ATEN.permute.default,
        ATEN.reshape.default,
        ATEN.roll.default,
        ATEN.rot90.default,
        ATEN.select.int,
        ATEN.slice.Tensor,
        ATEN.squeeze.dim,
        ATEN.squeeze.dims,
        ATEN.stack.default,
        ATEN.sub.Tensor,
        ATEN.sum.dim_IntList,
        ATEN.t.default,
        ATEN.tensordot.default,
        ATEN.transpose.int,
        ATEN.unsqueeze.default,
        ATEN.view.default,
    }
)


def share(module: fx.GraphModule) -> PassResult:
    """Store what shared kernels are made from in the form that takes the least room, and every other one as it is."""
    merge_equal(module)
    shared = shared_kernels(sites(module))
    keep = [site for site in sites(module) if any(site in kernel.sites for kernel in shared)]
    materialised = materialise(module, keep).changed
    _select_by_index(module)
    stored = [node for node in _to_store(module, keep) if node.op != "get_attr"]
    consumers = Counter(site.weight for site in keep)
    lost = [site for site in keep if site.weight in stored and consumers[site.weight] == 1]
    refused = tuple(Refusal(conv_label(site.layer), _reason(site, shared)) for site in lost)
    weights = set(consumers)
    for node, value in [(node, evaluate(node)) for node in stored]:
        name = materialised_name(node) if node in weights else name_of(node)
        node.replace_all_uses_with(add_constant(node, name, value))
    tidy(module)
    return PassResult(materialised + len(stored), refused)


def _to_store(module: fx.GraphModule, keep: Sequence[Site]) -> set[fx.Node]:
    """The constant nodes to store so that the weights of the layers to `keep` can be computed."""
    weights = {site.weight for site in keep}
    nodes = dict.fromkeys(node for weight in weights for node in ancestors(weight))
    needed = _needed_anyway(module, nodes)
    return minimum_cut(
        {node: 0 if node in needed else _bytes(node) for node in nodes},
        edges=[(source, node) for node in nodes for source in node.all_input_nodes],
        sources=[node for node in nodes if node.target not in KEPT],
        sinks=weights,
    )


def _needed_anyway(module: fx.GraphModule, nodes: Collection[fx.Node]) -> set[fx.Node]:
    """Constants that something else than a weight reads."""
    fixed = constant_nodes(module)
    return {
        node
        for node in nodes
        if node.op == "get_attr" and any(user not in fixed and not is_weight(node, user) for user in node.users)
    }


def _bytes(node: fx.Node) -> int:
    """Room that a constant takes in a file, whose floats are float32; more than there is for what cannot be stored."""
    value = constant(node) if node.op == "get_attr" else node.meta.get("val")
    if value is not None and not isinstance(value, Tensor):
        return sys.maxsize  # several tensors
    width = 4 if value is None or value.is_floating_point() else value.element_size()
    return width * shape_of(node).numel()


def _select_by_index(module: fx.GraphModule) -> None:
    """Write ``w[:, index]`` as `index_select`, where one axis alone is indexed."""
    fixed = constant_nodes(module)
    for node in calls(module, {ATEN.index.Tensor}):
        source, indices = node.args
        if node not in fixed or not isinstance(indices, (list, tuple)):
            continue
        used = [(axis, index) for axis, index in enumerate(indices) if index is not None]
        if len(used) != 1 or not isinstance(source, fx.Node) or not isinstance(used[0][1], fx.Node):
            continue
        axis, index = used[0]
        places = evaluate(index)
        if places.dtype not in (torch.int64, torch.bool) or places.dim() != 1:
            continue
        if places.dtype == torch.bool:
            index = add_constant(node, f"{node.name}_places", places.nonzero().flatten())
        elif bool((places < 0).any()):
            index = add_constant(node, f"{node.name}_places", places % shape_of(source)[axis])
        node.target, node.args = ATEN.index_select.default, (source, axis, index)


def _reason(site: Site, shared: Sequence[Kernel]) -> str:
    """Why a layer has a kernel of its own although others use what it is made of."""
    parents = [kernel for kernel in shared if site in kernel.sites]
    made_of = " and ".join(kernel.name for kernel in parents)
    foreign = _foreign(site.weight)
    steps = [node for node in ancestors(unmodulated(site.weight)) if node.op == "call_function"]
    if foreign:
        why = f"made of {made_of} by {', '.join(foreign)}, which files do not keep"
    elif all(_foreign(other.weight) for kernel in parents for other in kernel.sites if other != site):
        why = f"no layer is left to share {made_of} with"
    elif all(node.target in VIEWS for node in steps):
        why = f"its modulation of {made_of} takes as much room as the copy that it saves"
    else:
        how = ", ".join(_names(node for node in steps if node.target not in VIEWS))
        why = f"what makes it of {made_of} ({how}) takes as much room as the copy that it saves"
    return f"{why}; stored as a kernel of its own"


def _foreign(weight: fx.Node) -> list[str]:
    """Operators that files do not keep and that made a kernel, not merely a coefficient."""
    steps = [node for node in ancestors(weight) if node.op == "call_function" and node.target not in KEPT | VIEWS]
    return _names(node for node in steps if shape_of(node).numel() >= shape_of(weight).numel())


def _names(nodes: Iterable[fx.Node]) -> list[str]:
    """Operators of some nodes, as PyTorch's users know them, each once."""
    return list(dict.fromkeys(str(node.target).removeprefix("aten.").partition(".")[0] for node in nodes))
