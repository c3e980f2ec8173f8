"""The program in a ``.pt2``, a graph written as JSON: read, checked field by field, and written anew.

    names        identifiers, for torch writes Python with them
    operators    `operators`: an allow-list, with the kinds of their arguments
    sizes        `size_expression`: symbols, integers and bounded arithmetic
    weights      tensors of plain numbers that lie within the bytes that are stored for them
    signature    one image batch → one tensor; no state is changed

What is not known here (guards that torch would run as Python, custom objects, graphs within the graph, traces of
whoever made the file) is left out or refused, so that torch's reader sees nothing but what was understood.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from kdna_deploy.graph.archive.operators import check_call
from kdna_deploy.graph.archive.program_schema import ITEM_BYTES, PROGRAM, WEIGHTS, Forbidden
from kdna_deploy.json_schema import Misfit

# Constants may be views that repeat their numbers (a mask that was expanded): so many bytes more than are stored.
MAX_REPEATED = 1 << 28


def check_program(content: bytes) -> dict[str, Any]:
    """The program in `content`, made of what is known alone.

    Raises:
        Forbidden: it holds what could run code.
        Misfit: it is damaged.
    """
    program: dict[str, Any] = PROGRAM(_json(content))
    graph = program["graph_module"]["graph"]
    for node in graph["nodes"]:
        _check_node(node)
    users = [spec for spec in program["graph_module"]["signature"]["input_specs"] if "user_input" in spec]
    if len(users) != 1:
        raise Misfit("no map from one image batch to one tensor", ("signature",))
    return program


def check_weights(content: bytes, stored: Mapping[str, int], prefix: str) -> dict[str, Any]:
    """The list of weights in `content`, whose bytes `stored` counts by member name, in the folder `prefix`.

    Raises:
        Forbidden: it names pickled objects.
        Misfit: it is damaged, or a weight is not what is stored for it.
    """
    config: dict[str, Any] = WEIGHTS(_json(content))
    repeated = 0
    for name, entry in config["config"].items():
        if entry["use_pickle"]:
            raise Forbidden("a pickled object", (name,))
        member = f"{prefix}{entry['path_name']}"
        if entry["tensor_meta"] is None or member not in stored:
            raise Misfit("not stored", (name,))
        repeated += max(0, _weight_bytes(name, entry["tensor_meta"], stored[member]) - stored[member])
        if repeated > MAX_REPEATED:
            raise Misfit("far larger than what is stored for it", (name,))
    return config


def _weight_bytes(name: str, meta: Mapping[str, Any], stored: int) -> int:
    """Bytes that a weight takes when it is written out, its view having been found to lie within `stored` bytes."""
    try:
        sizes = [size["as_int"] for size in meta["sizes"]]
        strides = [stride["as_int"] for stride in meta["strides"]]
        offset = meta["storage_offset"]["as_int"]
    except KeyError:
        raise Misfit("of a size that is not known", (name,)) from None
    if len(sizes) != len(strides) or min([offset, *sizes, *strides]) < 0:
        raise Misfit("of a wrong shape", (name,))
    item, numbers = ITEM_BYTES[meta["dtype"]], math.prod(sizes)
    last = offset + sum((size - 1) * stride for size, stride in zip(sizes, strides, strict=True))
    if stored % item or (numbers and (last + 1) * item > stored):
        raise Misfit("larger than what is stored for it", (name,))
    return numbers * item


def _json(content: bytes) -> Any:
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        raise Misfit("no JSON") from None


def _check_node(node: Mapping[str, Any]) -> None:
    arguments = []
    for entry in node["inputs"]:
        [(kind, value)] = entry["arg"].items()
        arguments.append((entry["name"], kind, value))
    try:
        check_call(node["target"], arguments)
    except Misfit as misfit:
        where = f" with '{misfit.where[0]}'" if misfit.where else ""
        raise Forbidden(misfit.reason, (f"the operator {_short(node['target'])}{where}",)) from None


def _short(target: str) -> str:
    return target.removeprefix("torch.ops.")
