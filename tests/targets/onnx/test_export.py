"""Exported files: what is in them, that they compute the network, and that a failed export leaves nothing behind."""

from __future__ import annotations

import copy
import errno
import functools
import os
import re
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
import torch
from torch import nn

from kdna_deploy.errors import ExportError, InputError, KdnaError, ParityError, UsageError
from kdna_deploy.files import file_sha256
from kdna_deploy.graph.graph import Graph
from kdna_deploy.graph.provenance import KEY, from_json
from kdna_deploy.images.probes import NOISE, standard_probes
from kdna_deploy.progress import SILENT, Listener
from kdna_deploy.runtimes.ort import OrtSession
from kdna_deploy.targets.fuse import fuse
from kdna_deploy.targets.onnx import convert, torch_exporter
from kdna_deploy.targets.onnx import export as onnx_export
from kdna_deploy.targets.onnx.export import OnnxExport, export_fused, export_onnx
from kdna_deploy.targets.onnx.options import OnnxOptions
from tests.recorded import Recorded
from tests.samples import RESNET, export_sample, fused_sample, sample_path
from tests.tensors import random_images

SHAPE = (3, 12, 12)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> OnnxExport:
    return export_sample(tmp_path_factory.mktemp("exported") / "net.onnx")


class Small(nn.Module):
    """A network that is exported in a moment, for the tests of what happens around it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 16, 3, bias=False)
        self.gate = nn.Conv2d(3, 3, 1)
        self.fc = nn.Linear(16, 10)
        self.bn = nn.BatchNorm2d(16)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        gated = x * self.gate(x.mean((2, 3), keepdim=True)).sigmoid()
        return self.fc(self.bn(self.conv(gated)).relu().mean((2, 3)))


@functools.cache
def small() -> tuple[Graph, nn.Module]:
    torch.manual_seed(0)
    network = Small().eval().requires_grad_(False)
    return fuse(network, SHAPE).graph, network


def export(
    output: Path,
    original: nn.Module | None = None,
    inputs: tuple[Path, ...] = (),
    listener: Listener = SILENT,
    **options: Any,
) -> OnnxExport:
    """Export the small network, without onnxsim, against `original`: itself unless another is given."""
    graph, network = small()
    chosen = OnnxOptions(simplify=False, **options)
    return export_onnx(graph, original or network, fused_sample().provenance, output, chosen, inputs, listener)


def departing(shift: float) -> nn.Module:
    """The small network with one logit shifted by `shift` times its smallest spread over images of a kind."""
    network = copy.deepcopy(small()[1])
    noise, flat = (
        torch.cat([torch.from_numpy(p.images) for p in standard_probes(SHAPE) if p.kind == kind])
        for kind in (NOISE, "flat")
    )
    spread = min(float(network(images)[:, 3].std(correction=0)) for images in (noise, flat))
    network.get_parameter("fc.bias")[3] += shift * spread
    return network


def run(path: Path, images: np.ndarray) -> np.ndarray:
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]).run(None, {"input": images})[0]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.slow
def test_the_file_is_valid_single_and_as_reported(exported: OnnxExport) -> None:
    assert list(exported.path.parent.iterdir()) == [exported.path]
    onnx.checker.check_model(exported.path, full_check=True)
    model = onnx.load(exported.path)
    assert exported.bytes == exported.path.stat().st_size
    assert (exported.opset, model.opset_import[0].version) == (18, 18)
    assert exported.ir_version == model.ir_version == onnx.helper.find_min_ir_version_for(model.opset_import)
    assert sum(exported.nodes.values()) == len(model.graph.node)
    assert exported.nodes["Mul"] == 6
    assert not any(tensor.external_data for tensor in model.graph.initializer)
    assert model.producer_name == "kdna-deploy"


def test_the_metadata_says_where_the_file_comes_from(exported: OnnxExport) -> None:
    (entry,) = onnx.load(exported.path).metadata_props
    assert entry.key == KEY == "kdna"
    provenance = from_json(entry.value, str(exported.path))
    assert provenance.source == sample_path(RESNET).name
    assert provenance.source_sha256 == file_sha256(sample_path(RESNET))
    assert provenance.image_shape == (3, 64, 64)
    assert provenance.restored_architecture() == fused_sample().network.architecture
    assert provenance.channel_attentions == 6
    fused = {"children": "materialize", "channel_attention": "keep"}
    assert provenance.options == {**fused, "opset": 18, "batch": "dynamic", "simplify": True, "target": "cpu"}
    assert {"kdna-deploy", "torch", "onnx", "onnxruntime"} <= provenance.versions.keys()
    assert OrtSession(exported.path).metadata()[KEY] == entry.value


def test_agreement_with_the_original_is_measured_at_several_batches(exported: OnnxExport) -> None:
    kinds = [(NOISE, 1), (NOISE, 2), (NOISE, 5), ("noise × 0.05", 1), ("noise × 20", 1), ("flat", 3)]
    assert [(a.images, a.batch) for a in exported.agreements] == kinds
    for agreement in exported.agreements:
        assert agreement.passed
        assert agreement.same_top1 == agreement.batch


@pytest.mark.parametrize("batch", [1, 3, 8])
def test_onnx_runtime_computes_the_trained_network_at_any_batch(exported: OnnxExport, batch: int) -> None:
    images = random_images(batch, (3, 64, 64), seed=99)
    expected = fused_sample().network.module(images).numpy()
    assert np.abs(run(exported.path, images.numpy()) - expected).max() < 1e-4


@pytest.mark.slow
def test_a_fixed_batch_is_verified_and_accepted_alone(tmp_path: Path) -> None:
    result = export(tmp_path / "four.onnx", batch=4)
    assert [a.batch for a in result.agreements] == [11, 1, 1, 3]  # four whole batches
    session = OrtSession(result.path)
    assert session.batch == 4
    assert session.run(np.zeros((4, *SHAPE), np.float32)).shape == (4, 10)
    with pytest.raises(InputError, match="takes images 4×3×12×12 and cannot run on 2×3×12×12"):
        session.run(np.zeros((2, *SHAPE), np.float32))
    assert from_json(session.metadata()[KEY], "four").options["batch"] == 4


@pytest.mark.slow
def test_external_weights_lie_beside_the_model_and_move_with_it(tmp_path: Path) -> None:
    first = tmp_path / "first"
    first.mkdir()
    result = export_sample(first / "net.onnx", external_data=True, simplify=False)
    model, weights = sorted(contents(first))
    assert model == "net.onnx" and re.fullmatch(r"net\.onnx\.[0-9a-f]{16}\.data", weights)
    assert result.bytes == sum(map(len, contents(first).values()))
    assert result.path.stat().st_size < 100_000
    modes = {stat.S_IMODE(path.stat().st_mode) for path in first.iterdir()}
    assert len(modes) == 1  # who may read the model may read its weights
    first.rename(tmp_path / "second")
    moved = tmp_path / "second" / "net.onnx"
    onnx.checker.check_model(moved)
    images = random_images(2, (3, 64, 64))
    assert np.abs(run(moved, images.numpy()) - fused_sample().network.module(images).numpy()).max() < 1e-4


@pytest.mark.slow
def test_external_weights_of_an_earlier_export_are_not_counted(tmp_path: Path) -> None:
    (tmp_path / "net.onnx.data").write_bytes(bytes(1000))
    result = export(tmp_path / "net.onnx")
    assert result.bytes == result.path.stat().st_size


def test_an_opset_that_cannot_be_written_is_refused_before_anything_is_done() -> None:
    with pytest.raises(UsageError, match="`opset=17` is not supported; choose 18 to 23"):
        OnnxOptions(opset=17)


@pytest.mark.slow
@pytest.mark.parametrize("external_data", [False, True])
def test_a_file_that_departs_from_the_original_is_not_written(tmp_path: Path, external_data: bool) -> None:
    with pytest.raises(ParityError, match=r"departs from the original network: output 3 .* nothing was written"):
        export(tmp_path / "net.onnx", departing(0.01), external_data=external_data)
    assert contents(tmp_path) == {}


@pytest.mark.slow
@pytest.mark.parametrize("external_data", [False, True])
def test_a_failed_export_leaves_an_existing_output_as_it_was(tmp_path: Path, external_data: bool) -> None:
    (tmp_path / "net.onnx").write_bytes(b"the model of last week")
    (tmp_path / "net.onnx.data").write_bytes(b"its weights")
    before = contents(tmp_path)
    with pytest.raises(ParityError):
        export(tmp_path / "net.onnx", departing(0.01), external_data=external_data)
    assert contents(tmp_path) == before


@pytest.mark.slow
def test_departures_are_judged_by_the_spread_of_the_output(tmp_path: Path) -> None:
    export(tmp_path / "close.onnx", departing(0.00005))
    with pytest.raises(ParityError, match="output 3 differs"):
        export(tmp_path / "far.onnx", departing(0.0015))
    assert list(contents(tmp_path)) == ["close.onnx"]


def gate_twice_as_large(model: ir.Model) -> int:
    """A spelling that computes something else."""
    sigmoid = next(node for node in model.graph if node.op_type == "Sigmoid")
    twice = ir.node("Add", [sigmoid.outputs[0], sigmoid.outputs[0]], name="twice")
    twice.outputs[0].name = "twice"
    twice.outputs[0].shape, twice.outputs[0].type = sigmoid.outputs[0].shape, sigmoid.outputs[0].type
    product = next(node for node in model.graph if node.op_type == "Mul")
    product.replace_input_with(list(product.inputs).index(sigmoid.outputs[0]), twice.outputs[0])
    model.graph.insert_before(product, twice)
    return 1


def one_name_for_two_values(model: ir.Model) -> int:
    """A spelling that is no valid graph."""
    for node in model.graph:
        if node.op_type in ("Sigmoid", "Mul"):
            node.outputs[0].name = "twice"
    return 1


def an_operator_that_no_runtime_has(model: ir.Model) -> int:
    for node in model.graph:
        if node.op_type == "Sigmoid":
            node.op_type = "Sigmoyd"
    return 1


def an_index_that_is_not_there(model: ir.Model) -> int:
    return len(model.graph.outputs[7].name or "")


SPELLINGS = {
    gate_twice_as_large: "the file departs beyond the tolerance",
    one_name_for_two_values: "The ONNX model is invalid",
    an_operator_that_no_runtime_has: "The ONNX model is invalid",
    an_index_that_is_not_there: "IndexError: list index out of range",
}


@pytest.mark.slow
@pytest.mark.parametrize("spelling", SPELLINGS)
def test_a_spelling_that_fails_is_given_up_with_a_note(
    spelling: Callable[[ir.Model], int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(convert, "widen_gates", spelling)
    result = export(tmp_path / "net.onnx")
    (note,) = result.notes
    assert note.startswith("spelled for any runtime instead of ONNX Runtime on a CPU: ")
    assert SPELLINGS[spelling] in note
    assert all(agreement.passed for agreement in result.agreements)
    assert "Resize" not in result.nodes
    assert from_json(OrtSession(result.path).metadata()[KEY], "net").options["target"] == "any"
    assert list(contents(tmp_path)) == ["net.onnx"]


@pytest.mark.slow
def test_the_precisions_made_from_the_file_profit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`export_fused` is what the int8 and half-precision exports begin with."""
    monkeypatch.setattr(convert, "fill_hidden_channels", an_index_that_is_not_there)
    result = export_fused(fused_sample(), tmp_path / "net.onnx", OnnxOptions(simplify=False, weights="fp16"))
    assert "IndexError" in result.notes[0]
    assert all(agreement.passed for agreement in result.agreements)


