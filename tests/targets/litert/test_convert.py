"""LiteRT files in int8, with pixels and classes, with stage outputs; children that read their parent's codes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import kdna_deploy as kd
from kdna_deploy.evaluation.compare import compare
from kdna_deploy.evaluation.tolerance import FLOAT32
from kdna_deploy.evaluation.verify import usual_tolerance
from kdna_deploy.images.preprocessing import Preprocessing
from kdna_deploy.images.probes import standard_probes
from kdna_deploy.images.split import Split, split_images
from kdna_deploy.runtimes.litert_file import read_litert
from kdna_deploy.runtimes.open import open_session, read_provenance
from kdna_deploy.runtimes.ort import OrtSession
from kdna_deploy.targets.converted import export_converted
from kdna_deploy.targets.inspect_file import inspect_file
from kdna_deploy.targets.onnx.int8.export import Int8Options
from kdna_deploy.targets.onnx.options import OnnxOptions
from kdna_deploy.verbs.fuse import FusedNetwork
from tests.conftest import SAMPLES
from tests.converted_files import require
from tests.samples import MOBILENET, RESNET, SIZE, fused_sample, sample_path

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("float_files_once"), pytest.mark.usefixtures("fused_once")]
SHAPE = (3, *SIZE)
PLAIN = OnnxOptions(simplify=False)


@pytest.fixture(scope="module")
def split(tmp_path_factory: pytest.TempPathFactory) -> Split:
    require("litert")
    path = tmp_path_factory.mktemp("images") / "images.npy"
    np.save(path, np.random.default_rng(0).standard_normal((12, *SHAPE), dtype=np.float32))
    return split_images(path, None, SHAPE, Preprocessing(), 10)


@pytest.mark.parametrize(("name", "kernels"), [(RESNET, 36), (MOBILENET, 62)])
def test_int8_computes_in_codes_and_children_read_those_of_their_parent(
    tmp_path: Path, split: Split, name: str, kernels: int
) -> None:
    """Children of MobileNetV2 scale their parent's filters alone; those of ResNet-18 have spatial attention."""
    done = export_converted(fused_sample(name), tmp_path / "net.tflite", PLAIN, Int8Options(split))
    assert done.evaluation is not None and done.evaluation.agreement is not None
    assert done.evaluation.agreement.sqnr > 15  # decibels; below, a layer has gone wrong
    assert read_provenance(done.path).options["precision"] == "int8"
    assert done.storage is not None and done.storage.kernels == kernels
    assert any("read its codes" in note for note in done.notes) is (kernels < done.storage.convolutions)
    assert calls_of_xnnpack(done.path) == 1  # what it does not take would be computed by kernels that are far slower
    stored = sum({kernel.buffer: kernel.bytes for kernel in read_litert(done.path).kernels}.values())
    assert stored <= done.bytes <= 1.6 * stored  # biases, scales, names and the record


def calls_of_xnnpack(path: Path) -> int:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(path))
    interpreter.allocate_tensors()
    return [operator["op_name"] for operator in interpreter._get_ops_details()].count("DELEGATE")


def test_weights_as_codes_are_shared_too(tmp_path: Path) -> None:
    require("litert")
    done = export_converted(fused_sample(MOBILENET), tmp_path / "net.tflite", replace(PLAIN, weights="int8"))
    assert all(agreement.passed for agreement in done.agreements)
    assert done.storage is not None and (done.storage.kernels, done.storage.convolutions) == (62, 72)
    assert calls_of_xnnpack(done.path) == 1
    assert inspect_file(done.path).storage[-1] == done.storage


@pytest.mark.parametrize("words", [{"precision": "int8"}, {"weights": "int8"}], ids=["int8", "codes"])
def test_a_file_of_one_batch_is_calibrated_and_judged_in_that(tmp_path: Path, words: dict[str, Any]) -> None:
    """The last batch of held-out images is incomplete, and filled up."""
    require("litert")
    opened, path = FusedNetwork(fused_sample(RESNET)), tmp_path / "net.tflite"
    digits = SAMPLES / "digits"
    done = kd.export(opened, path, litert=True, batch=4, calibration=digits, simplify=False, **words)
    assert done.converted is not None and done.converted.evaluation is not None
    assert (done.converted.evaluation.images, done.converted.evaluation.top1) == (10, 1.0)
    with open_session(path) as session:
        assert session.batch == 4


def test_a_file_takes_pixels_and_names_classes(tmp_path: Path) -> None:
    require("litert")
    words = {"preprocess": "nhwc", "postprocess": "topk:3", "batch": 2, "simplify": False}
    done = kd.export(sample_path(RESNET), tmp_path / "net.tflite", litert=True, input_size=64, **words)  # type: ignore[arg-type]
    with open_session(done.path) as session, open_session(sample_path(RESNET)) as original:
        assert (session.batch, session.image_shape, session.interface.top) == (2, SHAPE, 3)
        pixels = np.random.default_rng(0).integers(0, 256, (2, *SIZE, 3), dtype=np.uint8)
        from kdna_deploy.images.interface import normalised

        images = normalised(pixels, session.interface.preprocessing)
        answers, logits = session.run(images), original.run(images)
    shares = np.exp(logits - logits.max(1, keepdims=True))
    shares /= shares.sum(1, keepdims=True)
    named = np.isfinite(answers)
    assert named.sum(1).tolist() == [3, 3]
    assert np.abs(answers[named] - shares[named]).max() <= 1e-4  # as logits


def test_stage_outputs_have_their_names(tmp_path: Path) -> None:
    require("litert")
    done = kd.export(
        sample_path(RESNET), tmp_path / "net.tflite", litert=True, input_size=64, outputs="features", simplify=False
    )
    with open_session(done.path) as session:
        assert session.stage_names == ("C2", "C3", "C4", "C5")  # type: ignore[attr-defined]
        maps = session.run_all(np.zeros((1, *SHAPE), np.float32))  # type: ignore[attr-defined]
    assert [one.shape[2:] for one in maps] == [(16, 16), (8, 8), (4, 4), (2, 2)]


class Biased(nn.Module):
    """Of 2,048 products for a logit, none as large as its bias: XNNPACK rounds each of the sums at the bias's size."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.linear = nn.Conv2d(3, 2048, 1, bias=False), nn.Linear(2048, 1000)
        with torch.no_grad():
            self.conv.weight.mul_(1e-2)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.linear(self.conv(images).relu().mean((2, 3)))


def test_what_adding_one_product_after_another_rounds_is_no_fault(tmp_path: Path) -> None:
    require("litert")
    file = kd.export(Biased().eval(), tmp_path / "net.tflite", litert=True, input_size=8)
    assert kd.verify(file).passed
    tolerance = usual_tolerance(file.path)
    assert (tolerance.last_places, replace(tolerance, last_places=FLOAT32.last_places)) == (128, FLOAT32)
    with OrtSession(kd.export(Biased().eval(), tmp_path / "net.onnx", input_size=8).path) as exact:
        probes = standard_probes((3, 8, 8))
        with open_session(file.path) as session:
            assert not all(agreement.passed for agreement in compare(session, exact, probes))
            assert all(agreement.passed for agreement in compare(session, exact, probes, tolerance))
