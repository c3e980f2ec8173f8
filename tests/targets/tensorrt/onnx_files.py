"""ONNX files to build engines from: a small network with shared kernels, graphs made by hand."""

from __future__ import annotations

import functools
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import torch
from onnx import TensorProto, helper, numpy_helper

from kdna_deploy.graph.graph import Graph, cast_floats
from kdna_deploy.graph.passes.materialise import materialise
from kdna_deploy.graph.passes.share import share
from kdna_deploy.graph.provenance import KEY, Provenance
from kdna_deploy.images.interface import PLAIN, Interface
from kdna_deploy.images.preprocessing import Preprocessing
from kdna_deploy.targets.onnx.convert import to_onnx
from kdna_deploy.targets.onnx.interface import complete_interface
from tests.gated import Gated, folded

CHANNELS = 16
SMALL = (3, 9, 9)
PIXELS = Interface("nhwc", Preprocessing((0.4, 0.5, 0.6), (0.2,)), softmax=True, top=2, classes=5)


@functools.cache
def small_model(batch: int | None = None, children: str = "materialize") -> bytes:
    """A stem, a parent, two gated children of it and a classifier, as a serialised ONNX model."""
    torch.manual_seed(0)
    graph = folded(Gated(CHANNELS))
    (materialise if children == "materialize" else share)(graph.module)
    return _converted(graph, batch)


PROVENANCE = Provenance(
    source="trained.pth.tar",
    source_sha256="0" * 64,
    architecture=None,
    factory="package:network",
    ema=False,
    image_shape=SMALL,
    parameters=1,
    macs=1,
    channel_attentions=2,
)


def write_small(
    path: Path,
    batch: int | None = None,
    children: str = "materialize",
    provenance: Provenance | None = None,
    interface: Interface = PLAIN,
) -> Path:
    model = onnx.load_from_string(small_model(batch, children))
    if not interface.plain:
        complete = ir.from_proto(model)
        complete_interface(complete, interface)
        model = ir.to_proto(complete)
        provenance = replace(PROVENANCE, preprocessing=interface.preprocessing.to_record())
        provenance = provenance.with_options(interface=interface.to_record())
    if provenance is not None:
        model.metadata_props.add(key=KEY, value=provenance.to_json())
    onnx.save(model, path)
    return path


def _converted(graph: Graph, batch: int | None) -> bytes:
    cast_floats(graph.module, torch.float32)
    return ir.to_proto(to_onnx(graph, batch=batch)).SerializeToString()


def write_by_hand(path: Path, operator: str = "Relu", shape: tuple[int | str, ...] = ("n", 8, 9, 9)) -> Path:
    """A convolution of 8 channels followed by one more operator."""
    kernel = np.random.default_rng(0).standard_normal((8, 8, 3, 3), dtype=np.float32)
    nodes = [
        helper.make_node("Conv", ["images", "kernel"], ["features"], "conv", pads=[1, 1, 1, 1]),
        helper.make_node(operator, ["features"], ["logits"], "odd"),
    ]
    graph = helper.make_graph(
        nodes,
        "by_hand",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(kernel, "kernel")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8), path)
    return path
