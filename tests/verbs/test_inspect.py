"""`inspect` of files: what each kind says of itself, and what is no file or no word for one."""

from __future__ import annotations

import importlib.util
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

import kdna_deploy as kd
from kdna_deploy.files import file_sha256
from kdna_deploy.graph.file import save_fused
from kdna_deploy.runtimes.nvidia.engine_record import record_path
from kdna_deploy.runtimes.ort import OrtSession
from kdna_deploy.targets.inspect_file import inspect_file
from kdna_deploy.targets.onnx.export import export_fused
from kdna_deploy.targets.onnx.options import OnnxOptions
from kdna_deploy.targets.onnx.prepare import prepare_onnx
from kdna_deploy.verbs.fuse import FusedNetwork
from tests.runtimes.nvidia.test_engine_record import CONTENT, RECORD
from tests.samples import RESNET, fused_sample, sample_path
from tests.targets.onnx.int8.quantised import chain

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("fused_once")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with its checkpoint's children shared, and what is made of it."""
    folder = tmp_path_factory.mktemp("inspected")
    shared = fused_sample(RESNET, "share")
    export_fused(shared, folder / "net.onnx", OnnxOptions(simplify=False, batch=2))
    prepare_onnx(folder / "net.onnx", folder / "net.prepared.onnx")
    save_fused(shared.graph, shared.provenance, folder / "net.fused.pt2")
    (folder / "net.engine").write_bytes(CONTENT)
    made = replace(RECORD, provenance=shared.provenance)
    record_path(folder / "net.engine").write_text(made.to_json())
    if importlib.util.find_spec("openvino"):
        kd.export(FusedNetwork(shared), folder / "net.xml", openvino=True, simplify=False)
    return folder


def in_one_line(shown: object) -> str:
    return " ".join(str(shown).split())


@pytest.mark.parametrize("name", ["net.onnx", "net.prepared.onnx", "net.fused.pt2", "net.engine", "net.xml"])
def test_every_kind_of_file_says_what_it_was_made_of(name: str, folder: Path) -> None:
    if not (folder / name).exists():
        pytest.skip("OpenVINO is not installed")
    done = kd.inspect(folder / name)
    made = fused_sample(RESNET, "share").provenance
    text = in_one_line(done)
    for said in (
        f"checkpoint {sample_path(RESNET).name}, SHA-256 {made.source_sha256}",
        "network resnet18 layout layer3: FS-SF-SF layout layer4: FS-SF-SF ",
        "parameters 552,048 trained",
        "children share",
        f"torch {made.versions['torch']}",
        "images 3×64×64",
        "layer4.conv2 layer4.bns.0, layer4.bns.1",  # parent and children
    ):
        assert said in text, said
    document = json.loads(json.dumps(done.to_dict()))
    assert (document["kind"], document["file"]) == ("inspect", str(folder / name))
    assert document["provenance"]["source_sha256"] == made.source_sha256
    assert document["ledger"][0]["kernels"] == 30


def test_an_onnx_file_says_what_it_takes_returns_and_stores(folder: Path) -> None:
    found = inspect_file(folder / "net.onnx")
    text = in_one_line(kd.inspect(folder / "net.onnx"))
    assert "takes input: float32 [2, 3, 64, 64] returns logits: float32 [2, 10]" in text
    assert found.graph is not None
    assert found.graph.cost.macs == fused_sample(RESNET).provenance.macs
    assert found.graph.nodes["Conv"] == 36
    assert (found.bytes, found.beside) == ((folder / "net.onnx").stat().st_size, ())
    # Thirty kernels for thirty-six convolutions, as in the checkpoint.
    assert [(row.kernels, row.convolutions) for row in found.storage] == [(30, 36), (30, 36)]


def test_a_prepared_file_says_what_it_is_for_and_counts_what_lies_beside_it(folder: Path) -> None:
    found = inspect_file(folder / "net.prepared.onnx")
    assert found.prepared is not None
    assert f"prepared for {found.prepared.made_for} prepared from net.onnx" in in_one_line(kd.inspect(found.path))
    (weights,) = found.beside
    assert found.bytes == found.path.stat().st_size + weights.stat().st_size
    assert [(row.kernels, row.convolutions) for row in found.storage] == [(30, 36), (36, 36)]  # multiplied out