def no_translation(*_given: object) -> ir.Model:
    raise IndexError("list index out of range")


@pytest.mark.slow
def test_a_translation_that_stumbles_is_left_to_torch_with_a_note(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(convert, "translate_directly", no_translation)
    result = export(tmp_path / "net.onnx")
    assert result.notes[0].startswith("translated by torch.onnx, which takes some seconds more: IndexError: ")
    assert all(agreement.passed for agreement in result.agreements)


@pytest.mark.slow
def test_a_translation_that_fails_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(convert, "translate_directly", no_translation)
    monkeypatch.setattr(torch_exporter, "translate_by_torch", no_translation)
    with pytest.raises(ExportError, match=r"^The file cannot be made: IndexError: .*; please report this"):
        export(tmp_path / "net.onnx")
    assert contents(tmp_path) == {}


def test_an_original_in_training_mode_is_run_in_evaluation(tmp_path: Path) -> None:
    network = copy.deepcopy(small()[1]).train()
    before = copy.deepcopy(network.state_dict())
    export(tmp_path / "net.onnx", network)
    assert network.training
    assert all(value.equal(before[name]) for name, value in network.state_dict().items())


class Nan(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.full((len(x), 10), float("nan"))


def test_an_original_that_computes_nan_is_never_matched(tmp_path: Path) -> None:
    with pytest.raises(ParityError):
        export(tmp_path / "net.onnx", Nan())
    assert contents(tmp_path) == {}


@pytest.mark.slow
def test_an_existing_output_is_replaced_by_a_verified_one(tmp_path: Path) -> None:
    (tmp_path / "net.onnx").write_bytes(b"the model of last week")
    export(tmp_path / "net.onnx")
    assert list(contents(tmp_path)) == ["net.onnx"]
    onnx.checker.check_model(tmp_path / "net.onnx")


@pytest.mark.parametrize("link", [False, True])
def test_an_output_that_is_an_input_is_refused(tmp_path: Path, link: bool) -> None:
    source = tmp_path / "ckpt.pt"
    source.write_bytes(b"weights")
    output = source
    if link:
        output = tmp_path / "out.onnx"
        output.symlink_to(source)
    with pytest.raises(UsageError, match="is the input itself; choose another name with `output`"):
        export(output, inputs=(source,))
    assert source.read_bytes() == b"weights"


@pytest.mark.parametrize("output", ["missing/net.onnx", "."])
def test_an_output_that_cannot_be_is_refused_before_any_work(tmp_path: Path, output: str) -> None:
    heard = Recorded()
    with pytest.raises(UsageError, match="folder"):
        export(tmp_path / output, listener=heard)
    assert heard.steps == []
    assert contents(tmp_path) == {}


@pytest.mark.skipif(not Path(os.devnull).is_char_device(), reason="no device files on this system")
def test_a_device_is_never_replaced() -> None:
    with pytest.raises(UsageError, match="is a device"):
        export(Path(os.devnull))
    assert Path(os.devnull).is_char_device()


def test_a_full_disk_leaves_one_sentence_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def write_half(model: onnx.ModelProto, path: Path, external: bool) -> None:
        path.write_bytes(model.SerializeToString()[:1000])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(onnx_export, "save", write_half)
    (tmp_path / "net.onnx").write_bytes(b"the model of last week")
    with pytest.raises(KdnaError) as raised:
        export(tmp_path / "net.onnx")
    assert str(raised.value) == (
        f"'{tmp_path / 'net.onnx'}' could not be written: No space left on device; make room there, or choose another "
        "place."
    )
    assert contents(tmp_path) == {"net.onnx": b"the model of last week"}
