"""What TensorRT made of a graph: its convolutions with what was fused into them, its pre-scales, its kernels.

    ONNX graph, layers of the engine, plan → fusions · reformatting around the pre-scales · kernels stored once or more

Fusion and reformatting are read off the layers that the builder lists (`layers`). Where it lists none, they are
unknown, and a note says so; the kernels are looked for in the plan all the same (`plan_kernels`).
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass

import onnx
import onnx_ir as ir

from kdna_deploy.targets.onnx.gates import prescales
from kdna_deploy.targets.tensorrt.layers import EngineLayer
from kdna_deploy.targets.tensorrt.plan_kernels import PlanKernels, plan_kernels

_ACTIVATIONS = {"Relu", "Clip", "Sigmoid", "HardSigmoid", "LeakyRelu", "HardSwish"}


@dataclass(frozen=True)
class FusedConvolution:
    """A convolution of the graph, and what the engine computes in the same layer.

    Attributes:
        node: its name in the ONNX graph.
        layer: of the engine.
        activations, adds: names of the ONNX nodes fused into it.
    """

    node: str
    layer: str
    activations: tuple[str, ...]
    adds: tuple[str, ...]


@dataclass(frozen=True)
class FusedPrescale:
    """The product that applies a channel attention.

    Attributes:
        node: its name in the ONNX graph.
        layer: of the engine.
        fused_with: names of the other ONNX nodes that the layer computes.
        reformats: layers that only change the order in memory, of what the pre-scale or its gate read or write.
    """

    node: str
    layer: str
    fused_with: tuple[str, ...]
    reformats: tuple[str, ...]


@dataclass(frozen=True)
class EngineInspection:
    """What TensorRT made of a graph.

    Attributes:
        layers: kind of layer → how many.
        convolutions, prescales: in the order of the graph.
        reformats: layers that only change the order in memory, anywhere in the engine.
        kernels: in the plan.
        notes: what could not be told, a sentence each.
    """

    layers: dict[str, int]
    convolutions: tuple[FusedConvolution, ...]
    prescales: tuple[FusedPrescale, ...]
    reformats: int
    kernels: PlanKernels
    notes: tuple[str, ...]


def inspect_engine(model: onnx.ModelProto, plan: bytes, layers: tuple[EngineLayer, ...]) -> EngineInspection:
    """Inspect the engine `plan` with `layers` that was built from `model`, which is loaded with its weights."""
    computed_by: dict[str, EngineLayer] = {}
    for layer in layers:
        for node in layer.nodes:
            # A bias or a rescaling that is computed later bears the convolution's name as well.
            computed_by.setdefault(node, layer)
    kinds = {node.name: node.op_type for node in model.graph.node}
    convolutions = [
        _convolution(name, computed_by[name], kinds)
        for name, kind in kinds.items()
        if kind == "Conv" and name in computed_by
    ]
    gates = prescales(ir.from_proto(model).graph)
    found = [_prescale(name, gate, computed_by, layers) for name, gate in gates.items() if name in computed_by]
    return EngineInspection(
        layers=dict(Counter(layer.kind for layer in layers).most_common()),
        convolutions=tuple(convolutions),
        prescales=tuple(found),
        reformats=sum(map(is_reformat, layers)),
        kernels=plan_kernels(model, plan),
        notes=() if layers else ("the library lists no layers, so fusions and reformatting are unknown",),
    )


def is_reformat(layer: EngineLayer) -> bool:
    """Whether a layer computes nothing: the same numbers go out in another order in memory."""
    if layer.kind == "Reformat":
        return True
    if len(layer.inputs) != 1 or len(layer.outputs) != 1 or layer.constants or layer.nodes:
        return False
    (before,), (after,) = layer.inputs, layer.outputs
    same = math.prod(before.shape) == math.prod(after.shape) and before.datatype == after.datatype
    return same and before.layout != after.layout


def _convolution(name: str, layer: EngineLayer, kinds: dict[str, str]) -> FusedConvolution:
    activations = tuple(node for node in layer.nodes if kinds.get(node) in _ACTIVATIONS)
    return FusedConvolution(name, layer.name, activations, tuple(n for n in layer.nodes if kinds.get(n) == "Add"))


def _prescale(
    name: str, gate: list[ir.Node], computed_by: dict[str, EngineLayer], layers: tuple[EngineLayer, ...]
) -> FusedPrescale:
    own = computed_by[name]
    around = [own, *(computed_by[node.name] for node in gate if node.name in computed_by)]
    touched = {tensor.name for layer in around for tensor in (*layer.inputs, *layer.outputs)}
    reformats = tuple(
        layer.name
        for layer in layers
        if is_reformat(layer) and touched & {tensor.name for tensor in (*layer.inputs, *layer.outputs)}
    )
    return FusedPrescale(name, own.name, tuple(node for node in own.nodes if node != name), reformats)