def test_an_engine_says_what_it_was_built_by_and_for(folder: Path) -> None:
    text = in_one_line(kd.inspect(folder / "net.engine"))
    assert "built by TensorRT-RTX 1.7.1.116, of net.onnx for compute capability 8.6, 8.9 precision fp16" in text


def test_a_file_of_somebody_else_says_what_its_graph_does(tmp_path: Path) -> None:
    kernel = {"a": np.ones((32, 32, 3, 3), np.float32)}
    onnx.save_model(chain(kernel), tmp_path / "theirs.onnx")
    text = in_one_line(kd.inspect(tmp_path / "theirs.onnx"))
    assert "made of not recorded: kdna-deploy did not write it takes " in text
    assert " MACs " in text and "ONNX file 1 1 " in text


@pytest.mark.parametrize("place", [None, "below/all.bin"])
def test_weights_of_somebody_else_may_lie_in_several_files_or_in_a_folder(tmp_path: Path, place: str | None) -> None:
    (tmp_path / "below").mkdir()
    path, kernels = tmp_path / "theirs.onnx", {name: np.ones((32, 32, 3, 3), np.float32) for name in ("a", "b")}
    onnx.save_model(
        *(chain(kernels), path),
        save_as_external_data=True,
        all_tensors_to_one_file=place is not None,
        location=place,
        size_threshold=1024,
    )
    OrtSession(path).close()
    found, names = inspect_file(path), [place] if place else ["a.weight", "b.weight"]
    assert found.beside == tuple(tmp_path / name for name in names)
    assert found.bytes == path.stat().st_size + 2 * 4 * 32 * 32 * 9
    assert f"with {', '.join(names)} beside it)" in in_one_line(kd.inspect(path))
    found.beside[-1].unlink()
    with pytest.raises(kd.InputError, match="are not in its folder; keep all of its files together"):
        inspect_file(path)


def test_weights_elsewhere_are_refused(tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    path, model = tmp_path / "inner" / "theirs.onnx", chain({"a": np.ones((32, 32, 3, 3), np.float32)})
    onnx.external_data_helper.convert_model_to_external_data(model, location="../out.bin")
    path.write_bytes(model.SerializeToString())
    (tmp_path / "out.bin").write_bytes(bytes(1 << 16))
    with pytest.raises(kd.InputError, match="are not in its folder"):
        inspect_file(path)


def test_checkpoints_modules_and_what_verbs_return_are_inspected_as_well(folder: Path) -> None:
    loaded = kd.load(sample_path(RESNET), input_size=64)
    counts = {one.to_dict()["macs"] for one in (kd.inspect(loaded), kd.inspect(sample_path(RESNET), input_size=64))}
    assert counts == {fused_sample(RESNET).provenance.macs}
    written = FusedNetwork(fused_sample(RESNET, "share"), folder / "net.fused.pt2")
    assert kd.inspect(written).to_dict()["format"] == "fused"


def test_what_is_said_of_a_loaded_network_is_heard_or_refused() -> None:
    loaded = kd.load(sample_path(RESNET), input_size=96)
    assert kd.inspect(loaded, input_size=64).to_dict()["macs"] == fused_sample(RESNET).provenance.macs
    for words in ({"arch": "resnet50"}, {"layout": "FS-FSF"}, {"model": "mine:build"}, {"ema": True}):
        with pytest.raises(kd.UsageError, match="this network is loaded already"):
            kd.inspect(loaded, **words)


def test_nothing_is_changed_and_what_says_how_to_load_a_checkpoint_is_refused(folder: Path) -> None:
    before = file_sha256(folder / "net.onnx")
    with pytest.raises(kd.UsageError, match=r"say how to load a checkpoint, and '.*net\.onnx' is none"):
        kd.inspect(folder / "net.onnx", input_size=64)
    with pytest.raises(kd.InputError, match="There is no file"):
        kd.inspect(folder / "absent.onnx")
    assert file_sha256(folder / "net.onnx") == before
