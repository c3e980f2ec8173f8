"""One small network with class names, in the forms that a server is given."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from PIL import Image
from torch import nn

import kdna_deploy as kd
from tests.verbs.test_face import small

NAMES = ("cat", 'a "dog"', "größer")
SIZE = 8


def of_classes(number: int) -> nn.Module:
    """As `small`, of so many classes."""
    network = small()
    assert isinstance(network, nn.Sequential)
    network[-1] = nn.Linear(4, number)
    return network.eval()


def write_graph(path: Path, text: str) -> Path:
    """An ONNX file of nobody's, as ONNX's parser reads it."""
    onnx.save_model(onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 18]> {text}'), path)
    return path


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Never change it: net.onnx; one.onnx and two.onnx, of so many images; pixels.onnx, which names two classes.

    many.onnx has a thousand classes without names, ten.onnx names ten of twelve, half.onnx takes and returns halves.
    """
    folder = tmp_path_factory.mktemp("serving")
    (folder / "names.txt").write_text("\n".join(NAMES), encoding="utf-8")
    network = kd.load(small(), input_size=SIZE)
    words = {"labels": folder / "names.txt", "simplify": False}
    kd.export(network, folder / "net.onnx", **words)
    kd.export(network, folder / "one.onnx", batch=1, external_data=True, **words)
    kd.export(network, folder / "two.onnx", batch=2, **words)
    kd.export(network, folder / "pixels.onnx", preprocess="nhwc", postprocess="topk:2", **words)
    kd.export(network, folder / "half.onnx", precision="fp16", half_io=True, **words)
    kd.export(kd.load(of_classes(1000), input_size=SIZE), folder / "many.onnx", simplify=False)
    twelve = kd.load(of_classes(12), input_size=SIZE)
    kd.export(twelve, folder / "ten.onnx", preprocess="nchw", postprocess="topk:10", simplify=False)
    noise = np.random.default_rng(5).integers(0, 256, (21, 30, 3), np.uint8)
    Image.fromarray(noise).save(folder / "photo.png")
    return folder
