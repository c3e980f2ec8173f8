"""What each layer of a network puts out for some images: of a graph, and of an ONNX file.

    layer = a convolution or linear layer, by its module's name and how often that name has occurred
    value = its output, with its bias, and in a graph with the BatchNorm that folding takes along

so that the same layer can be compared from the captured network to the file. What BatchNorm belongs to which layer is
known once everything is folded (`names_after_folding`).

Does not apply to what lies between layers, which has no name that lasts, and to convolutions with a kernel for each
image, which are written in forms of their own: the layers behind them show what they do.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import torch
from torch import fx
from torch.utils._pytree import tree_leaves

from kdna_deploy.files import scratch_folder
from kdna_deploy.graph.graph import BATCH_NORM, WEIGHTED, Graph, cast_floats, site
from kdna_deploy.graph.passes import FOLDING
from kdna_deploy.images.batch import Images
from kdna_deploy.network.stages import LOGITS as NETWORKS_OUTPUT
from kdna_deploy.runtimes.onnx_file import read_model
from kdna_deploy.runtimes.ort import session_needs
from kdna_deploy.targets.onnx.computed_kernels import kernel_nodes
from kdna_deploy.targets.onnx.names import site_of

# Name of a layer, as reports call it, and how often that name has occurred: a module may run several times.
Layer = tuple[str, int]
Values = Mapping[Layer, Images]

OUTPUT = "(output)"
LOGITS = (OUTPUT, 1)
_ONNX_LAYERS = ("Conv", "ConvTranspose", "Gemm", "MatMul")


@dataclass(frozen=True)
class LayerNames:
    """What folding makes of the captured graph: the name of each layer's node → its module, and the BatchNorms left."""

    sites: Mapping[str, str]
    norms: frozenset[str]


def names_after_folding(captured: Graph) -> LayerNames:
    """What folding makes of `captured`, which stays as it is."""
    folded = captured.clone()
    cast_floats(folded.module, torch.float64)
    for transform in FOLDING:
        transform(folded.module)
    nodes = list(folded.module.graph.nodes)
    return LayerNames(
        {node.name: site(node) for node in nodes if node.target in WEIGHTED},
        frozenset(node.name for node in nodes if node.target is BATCH_NORM),
    )


def values_of_graph(graph: Graph, names: LayerNames, images: Images) -> Values:
    """What each layer of `graph` puts out, its BatchNorm included where folding takes that along."""
    recorder = _Recorder(graph.module, names)
    dtype = next((t.dtype for t in graph.module.state_dict().values() if t.is_floating_point()), torch.float32)
    with torch.no_grad():
        returned = tree_leaves(recorder.run(torch.from_numpy(images).to(dtype)))
    return {**recorder.values, LOGITS: joined([one.numpy() for one in returned])}


def joined(answers: Sequence[Images]) -> Images:
    """What a network returns as one array: logits as they are, stage outputs beside each other [n, k]."""
    if len(answers) == 1:
        return answers[0]
    return np.concatenate([one.reshape(len(one), -1) for one in answers], axis=1)


class _Recorder(fx.Interpreter):
    """Runs a graph and keeps what its layers put out, by the names that they have once everything is folded."""

    def __init__(self, module: fx.GraphModule, names: LayerNames) -> None:
        super().__init__(module)
        self._norms = names.norms
        self._layers = _numbered(module, names.sites)
        self.values: dict[Layer, Images] = {}

    def run_node(self, n: fx.Node) -> object:
        value: Any = super().run_node(n)
        if n in self._layers:
            self.values[self._layers[n]] = value.numpy().copy()
        elif n.target is BATCH_NORM and n.name not in self._norms and n.args[0] in self._layers:
            layer = n.args[0]
            assert isinstance(layer, fx.Node)
            self.values[self._layers[layer]] = value[0].numpy().copy()
        return value


def _numbered(module: fx.GraphModule, names: Mapping[str, str]) -> dict[fx.Node, Layer]:
    """The layers of a graph with their names; a name that occurs again is numbered, in order."""
    taken: dict[str, int] = {}
    layers = {}
    for node in module.graph.nodes:
        if node.target in WEIGHTED:
            name = names.get(node.name, site(node))
            taken[name] = taken.get(name, 0) + 1
            layers[node] = (name, taken[name])
    return layers


def values_of_file(path: Path, images: Images) -> Values:
    """What each layer of an ONNX file puts out, on ONNX Runtime."""
    model = read_model(path)
    # Products that kernels are mixed with have the name of the layer that is to convolve with them.
    kernels = kernel_nodes(ir.from_proto(model).graph)
    layers = _onnx_layers(model.graph, {node.name or "" for node in kernels if node.op_type == "MatMul"})
    needs = session_needs(path)
    returned = [output.name for output in model.graph.output]
    # A file that answers with probabilities computes the logits on its way.
    answers = [NETWORKS_OUTPUT] if needs.interface.answers_probabilities else returned
    wanted = [value for value in dict.fromkeys((*answers, *layers.values())) if value not in returned]
    model.graph.output.extend(onnx.helper.make_empty_tensor_value_info(value) for value in wanted)
    with scratch_folder("bisect") as folder:
        target = folder / "layers.onnx"
        onnx.save(model, target)
        session = onnxruntime.InferenceSession(
            target,
            providers=["CPUExecutionProvider"],
            disabled_optimizers=list(needs.disabled_optimizers),
        )
        (taken,) = session.get_inputs()
        fed = needs.interface.taken(images)
        half = taken.type == "tensor(float16)"
        values = session.run([*answers, *layers.values()], {taken.name: fed.astype(np.float16) if half else fed})
    found = [np.asarray(value, np.float32) for value in values]
    return {LOGITS: joined(found[: len(answers)]), **dict(zip(layers, found[len(answers) :], strict=True))}


def _onnx_layers(graph: onnx.GraphProto, mixing: Collection[str]) -> dict[Layer, str]:
    """Layer → the value that it puts out, its bias included where that is a node of its own; without the `mixing`."""
    stored = {tensor.name for tensor in graph.initializer}
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        for source in node.input:
            readers.setdefault(source, []).append(node)
    taken: dict[str, int] = {}
    layers = {}
    for node in graph.node:
        if node.op_type not in _ONNX_LAYERS or node.name in mixing:
            continue
        name = site_of(node.name)
        taken[name] = taken.get(name, 0) + 1
        value = node.output[0]
        following = readers.get(value, [])
        if node.op_type == "MatMul" and len(following) == 1 and following[0].op_type == "Add":
            (bias,) = [source for source in following[0].input if source != value] or [""]
            value = following[0].output[0] if bias in stored else value
        layers[name, taken[name]] = value
    return layers
