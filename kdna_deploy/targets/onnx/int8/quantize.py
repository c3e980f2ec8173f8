"""Float ONNX → int8 ONNX with QDQ nodes, through `onnxruntime.quantization`, in the form that a target takes.

                 cpu (ONNX Runtime)            tensorrt
    activations  u8 = round(x / s) + z         s8 = round(x / s)     one scale a tensor (`calibration`)
    weights      s8 = round(w / s_f)           the same              one scale a filter f, from the weights themselves
    biases       s32, scale s · s_f            float32
    QDQ pairs    around every operator         at inputs only (`qdq_placement`)

The gate β(x) of a channel attention is pooled in codes and multiplied in codes, so that the map never leaves 8 bits and
only [n, c, 1, 1] is dequantised. Its two layers stay in float32: they work on one pixel, and codes for them would gain
a fiftieth of the time and lose 2 dB (benchmarks/int8_forms.py).

On CPUs so does a first convolution larger than 1×1 whose filters have fewer than 64 weights, as that of MobileNets. In
int8 ONNX Runtime gathers the pixels under each filter before it multiplies, which then takes longer than the products.

What makes kernels for the image at hand, and the convolutions with these, stay in float32: codes need weights that are
known, and attention that mixes kernels makes much of a small error.

Does not apply to shared children: each child's filters have scales of their own, which the parent's codes cannot
express in general (docs/int8-sharing.md); the graph must be materialised.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import onnx
import onnx_ir as ir
from onnxruntime.quantization import QuantType
from onnxruntime.quantization.calibrate import TensorsData
from onnxruntime.quantization.qdq_quantizer import QDQQuantizer
from onnxruntime.quantization.quant_utils import add_infer_metadata

from kdna_deploy.graph.passes.result import PassResult
from kdna_deploy.runtimes.onnx_file import read_model
from kdna_deploy.targets.onnx.computed_kernels import kernel_nodes
from kdna_deploy.targets.onnx.constants import add_constant, unused_name, value_names
from kdna_deploy.targets.onnx.gates import gate_layers
from kdna_deploy.targets.onnx.int8.calibration import CALIBRATED, quiet
from kdna_deploy.targets.onnx.int8.qdq_placement import place_for_tensorrt

QuantisedFor = Literal["cpu", "openvino", "tensorrt"]
_GIVEN = ("_scale", "_zero_point", "_quantized")  # endings of the names that the quantiser gives


@dataclass(frozen=True)
class _Scheme:
    """What a target takes: codes of activations, operators with quantised inputs, options of the quantiser.

    `narrow`: weights from −64 to 64. Without VNNI, OpenVINO adds two products of eight bits in sixteen, which overflow
    beyond that: a ResNet-18 lost 11 dB. ONNX Runtime has a setting for its sessions in place of it (`int8_kernels`).
    """

    activations: QuantType
    operators: list[str]
    options: dict[str, object] = field(default_factory=dict)
    narrow: bool = False

    @property
    def rounding(self) -> set[str]:
        """The operators that bring a rounding of their own; the others keep the scale of their input."""
        return set(self.operators) & {"Conv", "Gemm", "Add", "Mul", "GlobalAveragePool"}


_CPU = _Scheme(QuantType.QUInt8, [*CALIBRATED])
# The pre-scale is the only product in a fused graph.
_SCHEMES: dict[QuantisedFor, _Scheme] = {
    "cpu": _CPU,
    "openvino": replace(_CPU, narrow=True),
    # Zero points and quantised biases are refused by TensorRT's parser; outputs get the pair of who reads them.
    "tensorrt": _Scheme(
        QuantType.QInt8,
        ["Conv", "Gemm", "Add", "Mul"],
        {
            "ActivationSymmetric": True,
            "WeightSymmetric": True,
            "QuantizeBias": False,
            "OpTypesToExcludeOutputQuantization": ["Conv", "Gemm", "Add", "Mul"],
        },
    ),
}
_FEWEST_WEIGHTS = 64  # in a filter larger than 1×1


def quantise(
    path: Path, ranges: TensorsData, keep_float: Iterable[str] = (), target: QuantisedFor = "cpu"
) -> onnx.ModelProto:
    """The model at `path` with QDQ nodes; those named in `keep_float`, and `float_nodes`, stay in float32."""
    model = ir.from_proto(read_model(path))
    separate_constants(model)
    free_names(model)
    scheme = _SCHEMES[target]
    shaped = onnx.shape_inference.infer_shapes(ir.to_proto(model))
    add_infer_metadata(shaped)  # or the quantiser would write it to the disk, with all weights, to infer them again
    with quiet():
        quantizer = QDQQuantizer(
            shaped,
            per_channel=True,
            reduce_range=scheme.narrow,
            weight_qType=QuantType.QInt8,
            activation_qType=scheme.activations,
            tensors_range=ranges,
            nodes_to_quantize=[],
            nodes_to_exclude=[*float_nodes(model.graph, target), *keep_float],
            op_types_to_quantize=scheme.operators,
            extra_options=scheme.options,
        )
        quantizer.quantize_model()
    quantised = ir.from_proto(quantizer.model.model)
    quantised.graph.sort()  # the quantiser's own forgets what the bodies of loops read
    if target == "tensorrt":
        place_for_tensorrt(quantised)
    return ir.to_proto(quantised)


def separate_constants(model: ir.Model) -> PassResult:
    """Give every layer a kernel and a bias of its own: the scales of a bias are those of one input.

    A layer that is called twice has one of each in a float file. What is equal after all, `share_codes` finds.
    """
    taken: set[ir.Value] = set()
    changed = 0
    for node in (node for node in model.graph if node.op_type in ("Conv", "Gemm")):
        for position, value in enumerate(node.inputs):
            if value is None or value.const_value is None or not value.is_initializer():
                continue
            if value in taken:
                own = add_constant(model.graph, value.name or "", value.const_value.numpy())
                node.replace_input_with(position, own)
                changed += 1
            taken.add(value)
    return PassResult(changed)


def free_names(model: ir.Model) -> PassResult:
    """Rename the constants that are called what the quantiser calls the scale, say, of a value: it would take them."""
    taken = value_names(model.graph)
    found = [
        value
        for name, value in model.graph.initializers.items()
        if any(name.endswith(suffix) and name.removesuffix(suffix) in taken for suffix in _GIVEN)
    ]
    for value in found:
        value.name = unused_name(f"{value.name}_constant", value_names(model.graph))
    return PassResult(len(found))


def quantisable(path: Path, target: QuantisedFor = "cpu") -> list[str]:
    """Names of the nodes that `quantise` rounds at, in the order of the graph: layers, sums, pre-scales, pools.

    Without those that keep the scale of their input, which are in 8 bits where that is.
    """
    graph = ir.from_proto(read_model(path, weights=False)).graph
    kept, rounding = float_nodes(graph, target), _SCHEMES[target].rounding
    return [node.name or "" for node in graph if node.op_type in rounding and node.name not in kept]


def float_nodes(graph: ir.Graph, target: QuantisedFor) -> set[str]:
    """Names of the nodes that always stay in float32: gates but for their pools, and what makes and takes kernels.

    For ONNX Runtime small kernels too.
    """
    computed = {node.name or "" for node in kernel_nodes(graph)} | _read_in_bodies(graph)
    return gate_layers(graph) | computed | (small_kernels(graph) if target == "cpu" else set())


def _read_in_bodies(graph: ir.Graph) -> set[str]:
    """Names of the activations that the body of a loop reads: the quantiser would take them away, and not tell it."""
    read = {value for node in graph.all_nodes() if node.graph is not graph for value in node.inputs}
    return {node.name or "" for node in graph if node.op_type in ("Relu", "Clip") and node.outputs[0] in read}


def small_kernels(graph: ir.Graph) -> set[str]:
    """Names of the convolutions of the input whose filters have few weights, and of the activation behind each."""
    found: set[str] = set()
    for node in (use.node for value in graph.inputs for use in value.uses() if use.node.op_type == "Conv"):
        shape = node.inputs[1].shape if node.inputs[1] is not None else None
        _, *each = shape.numpy() if shape is not None else (0, 0)
        if math.prod(each[1:]) > 1 and math.prod(each) < _FEWEST_WEIGHTS:
            behind = (use.node for use in node.outputs[0].uses())
            found |= {node.name or "", *(n.name or "" for n in behind if n.op_type in ("Relu", "Clip"))}
    return found
