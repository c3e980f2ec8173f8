"""In what two ONNX files differ that should be one and the same: bytes, versions, metadata, graph, weights.

Names of files and folders are no part of that, nor are packages that were not used: those of the one are taken over.
Nothing is matched up: the first node that is another one is named, and of weights that which moved farthest.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, replace
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from kdna_deploy.errors import ArtifactError
from kdna_deploy.files import file_sha256
from kdna_deploy.graph.provenance import BYSTANDERS, Provenance
from kdna_deploy.network.factory import named_file
from kdna_deploy.runtimes.onnx_file import load_weights, provenance_of_model, read_model, record, weights_file

# Where names are recorded: a file is the same whatever the folder that it, or its input, lies in is called.
_NAMES = (("calibration", "images"), ("int8", "images"), ("int8", "held_out"), ("fp16", "images"))


def file_differences(path: Path, theirs: onnx.ModelProto, made: Provenance, again: Path) -> Iterator[str]:
    """Clauses on how the file at `path`, read as `theirs`, which records `made`, departs from the one at `again`."""
    ours = read_model(again, weights=False)
    our_made = provenance_of_model(ours, again)
    assert our_made is not None
    our_made = _with_names(our_made, made)
    record(ours, our_made)
    here, there = weights_file(ours, again), weights_file(theirs, path)
    same_weights = here is None or (there is not None and file_sha256(here) == file_sha256(there))
    if path.read_bytes() == ours.SerializeToString() and same_weights:
        return
    load_weights(theirs, path)
    load_weights(ours, again)
    found = [
        *_versions(made.versions, our_made.versions),
        *_metadata(made, our_made),
        *_header(theirs, ours),
        *_nodes(theirs.graph, ours.graph),
        *_weights(_tensors(theirs), _tensors(ours)),
    ]
    yield from found or ["the bytes differ, but graph, weights and metadata do not: it was written in another way"]


def _with_names(ours: Provenance, theirs: Provenance) -> Provenance:
    """`ours` with what says nothing of the content as in `theirs`: names of files and folders, packages not used."""
    options = {key: dict(value) if isinstance(value, dict) else value for key, value in ours.options.items()}
    for part, key in _NAMES:
        named = theirs.options.get(part)
        if isinstance(named, dict) and key in named and key in options.get(part, {}):
            options[part][key] = named[key]
    versions = {name: version for name, version in ours.versions.items() if name not in BYSTANDERS}
    versions |= {name: version for name, version in theirs.versions.items() if name in BYSTANDERS}
    factory = theirs.factory if _same_file(ours.factory, theirs.factory) else ours.factory
    named = {"source": theirs.source, "source_path": theirs.source_path, "factory": factory}
    return replace(ours, **named, options=options, versions=versions)


def _same_file(ours: str | None, theirs: str | None) -> bool:
    """Whether both name the same function of a file of the same name."""
    here, there = (named_file(one) if one else None for one in (ours, theirs))
    return here is not None and there is not None and (here[0].name, here[1]) == (there[0].name, there[1])


def _versions(theirs: dict[str, str], ours: dict[str, str]) -> Iterator[str]:
    names = [name for name in sorted(theirs.keys() | ours.keys()) if theirs.get(name) != ours.get(name)]
    changed = [f"{name} {theirs.get(name, 'not there')} then, {ours.get(name, 'not there')} now" for name in names]
    if changed:
        yield f"versions of packages differ: {'; '.join(changed)}"


def _metadata(theirs: Provenance, ours: Provenance) -> Iterator[str]:
    left, right = (dict(_leaves(asdict(replace(made, versions={})))) for made in (theirs, ours))
    for name in sorted(left.keys() | right.keys()):
        if left.get(name) != right.get(name):
            yield f"metadata differs: {name} is {_short(left.get(name))} in the file, {_short(right.get(name))} here"
            return


def _leaves(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from _leaves(inner, f"{name}.{key}" if name else str(key))
    else:
        # Lists and tuples are one to JSON.
        yield name, list(value) if isinstance(value, tuple) else value


def _short(value: Any) -> str:
    text = "missing" if value is None else str(value)
    return text if len(text) <= 60 else text[:59] + "…"


def _header(theirs: onnx.ModelProto, ours: onnx.ModelProto) -> Iterator[str]:
    def sets(model: onnx.ModelProto) -> str:
        return ", ".join(f"{entry.domain or 'ONNX'} {entry.version}" for entry in model.opset_import)

    pairs = (
        ("the operator set", sets(theirs), sets(ours)),
        ("the IR version", str(theirs.ir_version), str(ours.ir_version)),
    )
    for name, left, right in pairs:
        if left != right:
            yield f"graph differs: {name} is {left} in the file, {right} here"
            return


def _nodes(theirs: onnx.GraphProto, ours: onnx.GraphProto) -> Iterator[str]:
    for number, (left, right) in enumerate(zip_longest(theirs.node, ours.node)):
        if left != right:
            yield f"graph differs: node {number} is {_node(left)} in the file, {_node(right)} here"
            return
    for name in ("input", "output", "value_info"):
        if list(getattr(theirs, name)) != list(getattr(ours, name)):
            yield f"graph differs: the shapes or names in its {name} are others"
            return


def _node(node: onnx.NodeProto | None) -> str:
    return "missing" if node is None else f"{node.op_type} '{node.name}'"


def _tensors(model: onnx.ModelProto) -> dict[str, onnx.TensorProto]:
    return {tensor.name: tensor for tensor in model.graph.initializer}


def _weights(theirs: dict[str, onnx.TensorProto], ours: dict[str, onnx.TensorProto]) -> Iterator[str]:
    for name in [*theirs, *ours]:
        if name not in theirs or name not in ours:
            yield f"weights differ: '{name}' is {'not in the file' if name in ours else 'in the file alone'}"
            return
    changed = [name for name in ours if theirs[name].SerializeToString() != ours[name].SerializeToString()]
    moved = {name: _moved(theirs[name], ours[name]) for name in changed}
    if moved:
        name = max(moved, key=lambda key: moved[key][0])
        count = f" ({len(moved)} of {len(ours)} tensors differ)" if len(moved) > 1 else ""
        yield f"weights differ: '{name}' {moved[name][1]}{count}"


def _moved(theirs: onnx.TensorProto, ours: onnx.TensorProto) -> tuple[float, str]:
    """Largest difference as a share of the largest value, and in words."""
    try:
        left, right = (numpy_helper.to_array(tensor) for tensor in (theirs, ours))
    except (ValueError, TypeError, RuntimeError) as error:
        raise ArtifactError(f"The tensor '{theirs.name}' in the file is damaged; export it again.") from error
    if (left.shape, left.dtype) != (right.shape, right.dtype):
        return np.inf, f"is {left.dtype} {list(left.shape)} in the file, {right.dtype} {list(right.shape)} here"
    if left.tobytes() == right.tobytes():
        return -1.0, "is stored in another way"
    with np.errstate(all="ignore"):
        distance = np.abs(left.astype(np.float64) - right.astype(np.float64))
    if not np.isfinite(distance).all():
        return np.inf, "is not finite in one of them"
    largest = float(distance.max(initial=0.0))
    scale = float(np.abs(right.astype(np.float64)).max(initial=0.0))
    share = largest / scale if scale else np.inf
    return share, f"by up to {largest:.1e}" + (f", {share:.1e} of its largest value" if scale else "")
