"""In what two ONNX models differ: operator set, nodes, then weights. For models that should be one and the same.

Nothing is matched up: the first node that is another one is named, and of weights that which moved farthest.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper
from onnx.external_data_helper import ExternalDataInfo, load_external_data_for_model, uses_external_data

from kdna_deploy.errors import ArtifactError


def weights_file(model: onnx.ModelProto, path: Path) -> Path | None:
    """The file beside `path` that the weights of `model`, read without them, lie in; None where they are in it.

    Raises:
        ArtifactError: it is not there, or not beside the model.
    """
    places = {ExternalDataInfo(t).location for t in model.graph.initializer if uses_external_data(t)}
    if not places:
        return None
    name = places.pop()
    beside = path.with_name(Path(name).name)
    if places or Path(name).name != name or not beside.is_file():
        raise ArtifactError(f"The weights of '{path}' are not in one file beside it; keep the two together.")
    return beside


def model_differences(theirs: onnx.ModelProto, path: Path, ours: onnx.ModelProto, own_path: Path) -> Iterator[str]:
    """Clauses on how `theirs`, of the file at `path`, departs from `ours`; both were read without external data."""
    yield from _header(theirs, ours)
    yield from _nodes(theirs.graph, ours.graph)
    yield from _weights(_loaded(theirs, path), _loaded(ours, own_path))


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


def _loaded(model: onnx.ModelProto, path: Path) -> dict[str, onnx.TensorProto]:
    try:
        load_external_data_for_model(model, str(path.parent))
    except (OSError, ValueError, onnx.checker.ValidationError) as error:
        raise ArtifactError(f"The weights of '{path}' cannot be read; keep it beside them, or export again.") from error
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
