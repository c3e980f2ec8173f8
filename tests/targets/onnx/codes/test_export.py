"""Files with weights in int8 and int4: what the samples lose, the proof of what is written, the guard, refusals."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from onnx import numpy_helper

import kdna_deploy as kd
from kdna_deploy.cli.app import run
from kdna_deploy.errors import ParityError, UsageError
from kdna_deploy.evaluation.verify import verify_files
from kdna_deploy.graph.provenance import KEY
from kdna_deploy.images.folder import Preprocessing
from kdna_deploy.images.split import split_images
from kdna_deploy.precision import CODES, Codes
from kdna_deploy.reports.guarded import guarded_report
from kdna_deploy.targets.bisect_file import bisect_file
from kdna_deploy.targets.onnx.codes import export as codes_export
from kdna_deploy.targets.onnx.codes.export import CodesExport, StorageOptions, export_codes
from kdna_deploy.targets.onnx.codes.store import StoredCodes, store_codes
from kdna_deploy.targets.onnx.export import export_fused
from kdna_deploy.targets.onnx.options import OnnxOptions
from kdna_deploy.targets.onnx.prepare import prepare_onnx
from kdna_deploy.targets.source import FusedSource
from tests.conftest import SAMPLES
from tests.gated import Gated
from tests.samples import MOBILENET, RESNET, SIZE, fused_sample, sample_path

pytestmark = pytest.mark.usefixtures("float_files_once")

DIGITS = SAMPLES / "digits"


def digits() -> StorageOptions:
    return StorageOptions(split_images(DIGITS, DIGITS, (3, *SIZE), Preprocessing(), 10))


@dataclass(frozen=True)
class Case:
    """A sample in codes, and how far that may move its logits: decibels, and share of the trained parameters."""

    sample: str
    weights: Codes
    sqnr: float
    bytes: float
    same: float = 1.0

    def __str__(self) -> str:
        return f"{self.sample} {self.weights}"


CASES = (
    Case(RESNET, "int8", 44, 0.28),
    Case(MOBILENET, "int8", 44, 0.31),
    Case(RESNET, "int4", 26, 0.17),
    Case(MOBILENET, "int4", 19, 0.21, same=0.98),
)


BISECTED = CASES[::2]


@pytest.fixture(scope="module")
def small() -> FusedSource:
    """A parent of 2,304 numbers with two children, which answers random images with more than one class."""
    torch.manual_seed(1)
    return kd.fuse(kd.load(Gated(16).eval(), input_size=12), children="share").source


@pytest.fixture(scope="module", params=CASES, ids=str)
def stored(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Case, CodesExport]:
    case = request.param
    path = tmp_path_factory.mktemp("stored") / f"{case.sample}.onnx"
    return case, export_codes(fused_sample(case.sample, "share"), path, OnnxOptions(weights=case.weights), digits())


@pytest.mark.slow
def test_the_samples_keep_their_accuracy(stored: tuple[Case, CodesExport]) -> None:
    """No image of fifty is lost; 45 dB leave a share of 0.006 of the logits' size, 20 dB a tenth."""
    case, done = stored
    agreement = done.evaluation.agreement
    assert agreement is not None
    assert (done.labelled, done.evaluation.images, done.kept_float) == (True, 50, ())
    assert done.drop <= 100 * (1 - case.same) and agreement.same_top1 >= case.same
    assert agreement.sqnr > case.sqnr
    assert done.bytes <= case.bytes * 4 * fused_sample(case.sample, "share").provenance.parameters


@pytest.mark.slow
def test_the_file_says_what_it_is_and_verify_holds_it_to_that(stored: tuple[Case, CodesExport]) -> None:
    case, done = stored
    metadata = {entry.key: entry.value for entry in onnx.load(done.path).metadata_props}
    options = json.loads(metadata[KEY])["options"]
    told = (options["weights"], options[case.weights], options["children"])
    assert told == (case.weights, {"kept_float": []}, "share")
    assert done.storage.convolutions > done.storage.kernels
    assert verify_files(done.path, sample_path(case.sample), None).passed


@pytest.mark.slow
def test_verify_and_bisection_notice_a_kernel_with_its_filters_in_another_order(
    stored: tuple[Case, CodesExport], tmp_path: Path
) -> None:
    case, done = stored
    made, path = onnx.load(done.path), tmp_path / "net.onnx"
    largest = max(made.graph.initializer, key=lambda tensor: math.prod(tensor.dims))
    largest.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(largest)[::-1], largest.name))
    onnx.save(made, path)
    assert not verify_files(path, sample_path(case.sample), None).passed
    if case in BISECTED:
        found = bisect_file(path, sample_path(case.sample))
        assert (found.parent, found.stage[:8]) == ("layer4.conv2.weight", "the file")


