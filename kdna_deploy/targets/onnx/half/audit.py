"""What half precision cannot hold, before anything is cast to it.

    |w| > 65504                 a weight or bias overflows: its layer stays in float32
    |x| > 65504 / 4             an activation may overflow on other images than those seen: its nodes stay in float32
    0 < |w| < 2⁻¹⁴              a weight keeps fewer bits than the others (subnormal): counted
    any node of a gate          a channel attention stays in float32 as a whole

Kernels are counted by parent: what is wrong with a parent's kernel reaches all its children, each of which multiplies
it with its own attention and BatchNorm scale.

Does not apply to networks that are to be judged on images of another range than those the activations were seen on.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray
from onnx import numpy_helper

from kdna_deploy.graph.ledger import Parent
from kdna_deploy.targets.onnx.gates import prescales
from kdna_deploy.targets.onnx.half_storage import LARGEST_HALF, SMALLEST_NORMAL
from kdna_deploy.targets.onnx.names import site_of
from kdna_deploy.targets.onnx.weight_value import weight_value

_HEADROOM = 4
_LAYERS = {"Conv", "Gemm"}


@dataclass(frozen=True)
class KernelAudit:
    """The weights of a layer, or of a parent with all its children.

    Attributes:
        kernel: the parent's name; the layer's where it shares none.
        layers: that use it.
        largest: largest |w|, modulations included.
        subnormal: share of the numbers other than 0 that are below 2⁻¹⁴.
        overflowing: layers in which it does not fit.
    """

    kernel: str
    layers: tuple[str, ...]
    largest: float
    subnormal: float
    overflowing: tuple[str, ...]


@dataclass(frozen=True)
class HalfAudit:
    """What was found; `keep_float` maps the nodes that must stay in float32 to the reason."""

    kernels: tuple[KernelAudit, ...]
    keep_float: Mapping[str, str]


@dataclass(frozen=True)
class _Weights:
    layer: str
    node: str
    largest: float
    small: int
    numbers: int


def audit_half(model: onnx.ModelProto, largest: Mapping[str, float], parents: Iterable[Parent] = ()) -> HalfAudit:
    """Audit a float32 model whose activations are at most `largest` (name of the tensor → largest absolute value)."""
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    weights = [
        _measure(node, kernel)
        for node in model.graph.node
        if node.op_type in _LAYERS and (kernel := weight_value(node.input[1], model)) is not None
    ]
    reasons = {w.node: f"a weight of {w.largest:.3g}" for w in weights if w.largest > LARGEST_HALF}
    for node in model.graph.node:
        held = max((_largest(stored[name]) for name in node.input if name in stored), default=0.0)
        if held > LARGEST_HALF:
            reasons.setdefault(node.name, f"a weight of {held:.3g}")
        reached = max((largest.get(name, 0.0) for name in (*node.input, *node.output)), default=0.0)
        if reached > LARGEST_HALF / _HEADROOM:
            reasons.setdefault(node.name, f"an activation of {reached:.3g}")
    for gate in prescales(ir.from_proto(model).graph).values():
        names = [node.name or "" for node in gate]
        affected = [name for name in names if name in reasons]
        for name in names if affected else ():
            reasons.setdefault(name, f"its gate has {reasons[affected[0]]}")
    return HalfAudit(_by_kernel(weights, parents), reasons)


def _largest(tensor: onnx.TensorProto) -> float:
    if tensor.data_type != onnx.TensorProto.FLOAT:
        return 0.0
    return float(np.abs(numpy_helper.to_array(tensor)).max(initial=0.0))


def _measure(node: onnx.NodeProto, array: NDArray[np.floating]) -> _Weights:
    size = np.abs(array)
    return _Weights(
        site_of(node.name) or node.name,
        node.name,
        float(size.max()),
        int(((size < SMALLEST_NORMAL) & (size != 0)).sum()),
        int((size != 0).sum()),
    )


def _by_kernel(weights: Iterable[_Weights], parents: Iterable[Parent]) -> tuple[KernelAudit, ...]:
    kernel_of = {layer: p.name for p in parents for layer in (*([p.layer] if p.layer else []), *p.children)}
    groups: dict[str, list[_Weights]] = {}
    for one in weights:
        groups.setdefault(kernel_of.get(one.layer, one.layer), []).append(one)
    return tuple(
        KernelAudit(
            kernel,
            tuple(w.layer for w in group),
            max(w.largest for w in group),
            sum(w.small for w in group) / max(1, sum(w.numbers for w in group)),
            tuple(w.layer for w in group if w.largest > LARGEST_HALF),
        )
        for kernel, group in groups.items()
    )
