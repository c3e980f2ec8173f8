"""A layer that is called twice, or whose kernel another scales, in int8: every call has a bias of its own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdna_deploy.runtimes.ort import OrtSession
from kdna_deploy.targets.fuse import fuse
from kdna_deploy.targets.onnx.convert import to_onnx
from kdna_deploy.targets.onnx.int8.calibration import calibrate
from kdna_deploy.targets.onnx.int8.quantize import QuantisedFor, quantise
from kdna_deploy.targets.onnx.int8.shared_codes import share_codes
from tests.targets.onnx.int8.quantised import constants, producers
from tests.targets.onnx.passes import applied
from tests.tensors import random_images

IMAGE = (3, 6, 8)
WIDTH = 4


class Echo(nn.Module):
    """One convolution called twice, and a child that scales its filters, over `axes` axes of the map."""

    def __init__(self, axes: int) -> None:
        super().__init__()
        self.axes = axes
        self.stem = nn.Conv2d(3, WIDTH, 3, padding=1)
        channels = WIDTH if axes < 3 else 1
        self.conv = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[axes - 1](channels, channels, 3, padding=1)
        self.scale = nn.Parameter(torch.linspace(-1.5, 2, channels).view(-1, *[1] * (axes + 1)))
        nn.init.constant_(self.conv.bias, 0.3)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.stem(x))
        y = {1: x.flatten(2), 2: x, 3: x.unsqueeze(1)}[self.axes]
        child = (F.conv1d, F.conv2d, F.conv3d)[self.axes - 1]
        y = self.conv(4 * F.relu(self.conv(y)))
        return child(y, self.conv.weight * self.scale, padding=1).view_as(x)


def _float_file(axes: int, folder: Path) -> Path:
    torch.manual_seed(axes)
    path = folder / "float.onnx"
    onnx.save(ir.serde.serialize_model(to_onnx(fuse(Echo(axes).eval(), IMAGE).graph)), path)
    return path


@pytest.mark.slow
@pytest.mark.parametrize("target", ["cpu", "tensorrt"])
@pytest.mark.parametrize("axes", [1, 2, 3])
def test_it_computes_in_int8_what_its_nodes_say(axes: int, target: QuantisedFor, tmp_path: Path) -> None:
    path = _float_file(axes, tmp_path)
    images = random_images(16, IMAGE).numpy()
    model = quantise(path, calibrate(path, [images], "minmax"), (), target)
    kernels = {
        node.name: constants(onnx.load(path).graph)[node.input[1]]
        for node in onnx.load(path).graph.node
        if node.op_type == "Conv"
    }
    if target == "cpu":
        assert applied(share_codes, model, kernels).changed == 2  # the second call, and the child
    made = producers(model.graph)
    biases = [made[node.input[2]].input[0] for node in model.graph.node if _has_quantised_bias(node, made)]
    assert len(set(biases)) == len(biases)
    written = tmp_path / "int8.onnx"
    onnx.save(model, written)
    onnx.checker.check_model(written, full_check=True)
    got, expected = OrtSession(written).run(images), OrtSession(path).run(images)
    # Four layers in 8 bits, each rounding to one part in 255 of its range: -40 dB of noise in a network this short.
    assert np.square(got - expected).mean() < 10 ** (-25 / 10) * np.square(expected - expected.mean()).mean()
    literal = onnxruntime.SessionOptions()
    literal.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    (spelled,) = onnxruntime.InferenceSession(str(written), literal, ["CPUExecutionProvider"]).run(
        None, {"input": images}
    )
    # Integer kernels round a sum once where the spelled-out graph rounds its terms: a few codes of the last layer.
    assert np.abs(got - spelled).max() <= 0.02 * np.abs(expected).max()


def _has_quantised_bias(node: onnx.NodeProto, made: dict[str, onnx.NodeProto]) -> bool:
    return node.op_type == "Conv" and len(node.input) > 2 and node.input[2] in made


@pytest.mark.slow
def test_no_bias_has_a_shape_that_biases_never_have(tmp_path: Path) -> None:
    graph = onnx.load(_float_file(3, tmp_path)).graph
    stored = constants(graph)
    assert all(stored[node.input[2]].ndim == 1 for node in graph.node if node.op_type == "Conv" and len(node.input) > 2)
