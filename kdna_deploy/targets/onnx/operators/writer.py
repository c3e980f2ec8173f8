"""An ONNX graph as it is written, node by node: what the functions of the table call.

Every value gets its type and, where they are known, its sizes; a size is a number or an expression of the batch, and
of height and width where these are symbols.
Numbers become constants, each once for a type. Nodes are called after the module of the graph's node:

    layer3.bns.0/Conv, layer3.bns.0/Conv_2, …        module/operator, numbered where a module has several

Sizes that depend on the batch are computed from the axes of the input, and only where a shape cannot do without:

    reshape to (2·batch, 8)  → −1        an axis that stays as it is → 0        expand to (batch, 8) → Concat(Shape, 8)
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import onnx_ir as ir
import sympy  # type: ignore[import-untyped]
import torch
from onnx_ir.tensor_adapters import TorchTensor, from_torch_dtype, to_torch_dtype
from torch import Tensor, fx
from torch.utils._sympy.functions import FloorDiv

from kdna_deploy.errors import ExportError
from kdna_deploy.graph.graph import module_path

Size: TypeAlias = "int | sympy.Expr"
Number: TypeAlias = "bool | int | float | sympy.Expr"
Table: TypeAlias = dict[Any, Callable[..., Any]]

# Operators whose result is as large as their operands broadcast.
_AS_LARGE = """
Abs Add And Cast Clip Cos Div Elu Equal Erf Exp Floor Greater GreaterOrEqual HardSigmoid HardSwish LeakyRelu Less
LessOrEqual Log Max Min Mish Mul Neg Not Or PRelu Pow Reciprocal Relu Selu Celu Sigmoid Sign Sin Softmax Softplus
Sqrt Sub Tanh Where Xor
"""
_ELEMENTWISE = frozenset(_AS_LARGE.split())
_TRUTHS = frozenset({"And", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Not", "Or", "Xor"})


class Untranslated(ExportError):
    """An operator, or a form of one, that the table does not cover; the text says which."""


class Writer:
    """Writes the nodes of `graph`. `symbols` are the sizes of its input that PyTorch has symbols for.

    Of each the axis, and its name in the file, or the number that it is fixed to.

    Attributes:
        node: the node of the fused graph that is being translated.
        result: what its shape and type are, a fake tensor, of the first where there are several.
    """

    node: fx.Node
    result: Tensor | None

    def __init__(self, graph: ir.Graph, opset: int, symbols: Mapping[sympy.Symbol, tuple[int, int | str]]) -> None:
        self.graph = graph
        self.opset = opset
        self._symbols = symbols
        self._fixed = {one: sympy.Integer(name) for one, (_, name) in symbols.items() if isinstance(name, int)}
        self._names = {one: sympy.Symbol(str(name)) for one, (_, name) in symbols.items()}
        self._values: Counter[str] = Counter(value.name or "" for value in graph.inputs)
        self._nodes: Counter[str] = Counter()
        self._numbers: dict[tuple[Any, ...], ir.Value] = {}
        self._axis_sizes: dict[sympy.Symbol, ir.Value] = {}
        self._expressions: dict[str | None, sympy.Expr] = {str(name): one for one, (_, name) in symbols.items()}

    def __call__(
        self,
        operator: str,
        *inputs: ir.Value | None,
        shape: Sequence[Size] | None = None,
        dtype: ir.DataType | None = None,
        outputs: int = 1,
        domain: str = "",
        **attributes: Any,
    ) -> Any:
        """Write a node; its value, or a tuple of `outputs` of them. The type is that of the first input unless told."""
        given = {name: value for name, value in attributes.items() if value is not None}
        node = ir.node(operator, inputs, given, domain=domain, num_outputs=outputs, name=self._node_name(operator))
        known = [value for value in inputs if value is not None]
        if dtype is None:
            dtype = ir.DataType.BOOL if operator in _TRUTHS else known[operator == "Where"].dtype
        if shape is None and operator in _ELEMENTWISE and all(value.shape is not None for value in known):
            shape = _broadcast([self.shape(value) for value in known])
        for value in node.outputs:
            value.name = self._unused(f"{self.node.name}_{operator.lower()}")
            value.type = ir.TensorType(dtype) if dtype is not None else None
            if shape is not None:
                value.shape = ir.Shape([self._written(size) for size in shape])
        self.graph.append(node)
        return node.outputs[0] if outputs == 1 else tuple(node.outputs)

    def settle(self, value: ir.Value, name: str, fake: Tensor) -> None:
        """Say of a node's `value` what PyTorch says of it."""
        if value.producer() is None or value.is_graph_input():
            return
        value.type = ir.TensorType(from_torch_dtype(fake.dtype))
        value.shape = ir.Shape([self._written(self.size(size)) for size in fake.shape])
        if value.name and value.name.startswith(f"{self.node.name}_"):
            value.name = self._unused(name)

    def constant(self, name: str, value: Tensor, dtype: ir.DataType | None = None) -> ir.Value:
        """An initialiser that holds `value`, whose memory it shares, as `name` or numbered after it."""
        if dtype is not None:
            value = value.to(to_torch_dtype(dtype))
        name = self._unused(name)
        value = value.detach()
        held = TorchTensor(value, name) if value.dtype == torch.bfloat16 else ir.Tensor(value.numpy(), name=name)
        made = ir.Value(name=name, const_value=held, shape=ir.Shape(value.shape), type=ir.TensorType(held.dtype))
        self.graph.register_initializer(made)
        return made

    def derived(self, x: ir.Value, word: str, change: Callable[[Tensor], Tensor]) -> ir.Value | None:
        """What becomes of a stored constant, stored under its name and a `word`, once; None where x is computed."""
        if x.const_value is None or x.dtype == ir.DataType.BFLOAT16:
            return None
        key = (x.name, word)
        if key not in self._numbers:
            self._numbers[key] = self.constant(f"{x.name}_{word}", change(torch.from_numpy(x.const_value.numpy())))
        return self._numbers[key]

    def number(self, number: Number, dtype: ir.DataType | None) -> ir.Value:
        """A scalar of a type; a size that depends on the batch is computed."""
        assert dtype is not None
        if isinstance(number, sympy.Expr):
            return self.cast(self("Squeeze", self._computed(number), shape=[]), dtype)
        key = (repr(number), dtype)
        if key not in self._numbers:
            self._numbers[key] = self.constant("number", torch.tensor(number, dtype=to_torch_dtype(dtype)))
        return self._numbers[key]

    def integers(self, numbers: Sequence[Size]) -> ir.Value:
        """A list of int64: axes, a shape, pads; computed where a size depends on the batch."""
        if all(isinstance(number, int) for number in numbers):
            key = (tuple(numbers), "list")
            if key not in self._numbers:
                self._numbers[key] = self.constant("integers", torch.tensor(numbers, dtype=torch.int64))
            return self._numbers[key]
        parts = [self._computed(number) for number in numbers]
        return parts[0] if len(parts) == 1 else self("Concat", *parts, axis=0, shape=[len(parts)])

    def operand(self, x: ir.Value | Number, dtype: ir.DataType | None) -> ir.Value:
        """A tensor or a number in a type."""
        return self.cast(x, dtype) if isinstance(x, ir.Value) else self.number(x, dtype)

    def cast(self, x: ir.Value, dtype: ir.DataType | None) -> ir.Value:
        """`x` in a type, by no node where it has it."""
        if dtype is None or x.dtype == dtype:
            return x
        ready = self.derived(x, dtype.name.lower(), lambda held: held.to(to_torch_dtype(dtype)))
        return ready or self("Cast", x, to=dtype, dtype=dtype)

    @property
    def dtype(self) -> ir.DataType:
        """Type of the result."""
        assert self.result is not None
        return from_torch_dtype(self.result.dtype)

    @property
    def sizes(self) -> list[Size]:
        """Shape of the result."""
        assert self.result is not None
        return [self.size(size) for size in self.result.shape]

    def size(self, size: Any) -> Any:
        """A number of the graph, sizes as expressions of the batch, or as numbers where that is fixed."""
        if not isinstance(size, (torch.SymInt, torch.SymFloat, torch.SymBool)):
            return size
        if isinstance(size, torch.SymBool):
            raise Untranslated("a decision by the size of the batch")
        expression = size.node.expr.xreplace(self._fixed)
        if expression.is_Integer:
            return int(expression)
        if expression.is_Float or expression.is_Rational:
            return float(expression)
        return expression

    def shape(self, x: ir.Value) -> list[Size]:
        """Sizes of a value.

        Raises:
            Untranslated: they are not known.
        """
        if x.shape is None:
            raise Untranslated("a value of unknown shape")
        return [dim if isinstance(dim, int) else self._read(dim) for dim in x.shape]

    def fixed_sizes(self, x: ir.Value) -> list[int]:
        """Sizes of a value that do not depend on the batch.

        Raises:
            Untranslated: some do.
        """
        sizes = self.shape(x)
        if not all(isinstance(size, int) for size in sizes):
            raise Untranslated("a size that depends on the batch")
        return [int(size) for size in sizes]

    def rank(self, x: ir.Value) -> int:
        """Number of axes of a value."""
        return len(self.shape(x))

    def axis(self, axis: int, x: ir.Value) -> int:
        """An axis of a value, counted from the first."""
        return axis % max(self.rank(x), 1)

    def reshape(self, x: ir.Value, sizes: Sequence[Size], spelled: Sequence[int] | None = None) -> ir.Value:
        """`x` in the shape `sizes`, spelled otherwise where a constant says the same, as −1 or 0 do.

        Raises:
            Untranslated: there are no numbers in it, for 0 would mean something else.
        """
        before = self.shape(x)
        if 0 in sizes:
            raise Untranslated("a tensor without numbers")
        if list(sizes) == before:
            return x
        return self("Reshape", x, self.integers(spelled or _constant_shape(before, list(sizes))), shape=sizes)

    def _computed(self, size: Size) -> ir.Value:
        """A size as a list [1] of int64."""
        if isinstance(size, (int, sympy.Integer)):
            return self.integers([int(size)])
        if size in self._symbols:
            if size not in self._axis_sizes:
                axis, images = self._symbols[size][0], self.graph.inputs[0]
                made = self("Shape", images, start=axis, end=axis + 1, dtype=ir.DataType.INT64, shape=[1])
                self._axis_sizes[size] = made
            return self._axis_sizes[size]
        if isinstance(size, (sympy.Add, sympy.Mul)):
            operator = "Add" if isinstance(size, sympy.Add) else "Mul"
            total, *rest = [self._computed(part) for part in size.args]
            for part in rest:
                total = self(operator, total, part, shape=[1])
            return total
        if isinstance(size, FloorDiv):  # of sizes, which are not negative
            return self("Div", *[self._computed(part) for part in size.args], shape=[1])
        raise Untranslated(f"the size {size} of the batch")

    def _written(self, size: Size) -> int | str:
        """A size as a file states it."""
        if isinstance(size, int):
            return size
        text = str(size.xreplace(self._names)).replace(" ", "")
        self._expressions[text] = size
        return text

    def _read(self, dim: ir.SymbolicDim) -> Size:
        """A size that `_written` has written."""
        if dim.value not in self._expressions:
            raise Untranslated("a value of unknown shape")
        return self._expressions[dim.value]

    def _node_name(self, operator: str) -> str:
        path = module_path(self.node)
        name = f"{path}/{operator}" if path else operator
        self._nodes[name] += 1
        return name if self._nodes[name] == 1 else f"{name}_{self._nodes[name]}"

    def _unused(self, name: str) -> str:
        while True:
            self._values[name] += 1
            found = name if self._values[name] == 1 else f"{name}_{self._values[name]}"
            if found == name or not self._values[found]:
                self._values[found] = max(self._values[found], 1)
                return found


def _broadcast(shapes: Sequence[Sequence[Size]]) -> list[Size] | None:
    """Shape of an element-wise result; None where sizes are not known to fit."""
    rank = max(map(len, shapes))
    sizes: list[Size] = []
    for axis in range(-rank, 0):
        at = {shape[axis] for shape in shapes if len(shape) >= -axis} - {1}
        if len(at) > 1:
            return None
        sizes.append(at.pop() if at else 1)
    return sizes


def _constant_shape(before: Sequence[Size], sizes: Sequence[Size]) -> Sequence[Size]:
    """`sizes` with −1 for the one that depends on the batch; with 0 for others that stay as and where they are."""
    symbolic = [axis for axis, size in enumerate(sizes) if not isinstance(size, int)]
    kept = [axis for axis in symbolic if list(before[axis : axis + 1]) == [sizes[axis]]] if len(symbolic) > 1 else []
    rest = [axis for axis in symbolic if axis not in kept]
    spelled = [0 if axis in kept else size for axis, size in enumerate(sizes)]
    return [-1 if [axis] == rest else size for axis, size in enumerate(spelled)]
