"""Files with weights in int8: what the samples lose, the proof of what is written, the guard, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from kdna_deploy.errors import ParityError, UsageError
from kdna_deploy.evaluation.verify import verify_files
from kdna_deploy.graph.provenance import KEY
from kdna_deploy.images.folder import Preprocessing
from kdna_deploy.images.split import split_images
from kdna_deploy.targets.bisect_file import bisect_file
from kdna_deploy.targets.onnx.export import OnnxOptions
from kdna_deploy.targets.onnx.int8 import storage_export
from kdna_deploy.targets.onnx.int8.export import Int8Export
from kdna_deploy.targets.onnx.int8.storage import Int8Storage, store_int8
from kdna_deploy.targets.onnx.int8.storage_export import StorageOptions, export_int8_weights
from kdna_deploy.targets.onnx.prepare import prepare_onnx
from tests.conftest import SAMPLES, Cli
from tests.samples import MOBILENET, RESNET, SIZE, fused_sample, sample_path

DIGITS = SAMPLES / "digits"


def digits() -> StorageOptions:
    return StorageOptions(split_images(DIGITS, DIGITS, (3, *SIZE), Preprocessing(), 10))


@pytest.fixture(scope="module", params=[RESNET, MOBILENET])
def stored(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Int8Export:
    path = tmp_path_factory.mktemp("stored") / f"{request.param}.onnx"
    return export_int8_weights(fused_sample(request.param, "share"), path, OnnxOptions(), digits())


@pytest.mark.slow
def test_the_samples_keep_their_accuracy(stored: Int8Export) -> None:
    """No image of fifty is lost, and 45 dB leave a share of 0.006 of the logits' size."""
    agreement = stored.evaluation.agreement
    assert agreement is not None
    assert (stored.labelled, stored.evaluation.images, stored.drop, agreement.same_top1) == (True, 50, 0.0, 1.0)
    assert agreement.sqnr > 44
    assert stored.kept_float == ()


@pytest.mark.slow
def test_the_file_says_what_it_is_and_verify_and_bisection_hold_it_to_that(stored: Int8Export) -> None:
    metadata = {entry.key: entry.value for entry in onnx.load(stored.path).metadata_props}
    options = json.loads(metadata[KEY])["options"]
    assert (options["weights"], options["int8"], options["children"]) == ("int8", {"kept_float": []}, "share")
    assert stored.storage.convolutions > stored.storage.kernels
    name = stored.path.stem
    assert verify_files(stored.path, sample_path(name), None).passed
    assert not verify_files(stored.path, sample_path(name), None, rtol=1e-4).passed
    assert bisect_file(stored.path, sample_path(name)).layer is None


@pytest.mark.slow
def test_prepared_it_holds_what_the_codes_stand_for(stored: Int8Export, tmp_path: Path) -> None:
    made = prepare_onnx(stored.path, tmp_path / "prepared.onnx")
    assert not made.record.int8 and made.bytes > 4 * made.source_bytes
    assert "weights stored in less than float32 are float32 in it" in made.notes[1]
    assert verify_files(made.path, stored.path, None).passed


@pytest.mark.slow
def test_without_images_random_ones_judge_and_a_note_says_so(tmp_path: Path) -> None:
    done = export_int8_weights(fused_sample(RESNET, "share"), tmp_path / "net.onnx", OnnxOptions(batch=4))
    assert (done.random, done.labelled, done.evaluation.images) == (True, False, 32)
    assert any("judged by random images" in note for note in done.notes)


@pytest.mark.slow
def test_a_file_that_is_not_what_its_codes_stand_for_is_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A code off by one in a thousand: far less than rounding to codes costs, and the accuracy stays the same."""

    def off_by_one(model: ir.Model, keep_float: tuple[str, ...]) -> Int8Storage:
        done = store_int8(model, keep_float)
        for value in model.graph.initializers.values():
            assert value.const_value is not None
            if value.name and value.name.endswith("_codes"):
                codes = value.const_value.numpy().copy()
                codes.flat[::1000] += 1
                value.const_value = ir.tensor(codes, name=value.name)
        return done

    monkeypatch.setattr(storage_export, "store_int8", off_by_one)
    with pytest.raises(
        ParityError, match=r"codes departs from the float32 file with rounded weights: .*`weights='fp16'`"
    ):
        export_int8_weights(fused_sample(RESNET, "share"), tmp_path / "net.onnx", OnnxOptions(), digits())
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_sensitive_layers_keep_float32_weights_until_the_limit_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One kernel loses its signs, which no image survives; it is found, by the first layer that reads it."""
    bad = "layer4.bns.0/Conv"

    def coarse(model: ir.Model, keep_float: tuple[str, ...]) -> Int8Storage:
        done = store_int8(model, keep_float)
        codes = next((v for n, v in model.graph.initializers.items() if n == "layer4.conv2.weight_codes"), None)
        if codes is not None and codes.const_value is not None:
            codes.const_value = ir.tensor(np.full(codes.const_value.shape, 127, np.int8), name=codes.name)
        return done

    monkeypatch.setattr(storage_export, "store_int8", coarse)
    options = StorageOptions(digits().images, max_drop=0.3)
    done = export_int8_weights(fused_sample(RESNET, "share"), tmp_path / "net.onnx", OnnxOptions(), options)
    assert done.kept_float == (bad,)
    assert (done.sensitivities[0].layer, done.drop) == (bad, 0.0)


@pytest.mark.slow
@pytest.mark.parametrize("options", [OnnxOptions(target="tensorrt"), OnnxOptions(on_the_fly=True)])
def test_what_would_not_fold_the_codes_is_refused(tmp_path: Path, options: OnnxOptions) -> None:
    with pytest.raises(UsageError, match="weights='int8'"):
        export_int8_weights(fused_sample(RESNET, "share"), tmp_path / "net.onnx", options)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_the_command_writes_it_and_says_what_it_costs(cli: Cli) -> None:
    asked = ("--weights", "int8", "--calibration", DIGITS, "--max-drop", "0.3", "--input-size", "64")
    done = cli("export", sample_path(RESNET), "--children", "share", *asked, "-o", "net.onnx", "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert (told["precision"], told["weights"], told["drop_points"], told["held_out_images"]) == ("fp32", "int8", 0, 10)
    assert told["kernels"]["convolutions"] - told["kernels"]["kernels"] == 6