@pytest.mark.slow
def test_prepared_it_holds_what_the_codes_stand_for(stored: tuple[Case, CodesExport], tmp_path: Path) -> None:
    _, done = stored
    made = prepare_onnx(done.path, tmp_path / "prepared.onnx")
    assert not made.record.int8 and made.bytes > 4 * made.source_bytes
    assert "weights stored in less than float32 are float32 in it" in made.notes[1]
    assert verify_files(made.path, done.path, None).passed


@pytest.mark.slow
def test_without_images_random_ones_judge_and_a_note_says_so(tmp_path: Path, small: FusedSource) -> None:
    options = OnnxOptions(batch=4, weights="int8")
    done = export_codes(small, tmp_path / "net.onnx", options)
    assert (done.random, done.labelled, done.evaluation.images) == (True, False, 32)
    assert any("judged by random images" in note for note in done.notes)


@pytest.mark.slow
@pytest.mark.parametrize("weights", CODES)
def test_a_file_that_is_not_what_its_codes_stand_for_is_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small: FusedSource, weights: Codes
) -> None:
    """A code off by one in a hundred: far less than rounding to codes costs."""

    def off_by_one(model: ir.Model, codes: Codes, keep_float: tuple[str, ...]) -> StoredCodes:
        done = store_codes(model, codes, keep_float)
        for value in model.graph.initializers.values():
            assert value.const_value is not None
            if value.name and value.name.endswith("_codes"):
                changed = value.const_value.numpy().copy()
                changed.flat[::100] += 1
                value.const_value = ir.tensor(changed, name=value.name)
        return done

    monkeypatch.setattr(codes_export, "store_codes", off_by_one)
    with pytest.raises(
        ParityError, match=f"{weights} codes departs from the float32 file with rounded weights: .*`weights='fp16'`"
    ):
        export_codes(small, tmp_path / "net.onnx", OnnxOptions(weights=weights))
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_sensitive_layers_keep_float32_weights_until_the_limit_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small: FusedSource
) -> None:
    """One kernel loses its signs; it is found, by the first layer that reads it."""

    def coarse(model: ir.Model, codes: Codes, keep_float: tuple[str, ...]) -> StoredCodes:
        done = store_codes(model, codes, keep_float)
        found = next((v for n, v in model.graph.initializers.items() if n == "parent.weight_codes"), None)
        if found is not None and found.const_value is not None:
            found.const_value = ir.tensor(np.full(found.const_value.shape, 255, np.uint8), name=found.name)
        return done

    monkeypatch.setattr(codes_export, "store_codes", coarse)
    done = export_codes(small, tmp_path / "net.onnx", OnnxOptions(weights="int4"), StorageOptions(max_drop=10))
    assert (done.kept_float, done.drop) == (("bns.0/Conv",), 0.0)
    assert (done.sensitivities[0].layer, done.sensitivities[0].parent) == ("bns.0/Conv", "parent.weight")


@pytest.mark.parametrize("codes", CODES)
def test_what_would_not_fold_the_codes_is_refused(codes: Codes) -> None:
    with pytest.raises(UsageError, match="`precision='fp16'` or `'int8'`"):
        OnnxOptions(target="tensorrt", weights=codes)
    with pytest.raises(UsageError, match=f"weights='{codes}'"):
        OnnxOptions(on_the_fly=True, weights=codes)


def test_codes_are_not_written_unjudged(tmp_path: Path, small: FusedSource) -> None:
    with pytest.raises(UsageError, match="judged by images"):
        export_fused(small, tmp_path / "net.onnx", OnnxOptions(weights="int4"))
    with pytest.raises(UsageError, match="choose `weights='int8'`"):
        export_codes(small, tmp_path / "net.onnx", OnnxOptions())
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_the_command_writes_it_and_says_what_it_costs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    asked = ("--weights", "int4", "--calibration", str(DIGITS), "--max-drop", "0.3", "--input-size", "64")
    assert run(["export", str(sample_path(RESNET)), "--children", "share", *asked, "-o", "net.onnx", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["precision"], told["weights"], told["drop_points"], told["held_out_images"]) == ("fp32", "int4", 0, 10)
    assert told["kernels"]["convolutions"] - told["kernels"]["kernels"] == 6


@pytest.mark.slow
def test_the_report_says_how_many_kernels_have_codes_of_8_bits(stored: tuple[Case, CodesExport]) -> None:
    case, done = stored
    text = "\n".join(value for _, value in guarded_report(done).parts[0].rows)
    assert guarded_report(done).parts[0].title == f"{case.weights} weights, computed with in float32"
    assert (f", {done.stored.wide} of them of 8 bits, changed by up to" in text) is (case.weights == "int4")
