"""`bench` on real files: which rows there are, and what is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import psutil
import pytest

from kdna_deploy.benchmark.affinity import pinned
from kdna_deploy.benchmark.latency import LatencySettings
from kdna_deploy.benchmark.run import BenchOptions, BenchResult, bench
from kdna_deploy.cost import count
from kdna_deploy.errors import ArtifactError, UsageError
from kdna_deploy.onnx.cost import count_onnx
from kdna_deploy.provenance import KEY
from kdna_deploy.reports.data import bench_data
from tests.samples import RESNET, export_sample, fused_sample

ROUNDS = 5
SHORT = LatencySettings(iterations=ROUNDS, min_time=0.0)
PLAIN = "resnet18_plain 64×64"


def with_metadata(source: Path, target: Path, value: str | None) -> Path:
    """A copy of an ONNX file with other provenance, or with none."""
    model = onnx.load(source)
    del model.metadata_props[:]
    if value is not None:
        entry = model.metadata_props.add()
        entry.key, entry.value = KEY, value
    onnx.save_model(model, target)
    return target


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bench") / "net.onnx"
    export_sample(path, simplify=False)
    return path


@pytest.fixture(scope="module")
def beside_plain(net: Path) -> BenchResult:
    """The sample network, and the same one exported for smaller images, beside their plain backbones."""
    smaller = replace(fused_sample(RESNET).provenance, image_shape=(3, 32, 32))
    return bench(
        [net, with_metadata(net, net.with_name("small.onnx"), smaller.to_json())], BenchOptions(settings=SHORT)
    )


def test_every_model_stands_beside_a_plain_backbone_for_its_image_size(beside_plain: BenchResult) -> None:
    assert [(row.name, row.baseline) for row in beside_plain.rows] == [
        (PLAIN, None),
        ("net.onnx", PLAIN),
        ("resnet18_plain 32×32", None),
        ("small.onnx", "resnet18_plain 32×32"),
    ]


def test_the_ratio_is_that_of_the_medians(beside_plain: BenchResult) -> None:
    plain, model, *_ = beside_plain.rows
    assert plain.ratio is None
    assert model.ratio is not None
    assert model.ratio.value == pytest.approx(model.latency.median / plain.latency.median)
    assert model.ratio.low <= model.ratio.value <= model.ratio.high


def test_rows_give_trained_parameters_macs_and_the_size_of_the_file(net: Path, beside_plain: BenchResult) -> None:
    plain, model, smaller_plain, _ = beside_plain.rows
    network = fused_sample(RESNET).network
    assert model.parameters == sum(p.numel() for p in network.module.parameters())
    assert model.macs == count_onnx(net).macs == fused_sample(RESNET).provenance.macs
    assert model.file_bytes == net.stat().st_size
    assert network.architecture is not None
    backbone = network.architecture.plain.build()
    assert plain.parameters == sum(p.numel() for p in backbone.parameters())
    assert plain.macs == count(backbone, (3, 64, 64)).macs
    assert smaller_plain.macs == count(backbone, (3, 32, 32)).macs


def test_every_round_leaves_a_sample_of_every_row(beside_plain: BenchResult) -> None:
    for row in beside_plain.rows:
        assert len(row.samples) == ROUNDS
        assert row.latency.median == np.median(row.samples)
        assert row.samples.min() > 0


def test_the_json_document_holds_samples_and_environment(beside_plain: BenchResult) -> None:
    document = json.loads(json.dumps(bench_data(beside_plain), allow_nan=False))
    assert document["schema_version"] == 1
    assert document["kind"] == "bench"
    assert [len(row["samples_ms"]) for row in document["rows"]] == [ROUNDS] * 4
    assert document["rows"][0]["ratio"] is None
    assert document["rows"][1]["ratio"].keys() == {"value", "low", "high"}
    assert document["options"]["iterations"] == ROUNDS
    assert document["environment"]["versions"]["onnxruntime"]
    assert document["cores"] == list(beside_plain.cores)


def test_a_named_baseline_takes_the_place_of_the_plain_backbone(net: Path, tmp_path: Path) -> None:
    other = with_metadata(net, tmp_path / "other.onnx", None)
    steps: list[str] = []
    result = bench([net], BenchOptions(baseline=other, settings=SHORT), steps.append)
    assert [(row.name, row.baseline) for row in result.rows] == [("other.onnx", None), ("net.onnx", "other.onnx")]
    assert steps == ["measure"]


def test_a_foreign_file_needs_a_baseline_and_is_measured_with_one(net: Path, tmp_path: Path) -> None:
    foreign = with_metadata(net, tmp_path / "foreign.onnx", None)
    with pytest.raises(UsageError, match=r"foreign\.onnx' was not exported by kdna-deploy; .*--baseline FILE"):
        bench([foreign], BenchOptions(settings=SHORT))
    result = bench([foreign], BenchOptions(baseline=net, settings=SHORT))
    assert result.rows[1].parameters == count_onnx(foreign).stored
    assert result.rows[1].ratio is not None


def test_the_plain_backbone_of_a_users_own_model_is_not_guessed(net: Path, tmp_path: Path) -> None:
    own = replace(fused_sample(RESNET).provenance, architecture=None, factory="mine:build")
    path = with_metadata(net, tmp_path / "own.onnx", own.to_json())
    with pytest.raises(UsageError, match=r"plain backbone of mine:build is not known; .*--baseline FILE"):
        bench([path], BenchOptions(settings=SHORT))


def test_a_file_measured_against_itself_has_two_rows(net: Path) -> None:
    result = bench([net, net], BenchOptions(baseline=net, settings=SHORT))
    names = [row.name for row in result.rows]
    assert names[0] == "net.onnx"
    assert len(set(names)) == 3
    assert [row.baseline for row in result.rows] == [None, "net.onnx", "net.onnx"]


def test_a_fixed_batch_must_be_asked_for_and_is_measured_when_it_is(tmp_path: Path) -> None:
    path = tmp_path / "four.onnx"
    export_sample(path, batch=4, simplify=False)
    steps: list[str] = []
    with pytest.raises(UsageError, match=r"four\.onnx' takes batches of 4 alone; add --batch-size 4"):
        bench([path], BenchOptions(settings=SHORT), steps.append)
    assert steps == []  # nothing was exported for it
    result = bench([path], BenchOptions(batch=4, settings=SHORT))
    assert [row.name for row in result.rows] == [PLAIN, "four.onnx"]
    assert result.rows[1].macs == fused_sample(RESNET).provenance.macs  # of one image


@pytest.mark.parametrize(("name", "content"), [("missing.onnx", None), ("text.onnx", b"text"), ("net.pt", b"")])
def test_what_is_no_onnx_file_is_refused(tmp_path: Path, name: str, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ArtifactError, match=name):
        bench([tmp_path / name], BenchOptions(settings=SHORT))


@pytest.mark.skipif(not hasattr(psutil.Process, "cpu_affinity"), reason="no pinning on this system")
def test_pinning_takes_as_many_cores_as_threads_and_gives_them_back() -> None:
    process = psutil.Process()
    before = process.cpu_affinity()
    with pinned(1) as cores:
        assert len(cores) == 1
        assert process.cpu_affinity() == list(cores)
    assert process.cpu_affinity() == before


@pytest.mark.skipif(not hasattr(psutil.Process, "cpu_affinity"), reason="no pinning on this system")
def test_more_threads_than_cores_are_refused() -> None:
    cores = len(psutil.Process().cpu_affinity())
    with pytest.raises(UsageError, match=f"--cpu-threads {cores + 1} asks for more"), pinned(cores + 1):
        pass
