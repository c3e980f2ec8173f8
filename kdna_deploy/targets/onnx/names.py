"""Names in an ONNX graph: of its input and output, and of each node after its module and its operator.

    layer3.bns.0/Conv, layer3.bns.0/Conv_2, …        module/operator, numbered where a module has several

The module is the one by which every other report calls the layer (`graph.site`), so that a profile, a list of sensitive
layers and the table of parents and children speak of the same things. Our own translation names nodes as it writes
them; `torch.onnx` leaves the modules of a node in its metadata.

Does not apply to models that come from elsewhere: what has no such metadata keeps its name.
"""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Sequence

import onnx_ir as ir

from kdna_deploy.graph.passes.result import PassResult

INPUT = "input"
HEIGHT, WIDTH = "height", "width"
_SCOPES = "pkg.torch.onnx.name_scopes"


def name_nodes(model: ir.Model) -> PassResult:
    """Name the nodes of a model that `torch.onnx` has just made; a change is a node with another name."""
    taken: Counter[str] = Counter()
    changed = 0
    for node in model.graph:
        site = _site(node)
        if site is None:
            continue
        name = f"{site}/{node.op_type}" if site else node.op_type
        taken[name] += 1
        name = name if taken[name] == 1 else f"{name}_{taken[name]}"
        changed += node.name != name
        node.name = name
    return PassResult(changed)


def site_of(node_name: str) -> str:
    """The module in the name of a node."""
    return node_name.rpartition("/")[0]


def _site(node: ir.Node) -> str | None:
    """The innermost module; the last of the scopes is the operation itself."""
    recorded = node.metadata_props.get(_SCOPES)
    if recorded is None:
        return None
    scopes: Sequence[str] = ast.literal_eval(recorded)
    return scopes[-2] if len(scopes) > 1 else ""
