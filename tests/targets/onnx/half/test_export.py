"""Half precision, in the graph and in storage: size, agreement, and what stays in float32."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from kdna_deploy.errors import ExportError, InputError, UsageError
from kdna_deploy.evaluation.verify import verify_files
from kdna_deploy.graph.provenance import KEY
from kdna_deploy.reports.export import onnx_report
from kdna_deploy.reports.half import half_report
from kdna_deploy.targets.onnx.export import OnnxExport, export_fused
from kdna_deploy.targets.onnx.half.export import HalfExport, HalfOptions, export_half
from kdna_deploy.targets.onnx.ledger import optimised_model
from kdna_deploy.targets.onnx.options import OnnxOptions
from kdna_deploy.targets.source import FusedSource, Request, open_fused_source
from tests.conftest import Cli
from tests.samples import RESNET, SIZE, fused_sample, sample_path
from tests.targets.onnx.int8.quantised import operators

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("float_files_once")]

FOR_GPUS = OnnxOptions(target="tensorrt")


def recorded(path: Path) -> dict[str, Any]:
    metadata = {entry.key: entry.value for entry in onnx.load(path).metadata_props}
    return json.loads(metadata[KEY])["options"]


@pytest.fixture(scope="module")
def half(tmp_path_factory: pytest.TempPathFactory) -> HalfExport:
    return export_half(fused_sample(), tmp_path_factory.mktemp("half") / "net.onnx", FOR_GPUS)


def test_the_file_is_half_as_large_and_agrees_with_the_network_as_half_precision_does(half: HalfExport) -> None:
    assert half.bytes / half.float_export.bytes == pytest.approx(0.5, abs=0.01)
    assert [a.batch for a in half.agreements] == [1, 2, 5, 1, 3]  # no strong images: they need not fit a half
    for agreement in half.agreements:
        assert agreement.passed
        # Rounded once a layer, the errors add up like random ones: at most a few units of 2⁻¹¹.
        assert agreement.max_difference <= 4 * 2.0**-11 * agreement.scale


def test_a_network_that_fits_is_in_half_but_for_its_ends(half: HalfExport) -> None:
    assert dict(half.audit.keep_float) == {}
    model = onnx.load(half.path)
    assert operators(model)["Cast"] == 2
    ends = {v.type.tensor_type.elem_type for v in (*model.graph.input, *model.graph.output)}
    assert ends == {onnx.TensorProto.FLOAT}
    assert recorded(half.path)["precision"] == "fp16"
    assert recorded(half.path)["fp16"] == {"kept_float": [], "half_io": False}


def test_verify_knows_the_tolerance_of_half_precision(half: HalfExport) -> None:
    source = sample_path(RESNET)
    assert verify_files(half.path, source, None).passed
    assert not verify_files(half.path, source, None, rtol=1e-5).passed


def test_every_parent_is_audited_with_its_children(half: HalfExport) -> None:
    shared = {p.name: p for p in fused_sample().provenance.shared_kernels}
    audited = {one.kernel: one for one in half.audit.kernels}
    assert shared.keys() < audited.keys()
    for name, parent in shared.items():
        assert set(audited[name].layers) == {*parent.children, *([parent.layer] if parent.layer else [])}
    document = half_report(half).data
    assert (document["precision"], document["kept_float"]) == ("fp16", {})
    assert {kernel["kernel"] for kernel in document["kernels"]} == audited.keys()
    json.dumps(document, allow_nan=False)


def test_shared_children_are_audited_and_smaller(half: HalfExport, tmp_path: Path) -> None:
    shared = fused_sample(RESNET, "share")
    small = export_half(shared, tmp_path / "net.onnx", OnnxOptions(target="any"))
    assert small.bytes < 0.8 * half.bytes
    layers = [{one.kernel: sorted(one.layers) for one in export.audit.kernels} for export in (half, small)]
    assert layers[0] == layers[1]


def test_the_ends_may_be_half_too(tmp_path: Path) -> None:
    done = export_half(fused_sample(), tmp_path / "net.onnx", FOR_GPUS, HalfOptions(half_io=True))
    model = onnx.load(done.path)
    ends = {v.type.tensor_type.elem_type for v in (*model.graph.input, *model.graph.output)}
    assert ends == {onnx.TensorProto.FLOAT16}
    assert operators(model)["Cast"] == 0
    assert all(agreement.passed for agreement in done.agreements)


def with_outlier(folder: Path) -> tuple[FusedSource, str]:
    """The ResNet sample with one child's BatchNorm scale a million times as large; that child."""
    child = fused_sample().provenance.shared_kernels[-1].children[-1]
    content = torch.load(sample_path(RESNET), weights_only=True)
    (key,) = [key for key in content["state_dict"] if key.removeprefix("module.") == f"{child}.weight"]
    # Stored in half precision, which could not hold it.
    content["state_dict"][key] = 1e6 * content["state_dict"][key].float()
    torch.save(content, folder / "outlier.pt")
    return open_fused_source(folder / "outlier.pt", Request(size=SIZE)), child


