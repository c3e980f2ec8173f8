"""Float32 graph → a graph that computes in half precision, types written into it.

    y = f(x; w)   →   y₁₆ = f(x₁₆; half(w))        casts at the inputs and outputs of the network, and where half
                                                   and float32 nodes meet

Each node is of one precision: TensorRT has no switch for that any more, the types in the graph decide. Nodes that are
to stay in float32 do so without casts between them; a value is cast once for each precision that reads it.

Does not apply to integer values, which keep their type, to operators whose types are written into them, and to weights
that a half cannot hold: their nodes belong to those that stay in float32 (`half_audit` finds them).
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

# What they make, or some of what they read, is float32 by attribute or by definition.
_FLOAT_ONLY = {"Cast", "Constant", "ConstantOfShape", "Resize"}
_CAST: dict[int, str] = {TensorProto.FLOAT16: "half", TensorProto.FLOAT: "float"}


def to_half(model: onnx.ModelProto, keep_float: Collection[str] = (), half_io: bool = False) -> onnx.ModelProto:
    """The model in half precision, but for the nodes named in `keep_float`; `half_io` makes its ends half as well."""
    inferred = onnx.shape_inference.infer_shapes(model)
    half = onnx.ModelProto()
    half.CopyFrom(model)
    _Converter(half.graph, inferred.graph, frozenset(keep_float), half_io).convert()
    return half


class _Converter:
    """Rewrites one graph. Values keep their names; casts of them get new ones."""

    def __init__(
        self, graph: onnx.GraphProto, inferred: onnx.GraphProto, keep_float: frozenset[str], half_io: bool
    ) -> None:
        self._graph = graph
        self._keep_float = keep_float
        self._io = TensorProto.FLOAT16 if half_io else TensorProto.FLOAT
        self._weights = {t.name: t for t in graph.initializer if t.data_type == TensorProto.FLOAT}
        # What was float32 and is computed: its type is now that of the node that computes it.
        self._floats = {
            v.name
            for v in (*inferred.value_info, *inferred.input, *inferred.output)
            if v.type.tensor_type.elem_type == TensorProto.FLOAT
        }
        self._types: dict[str, int] = {}
        self._casts: dict[tuple[str, int], str] = {}
        self._inner: dict[str, str] = {}  # output of the network → what it is cast from
        self._nodes: list[onnx.NodeProto] = []

    def convert(self) -> None:
        for value in self._graph.input:
            if value.name in self._floats:
                value.type.tensor_type.elem_type = self._types[value.name] = self._io
        ends = {value.name for value in self._graph.output} & self._floats
        for node in self._graph.node:
            kept = node.name in self._keep_float or node.op_type in _FLOAT_ONLY
            wanted = TensorProto.FLOAT if kept else TensorProto.FLOAT16
            for position, name in enumerate(node.input):
                node.input[position] = self._typed(name, wanted)
            for position, name in enumerate(node.output):
                if name in self._floats:
                    node.output[position] = self._made(name, wanted, name in ends)
            self._nodes.append(node)
        for value in self._graph.output:
            if value.name in ends:
                self._finish(value)
        self._replace()

    def _made(self, name: str, precision: int, end: bool) -> str:
        """The name of what a node computes as `name`: another one where a cast makes an output of the network of it."""
        if end and precision != self._io:
            self._inner[name] = f"{name}_{_CAST[precision]}"
        made = self._inner.get(name, name)
        self._types[made] = precision
        return made

    def _typed(self, name: str, wanted: int) -> str:
        """`name` in the precision that is wanted, cast where it has the other one."""
        made = self._inner.get(name, name)
        if made in self._weights:
            return self._weight(made) if wanted == TensorProto.FLOAT16 else made
        if self._types.get(made, wanted) == wanted:
            return made
        # The other precision of an output of the network is that output.
        return self._cast(made, name if made != name else f"{name}_{_CAST[wanted]}", wanted)

    def _cast(self, name: str, target: str, wanted: int) -> str:
        if (name, wanted) not in self._casts:
            self._casts[name, wanted] = target
            self._nodes.append(helper.make_node("Cast", [name], [target], name=f"{target}/Cast", to=wanted))
            self._types[target] = wanted
        return self._casts[name, wanted]

    def _weight(self, name: str) -> str:
        target = f"{name}_half"
        if (name, TensorProto.FLOAT16) not in self._casts:
            self._casts[name, TensorProto.FLOAT16] = target
            with np.errstate(over="ignore"):
                array = numpy_helper.to_array(self._weights[name]).astype(np.float16)
            self._graph.initializer.append(numpy_helper.from_array(array, target))
        return target

    def _finish(self, value: onnx.ValueInfoProto) -> None:
        """Give an output of the network its type, with a cast where it is computed in the other."""
        value.type.tensor_type.elem_type = self._io
        if value.name in self._inner:
            self._cast(self._inner[value.name], value.name, self._io)

    def _replace(self) -> None:
        del self._graph.node[:]
        self._graph.node.extend(self._nodes)
        del self._graph.value_info[:]  # their types were float32
        read = {name for node in self._nodes for name in node.input}
        for tensor in [t for t in self._graph.initializer if t.name not in read]:
            self._graph.initializer.remove(tensor)
