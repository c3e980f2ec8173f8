"""The layers of an engine, and which nodes of the ONNX graph each computes.

The builder lists them in its log when it is asked for detail, so they are known without running the engine:

    Name: …, LayerType: …, Inputs: [ { Name: …, Dimensions: […], …, Datatype: …, Format: … }], Constants: […],
    Outputs: […], TacticName: …, StreamId: …, Metadata: [ONNX Layer: node_conv2d][ONNX Layer: node_relu]

A list in another form gives no layers rather than wrong ones.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

_LIST = r"\[((?:[^\[\]]|\[[^\[\]]*\])*)\]"  # brackets one within another, as in a list of tensors with dimensions
_LAYER = re.compile(
    rf"^Name: (.*?), LayerType: ([^,]*), Inputs: {_LIST}, (?:Constants: {_LIST}, )?Outputs: {_LIST}(.*)$"
)
_TENSOR = re.compile(r"\{ *Name: (.*?), (?:Location|Dimensions): [^}]*\}")
_SHAPE = re.compile(r"Dimensions: \[([^\]]*)\]")
# TensorRT 10 gives both in one field, Format/Datatype.
_DATATYPE = re.compile(r"Data[Tt]ype: ([^,}]*)")
_LAYOUT = re.compile(r"Format: ([^}]*)")
_NODE = re.compile(r"\[ONNX Layer: ([^\]]*)\]")


@dataclass(frozen=True)
class EngineTensor:
    """What flows between layers, or is stored: `shape` has −1 for the batch, `layout` is the order in memory."""

    name: str
    shape: tuple[int, ...]
    datatype: str
    layout: str


@dataclass(frozen=True)
class EngineLayer:
    """A layer of the engine.

    Attributes:
        name: the library's.
        kind: the library's, as ``correlation`` for a convolution.
        nodes: names of the ONNX nodes that it computes; none for what the library added.
        inputs, outputs: in order.
        constants: weights.
    """

    name: str
    kind: str
    nodes: tuple[str, ...]
    inputs: tuple[EngineTensor, ...]
    outputs: tuple[EngineTensor, ...]
    constants: tuple[EngineTensor, ...]


def parse_layers(messages: Iterable[str]) -> tuple[EngineLayer, ...]:
    """The layers listed in log messages, in order of execution."""
    found = (_LAYER.match(line) for message in messages for line in message.splitlines())
    return tuple(_layer(match) for match in found if match)


def _layer(match: re.Match[str]) -> EngineLayer:
    name, kind, inputs, constants, outputs, rest = match.groups()
    nodes = dict.fromkeys(_NODE.findall(rest))  # each once, in order
    return EngineLayer(name, kind, tuple(nodes), _tensors(inputs), _tensors(outputs), _tensors(constants or ""))


def _tensors(text: str) -> tuple[EngineTensor, ...]:
    return tuple(
        EngineTensor(found[1], _sizes(_field(_SHAPE, found[0])), _field(_DATATYPE, found[0]), _field(_LAYOUT, found[0]))
        for found in _TENSOR.finditer(text)
    )


def _field(pattern: re.Pattern[str], text: str) -> str:
    found = pattern.search(text)
    return found[1].strip() if found else ""


def _sizes(text: str) -> tuple[int, ...]:
    return tuple(int(size) for size in text.split(",") if size.strip())
