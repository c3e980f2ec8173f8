"""Files of ncnn, MNN and LiteRT: made of a verified ONNX file, verified on their runtime, smaller in halves."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import kdna_deploy as kd
from kdna_deploy.benchmark.baseline import plain_backbone
from kdna_deploy.benchmark.cpu.device import Cpu
from kdna_deploy.benchmark.device import BenchOptions
from kdna_deploy.benchmark.plan import candidate
from kdna_deploy.benchmark.subject import given
from kdna_deploy.cli.app import run
from kdna_deploy.errors import AccuracyError, ExportError, InputError, ParityError, UsageError
from kdna_deploy.evaluation.evaluate import EvaluationRequest, evaluate_files
from kdna_deploy.kinds import Kind, beside_own, named_kind
from kdna_deploy.network.checkpoint import Checkpoint
from kdna_deploy.runtimes.open import own_session, read_provenance
from kdna_deploy.targets import converted
from kdna_deploy.targets.converted import export_converted
from kdna_deploy.targets.inspect_file import inspect_file
from kdna_deploy.targets.onnx.export import export_fused
from kdna_deploy.targets.onnx.options import OnnxOptions
from kdna_deploy.verbs.fuse import FusedNetwork
from kdna_deploy.verbs.own_formats import FORMATS
from tests.conftest import SAMPLES
from tests.converted_files import NAMES, converted_sample, copy_of, require
from tests.dynamic import Mixture
from tests.samples import MOBILENET, RESNET, SIZE, fused_sample, fused_small, narrow, sample_path

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("float_files_once"), pytest.mark.usefixtures("fused_once")]
SHAPE = (3, *SIZE)
PLAIN = OnnxOptions(simplify=False)


@pytest.mark.parametrize("name", NAMES)
def test_logits_are_those_of_the_network(name: str) -> None:
    done, opened = converted_sample(name), fused_sample(RESNET)
    assert done.agreements and all(agreement.passed for agreement in done.agreements)
    assert done.bytes == sum(file.stat().st_size for file in (done.path, *beside_own(done.path)))
    made = read_provenance(done.path)
    assert (made.name, made.options["format"], made.options["batch"]) == (opened.provenance.name, name, "dynamic")
    assert made.source_sha256 == opened.network.checkpoint.sha256
    assert made.versions[converted.FORMATS[FORMATS[name].kind].packages[0]] in done.version
    assert kd.verify(done.path, against=sample_path(RESNET)).passed


@pytest.mark.parametrize(
    ("name", "weights", "most"),
    [
        ("ncnn", "fp16", 0.52),
        ("mnn", "fp16", 0.54),
        ("mnn", "int8", 0.3),
        ("litert", "fp16", 0.52),
        ("litert", "int8", 0.27),
    ],
)
def test_halves_and_codes_are_smaller_files(name: str, weights: str, most: float) -> None:
    small, large = converted_sample(name, weights), converted_sample(name)
    assert all(agreement.passed for agreement in small.agreements)
    assert small.bytes <= most * large.bytes
    assert read_provenance(small.path).options["weights"] == small.stored == weights
    assert kd.verify(small.path, against=sample_path(RESNET)).passed  # at the tolerance of what it records


@pytest.mark.parametrize(
    ("write", "output", "base"),
    [(export_fused, "net.onnx", "net.onnx"), (export_converted, "net.param", "net.bin")],
)
def test_what_adapters_are_put_beside_is_an_input(
    tmp_path: Path, write: Callable[..., object], output: str, base: str
) -> None:
    (tmp_path / base).write_bytes(b"weights")
    opened = fused_sample(RESNET)
    checkpoint = replace(opened.network.checkpoint, base=Checkpoint(tmp_path / base, "0" * 64, {}))
    opened = replace(opened, network=replace(opened.network, checkpoint=checkpoint))
    with pytest.raises(UsageError, match=rf"'.*{base}' is the input itself"):
        write(opened, tmp_path / output, PLAIN)
    assert (tmp_path / base).read_bytes() == b"weights"


@pytest.mark.parametrize("name", NAMES)
def test_children_are_materialised_and_a_note_says_so(name: str) -> None:
    shared, plain = converted_sample(name, children="share"), converted_sample(name)
    assert read_provenance(shared.path).options["children"] == "materialize"
    assert any("the children of shared kernels are materialised" in note for note in shared.notes)
    assert abs(shared.bytes - plain.bytes) <= 1000  # of what is recorded


@pytest.mark.parametrize(
    ("name", "others"),
    [("ncnn", -12), ("mnn", 1)],  # the gates of six attentions are inner products in ncnn, a classifier a kernel in MNN
)
def test_the_ledger_counts_a_kernel_for_every_convolution(name: str, others: int) -> None:
    done = converted_sample(name)
    checkpoint, _, onnx, *_ = done.made_from.storage  # type: ignore[union-attr]
    assert done.storage is not None
    assert done.storage.kernels == done.storage.convolutions == onnx.convolutions + others
    assert done.storage.unique_bytes == pytest.approx(onnx.materialised_bytes, rel=0.04)
    assert checkpoint.unique_bytes < done.storage.unique_bytes
    assert inspect_file(done.path).storage == (checkpoint, done.storage)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "checkpoint",
    [partial(narrow, "resnet50"), partial(sample_path, MOBILENET)],
    ids=["bottlenecks", "inverted residuals"],
)
def test_every_kind_of_block(tmp_path: Path, name: str, checkpoint: Callable[[], Path]) -> None:
    """Basic blocks, those of ResNet-18, go through the tests above; MobileNetV2 has the structure of its half."""
    require(name)
    done = export_converted(fused_small(checkpoint()), tmp_path / f"net{FORMATS[name].suffix}", PLAIN)
    assert all(agreement.passed for agreement in done.agreements)


@pytest.mark.parametrize("name", NAMES)
def test_equal_options_make_equal_bytes(tmp_path: Path, name: str) -> None:
    require(name)
    opened, written = fused_sample(RESNET), []
    for folder in (tmp_path / "a", tmp_path / "b"):
        folder.mkdir()
        export_converted(opened, folder / f"net{FORMATS[name].suffix}", PLAIN)
        written.append({path.name: path.read_bytes() for path in folder.iterdir()})
    assert written[0] == written[1]


def test_what_is_too_large_is_not_written(tmp_path: Path) -> None:
    require("mnn")
    with pytest.raises(ExportError, match=r"more than `max_bloat=0\.5` allows"):
        export_converted(fused_sample(RESNET), tmp_path / "net.mnn", OnnxOptions(simplify=False, max_bloat=0.5))
    assert list(tmp_path.iterdir()) == []


def test_what_departs_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    require("mnn")
    output = tmp_path / "net.mnn"
    session = own_session(Kind.mnn)
    monkeypatch.setattr(session, "run_all", lambda self, images, run=session.run_all: (run(self, images)[0] + 1e-2,))
    with pytest.raises(ParityError, match="The MNN file departs from the original network"):
        export_converted(fused_sample(RESNET), output, PLAIN)
    assert list(tmp_path.iterdir()) == []


def test_codes_are_judged_on_images_where_there_are_some(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    require("mnn")
    words: dict[str, Any] = {"mnn": True, "weights": "int8", "calibration": SAMPLES / "digits", "simplify": False}
    done = kd.export(FusedNetwork(fused_sample(RESNET)), tmp_path / "net.mnn", **words)
    assert done.converted is not None and done.converted.evaluation is not None
    agreement = done.converted.evaluation.agreement
    assert agreement is not None and agreement.same_top1 == 1 and agreement.sqnr > 30  # decibels; 6 a bit
    assert (done.to_dict()["precision"], done.to_dict()["held_out_images"]) == ("fp32", 10)
    monkeypatch.setattr("kdna_deploy.targets.converted.drop", lambda evaluation: 25.0)
    with pytest.raises(AccuracyError, match=r"On MNN int8 loses 25\.00 points"):
        kd.export(FusedNetwork(fused_sample(RESNET)), tmp_path / "other.mnn", max_drop=1.0, **words)
    assert [path.name for path in tmp_path.iterdir()] == ["net.mnn"]
    assert any("random images alone" in note for note in converted_sample("mnn", "int8").notes)


def mixed() -> nn.Module:
    """Classifies images by a kernel that is made for each of them."""
    torch.manual_seed(0)
    network = nn.Sequential(Mixture(3), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_()
    return network


def test_kernels_for_each_image_are_converted_for_one_image(tmp_path: Path) -> None:
    require("mnn")
    done = kd.export(mixed(), tmp_path / "net.mnn", mnn=True, input_size=16, simplify=False)
    assert any("takes one image at a time" in note for note in done.converted.notes)  # type: ignore[union-attr]
    with own_session(Kind.mnn)(done.path) as session, pytest.raises(InputError, match="it takes 1 at a time"):
        assert session.batch == 1
        session.run(np.zeros((2, 3, 16, 16), np.float32))


def test_a_file_for_one_image_is_judged_on_images_one_at_a_time(tmp_path: Path) -> None:
    require("mnn")
    np.save(tmp_path / "i.npy", np.random.default_rng(0).standard_normal((11, 3, 16, 16), dtype=np.float32))
    words: dict[str, Any] = {"mnn": True, "weights": "int8", "input_size": 16, "simplify": False}
    done = kd.export(mixed(), tmp_path / "net.mnn", calibration=tmp_path / "i.npy", **words)
    assert done.converted is not None and done.converted.evaluation is not None
    assert done.converted.evaluation.images == 2  # every fifth


def test_weights_that_a_format_does_not_store_are_refused(tmp_path: Path) -> None:
    require("ncnn")
    with pytest.raises(UsageError, match="ncnn does not store weights in int4"):
        export_converted(fused_sample(RESNET), tmp_path / "net.param", OnnxOptions(weights="int4"))


@pytest.mark.parametrize("name", NAMES)
def test_the_library_writes_it_and_tells_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    require(name)
    monkeypatch.chdir(tmp_path)
    done = kd.export(FusedNetwork(fused_sample(RESNET)), simplify=False, **{name: True})  # type: ignore[arg-type]
    assert done.path == Path(f"{RESNET}{FORMATS[name].suffix}") and done.converted is not None and done.onnx is None
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        path.name for path in (done.path, *beside_own(done.path))
    )
    document = json.loads(json.dumps(done.to_dict()))
    assert (document["format"], document["weights"], document["bytes"]) == (name, "fp32", done.converted.bytes)
    weights, others = ((beside_own(path) or (path,))[0] for path in (done.path, converted_sample(name).path))
    if name not in ("mnn", "litert"):  # the record, where the checkpoint lies, is in the one file
        assert weights.read_bytes() == others.read_bytes()
    assert "Against the original network" in str(done) and "ONNX Runtime" not in str(done)
    assert f"made by {FORMATS[name].title} {done.converted.version}" in " ".join(str(done).split())


@pytest.mark.parametrize("name", NAMES)
def test_evaluate_and_bench_open_it_on_its_runtime(tmp_path: Path, name: str) -> None:
    path = converted_sample(name).path
    found = evaluate_files(EvaluationRequest(path, SAMPLES / "digits"))
    assert (found.model, found.image_shape) == (path.name, SHAPE)
    assert found.result.top1 >= 0.9  # 50 images
    options = BenchOptions(Cpu())
    subject = options.device.given(path, tmp_path, options)
    (variant,) = options.device.variants(subject, options)
    assert (subject.kind, subject.name, variant.runtime) == (name, path.name, name)
    assert subject.parameters == fused_sample(RESNET).provenance.parameters
    taken = candidate(subject, variant, options)
    assert (taken.unavailable, taken.file_bytes) == ("", converted_sample(name).bytes)


def test_bench_makes_one_of_a_checkpoint_and_of_its_plain_backbone(tmp_path: Path) -> None:
    require("mnn")
    subject = given(sample_path(RESNET), tmp_path / "made", size=SIZE)
    own, plain = subject, plain_backbone(subject, tmp_path / "plain")
    made = [read_provenance(one.artifacts.source("mnn").path) for one in (own, plain)]
    assert [one.name for one in made] == ["resnet18", "resnet18_plain"]
    assert [one.options["format"] for one in made] == ["mnn", "mnn"]


def test_damaged_weights_are_refused_by_every_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = copy_of(converted_sample("ncnn"), tmp_path)
    weights = path.with_suffix(".bin")
    weights.write_bytes(weights.read_bytes()[:-4] + b"\x00\x00\x80\x3f")
    for command in (["verify", path], ["bench", path], ["evaluate", path, "--data", tmp_path], ["inspect", path]):
        assert run(list(map(str, command))) == 3
        assert weights.name in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize("name", ["mnn", "litert"])
@pytest.mark.parametrize("share", [0.0007, 0.5])  # among the offsets, over which MNN crashes; among the weights
def test_a_damaged_byte_is_refused_before_the_runtime_sees_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, share: float
) -> None:
    path = copy_of(converted_sample(name), tmp_path)
    content = bytearray(path.read_bytes())
    content[int(share * len(content))] ^= 0xFF
    path.write_bytes(content)
    for command in (["verify", path], ["bench", path], ["evaluate", path, "--data", tmp_path], ["inspect", path]):
        assert run(list(map(str, command))) == 3
        said = capsys.readouterr().err.splitlines()[-1]
        assert f"'{path}' is damaged: its bytes are not those that were written; export it again." in said


@pytest.mark.parametrize("name", NAMES)
def test_a_batch_is_its_images_and_a_closed_session_says_so(name: str) -> None:
    images = np.random.default_rng(1).standard_normal((3, *SHAPE), dtype=np.float32)
    with own_session(named_kind(converted_sample(name).path))(converted_sample(name).path, 1) as session:
        together = session.run(images)
        apart = np.concatenate([session.run(image[None]) for image in images])
    assert (together.shape, together.dtype) == ((3, 10), np.float32)
    assert np.abs(together - apart).max() <= 1e-5 * np.abs(apart).max()
