"""Fused graph → ONNX model in memory, operator by operator, by the table of `operators`.

    placeholder → input        constant → initialiser, in the memory that it has        call → what the table writes

Small values that depend on constants alone, as shapes and scales are, are computed here; kernels stay expressions of
the constants that they share. What PyTorch knows of every value, its type and its sizes with the batch as a name, is
written into the file.

Does not apply: operators and forms of them outside of the table. They raise `Untranslated`, and the graph is left to
`torch.onnx`.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import onnx_ir as ir
import torch
from onnx_ir.tensor_adapters import from_torch_dtype
from torch import Tensor, fx

from kdna_deploy.graph.graph import Graph, constant, constant_nodes
from kdna_deploy.graph.shapes import fill_missing_shapes, fill_shapes
from kdna_deploy.targets.onnx.names import HEIGHT, INPUT, WIDTH
from kdna_deploy.targets.onnx.operators import OPERATORS
from kdna_deploy.targets.onnx.operators.writer import Untranslated, Writer

# Numbers in a constant that is computed here: enough for any shape, too few for a kernel.
_SMALL = 64
_MISSING = "our own translation lacks"


def translate_directly(graph: Graph, opset: int, batch: int | str, dynamic_size: bool = False) -> ir.Model:
    """Translate `graph`; `batch` is the size of the first axis of the input, or its name.

    With `dynamic_size`, height and width have names as well; whether the graph is right for any is not known then.

    Raises:
        Untranslated: with the operator, and what of it is not covered.
    """
    _check_operators(graph)
    try:
        if dynamic_size:
            graph = graph.clone(weights=False)
            fill_shapes(graph, dynamic_size)
        else:
            fill_missing_shapes(graph)
    except Exception as error:  # a fake operator's, which may raise anything
        raise Untranslated("the shapes of its values are not known") from error
    return _Translation(graph, opset, batch).model()


def _check_operators(graph: Graph) -> None:
    """Find an operator that the table lacks before anything is computed."""
    fixed = constant_nodes(graph.module)
    for node in graph.module.graph.nodes:
        schema = getattr(node.target, "_schema", None)
        if node.op != "call_function" or node in fixed or schema is None or not node.all_input_nodes:
            continue
        if node.users and node.target not in OPERATORS and any("Tensor" in str(one.type) for one in schema.returns):
            raise Untranslated(f"{_MISSING} {_name(node)}")


class _Translation:
    """One graph on its way; `values` holds what each of its nodes has become."""

    def __init__(self, graph: Graph, opset: int, batch: int | str) -> None:
        self.nodes, self.returned = graph.module.graph.nodes, graph.returned
        images = next(node for node in self.nodes if node.op == "placeholder")
        fake = images.meta["val"]
        names = (batch, "", HEIGHT, WIDTH)
        value = ir.Value(
            name=INPUT,
            shape=ir.Shape(
                [dim if isinstance(dim, int) else name for dim, name in zip(fake.shape, names, strict=True)]
            ),
            type=ir.TensorType(from_torch_dtype(fake.dtype)),
        )
        self.graph = ir.Graph([value], [], nodes=[], opset_imports={"": opset}, name="main_graph")
        sizes = {
            dim.node.expr: (axis, name)
            for axis, (dim, name) in enumerate(zip(fake.shape, names, strict=True))
            if isinstance(dim, torch.SymInt)
        }
        self.write = Writer(self.graph, opset, sizes)
        self.values: dict[fx.Node, Any] = {images: value}
        self.stored: dict[int, ir.Value] = {}

    def model(self) -> ir.Model:
        for node in self.nodes:
            if node.op == "get_attr":
                self.values[node] = constant(node)
            elif node.op == "call_function" and node.users:
                self.values[node] = self._call(node)
        for name, source in self.returned.items():
            self._finish(name, source)
        return ir.Model(self.graph, ir_version=10)

    def _call(self, node: fx.Node) -> Any:
        expected = node.meta["val"]
        tensors = [one for one in _leaves(expected) if isinstance(one, Tensor)]
        if not tensors:
            return expected  # a size, which whoever reads it asks the writer for
        if node.target is operator.getitem:
            source, position = node.args
            return self.values[source][position]  # type: ignore[index]
        if _is_fixed(node, self.values):
            ready = self._computed(node)
            if ready is not None:
                return ready
        self.write.node, self.write.result = node, tensors[0]
        function = OPERATORS.get(node.target)
        if function is None:
            raise Untranslated(f"{_MISSING} {_name(node)}")
        try:
            arguments, named = self._arguments(node)
            result = function(self.write, *arguments, **named)
        except Untranslated as reason:
            raise Untranslated(f"{_MISSING} {_name(node)} with {reason}") from reason
        for made, fake in zip(result if isinstance(result, tuple) else (result,), tensors, strict=False):
            self.write.settle(made, node.name, fake)
        return result

    def _computed(self, node: fx.Node) -> Tensor | None:
        """The value of a node that depends on constants alone; None where it is large, or no tensor."""
        if "empty" in str(node.target) or torch.Tag.nondeterministic_seeded in getattr(node.target, "tags", ()):
            return None
        expected, is_made_of = node.meta["val"], node.all_input_nodes or node.target in OPERATORS
        if not isinstance(expected, Tensor) or (is_made_of and expected.numel() > _SMALL):
            return None
        held = {source: self.values[source] for source in node.all_input_nodes}
        arguments, named = fx.node.map_arg((node.args, dict(node.kwargs)), lambda source: held[source])
        with torch.no_grad():
            value = node.target(*arguments, **named)  # type: ignore[operator]
        assert isinstance(value, Tensor)
        return value

    def _arguments(self, node: fx.Node) -> tuple[Sequence[Any], dict[str, Any]]:
        def read(source: fx.Node) -> Any:
            value = self.values[source]
            if isinstance(value, Tensor):
                return self._initialiser(source, value)
            return self.write.size(value)

        return fx.node.map_arg((tuple(node.args), dict(node.kwargs)), read)

    def _initialiser(self, node: fx.Node, value: Tensor) -> ir.Value:
        """What stores a constant, once however often and under whatever names it is read."""
        if id(value) not in self.stored:
            name = str(node.target) if node.op == "get_attr" else node.name
            self.stored[id(value)] = self.write.constant(name, value)
            self.values[node] = value
        return self.stored[id(value)]

    def _finish(self, name: str, source: fx.Node) -> None:
        """Make a result of the network an output of the graph, under its name."""
        value = self.values[source]
        self.write.node, self.write.result = source, source.meta["val"]
        if isinstance(value, Tensor):
            value = self._initialiser(source, value)
        if value.producer() is None:
            value = self.write("Identity", value)
            self.write.settle(value, source.name, source.meta["val"])
        value.name = name
        self.graph.outputs.append(value)


def _leaves(value: Any) -> list[Any]:
    return list(value) if isinstance(value, (list, tuple)) else [value]


def _is_fixed(node: fx.Node, values: dict[fx.Node, Any]) -> bool:
    return all(isinstance(values[source], Tensor) for source in node.all_input_nodes)


def _name(node: fx.Node) -> str:
    """An operator as PyTorch's users know it."""
    return str(node.target).removeprefix("aten.").partition(".")[0]