def test_an_outlier_stays_in_float32_with_the_reason_and_the_file_still_agrees(tmp_path: Path) -> None:
    opened, child = with_outlier(tmp_path)
    done = export_half(opened, tmp_path / "net.onnx", FOR_GPUS)
    assert all(agreement.passed for agreement in done.agreements)
    assert done.audit.keep_float[f"{child}/Conv"].startswith("a weight of")
    parent = opened.provenance.shared_kernels[-1]
    (audited,) = [one for one in done.audit.kernels if one.kernel == parent.name]
    assert audited.overflowing == (child,)
    assert any("an activation of" in reason for reason in done.audit.keep_float.values())
    assert len(done.audit.keep_float) < len(onnx.load(done.path).graph.node) / 2
    assert recorded(done.path)["fp16"]["kept_float"] == sorted(done.audit.keep_float)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (OnnxOptions(), "`target='tensorrt'` or `'any'`"),
        (OnnxOptions(target="any", on_the_fly=True), "casts kernels once"),
    ],
)
def test_what_makes_no_sense_in_half_precision_is_refused(tmp_path: Path, options: OnnxOptions, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        export_half(fused_sample(), tmp_path / "net.onnx", options)
    assert list(tmp_path.iterdir()) == []


def test_too_few_images_to_see_activations_on_are_refused(tmp_path: Path) -> None:
    images = np.random.default_rng(0).standard_normal((3, 3, *SIZE)).astype(np.float32)
    with pytest.raises(InputError, match="3 calibration images are too few; give at least 8"):
        export_half(fused_sample(), tmp_path / "net.onnx", FOR_GPUS, HalfOptions(lambda: [images]))
    assert list(tmp_path.iterdir()) == []


def test_bloat_is_that_of_the_file_that_is_written(tmp_path: Path) -> None:
    """The float32 file that it is made from is 1.9 times the trained parameters, this one a little less than once."""
    done = export_half(fused_sample(), tmp_path / "net.onnx", OnnxOptions(target="tensorrt", max_bloat=1.1))
    assert done.path.exists()
    with pytest.raises(ExportError, match=r"`max_bloat=0\.5`"):
        export_half(fused_sample(), tmp_path / "small.onnx", OnnxOptions(target="tensorrt", max_bloat=0.5))
    assert [path.name for path in tmp_path.iterdir()] == ["net.onnx"]


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> tuple[OnnxExport, OnnxExport]:
    """The sample with weights in float32, and in half precision."""
    folder = tmp_path_factory.mktemp("stored")
    return (
        export_fused(fused_sample(), folder / "full.onnx", OnnxOptions()),
        export_fused(fused_sample(), folder / "half.onnx", OnnxOptions(weights="fp16")),
    )


def test_half_storage_halves_the_file_and_the_runtime_executes_the_same_operators(
    stored: tuple[OnnxExport, OnnxExport],
) -> None:
    full, half = stored
    assert 0.5 < half.bytes / full.bytes < 0.52
    assert operators(optimised_model(half.path)) == operators(optimised_model(full.path))
    assert operators(onnx.load(half.path))["Cast"] > 0


def test_half_storage_is_verified_at_its_own_tolerance(stored: tuple[OnnxExport, OnnxExport]) -> None:
    source = sample_path(RESNET)
    assert recorded(stored[1].path)["weights"] == "fp16"
    assert verify_files(stored[1].path, source, None).passed
    assert not verify_files(stored[1].path, source, None, rtol=1e-5).passed
    assert verify_files(stored[0].path, source, None, rtol=1e-4).passed
    # As the reference it widens the tolerance just as much.
    assert verify_files(stored[0].path, stored[1].path, None).passed


def test_the_change_of_the_weights_is_reported(stored: tuple[OnnxExport, OnnxExport]) -> None:
    report = stored[1].half_storage
    assert report is not None
    assert 0 < report.largest_change <= 2.0**-11
    assert report.overflowing == ()
    document = onnx_report(stored[1]).data
    assert document["half_storage"]["largest_change"] == report.largest_change
    assert onnx_report(stored[0]).data["half_storage"] is None


def test_shared_children_make_half_storage_smaller_still(stored: tuple[OnnxExport, OnnxExport], tmp_path: Path) -> None:
    shared = fused_sample(RESNET, "share")
    small = export_fused(shared, tmp_path / "net.onnx", OnnxOptions(weights="fp16"))
    assert small.bytes < 0.7 * stored[1].bytes
    assert small.storage[-1].kernels == small.storage[-1].convolutions  # multiplied at session start


def test_a_kernel_that_overflows_is_stored_in_float32(tmp_path: Path) -> None:
    opened, _ = with_outlier(tmp_path)
    done = export_fused(opened, tmp_path / "net.onnx", OnnxOptions(weights="fp16"))
    assert done.half_storage is not None
    (name,) = done.half_storage.overflowing
    kept = {t.name: t.data_type for t in onnx.load(done.path).graph.initializer}
    assert kept[name] == onnx.TensorProto.FLOAT


@pytest.mark.slow
def test_the_command_shows_what_half_storage_changed_and_what_fp16_kept(cli_here: Cli, tmp_path: Path) -> None:
    shown = cli_here("export", sample_path(RESNET), "--input-size", "64", "-o", "stored.onnx", "--weights", "fp16")
    assert shown.returncode == 0, shown.stderr
    assert "tensors in half precision, changed by up to" in shown.stdout
    cast = cli_here("export", sample_path(RESNET), "--input-size", "64", "-o", "fp16.onnx", "--precision", "fp16")
    assert cast.returncode == 0, cast.stderr
    assert "nothing: all weights and activations fit" in cast.stdout
    assert cli_here("verify", "fp16.onnx", "--against", sample_path(RESNET)).returncode == 0
    refused = cli_here("verify", "stored.onnx", "--against", sample_path(RESNET), "--rtol", "1e-5")
    assert refused.returncode == 1
    assert "Traceback" not in refused.stderr
