"""Suites: which networks they build, what the paper prints of them, and a run of one on small images."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import pytest

from kdna_deploy.benchmark import suites
from kdna_deploy.benchmark.cpu import roofline
from kdna_deploy.benchmark.cpu.device import Cpu
from kdna_deploy.benchmark.device import BenchOptions, Candidate, Variant
from kdna_deploy.benchmark.paper import TABLE1, TABLE3, Printed
from kdna_deploy.benchmark.protocol import Settings
from kdna_deploy.benchmark.run import bench_suite
from kdna_deploy.benchmark.subject import Subject
from kdna_deploy.benchmark.suites import Suite, build_suite
from kdna_deploy.errors import UsageError
from kdna_deploy.network.families import ARCHITECTURES
from kdna_deploy.network.families.resnet import ResNetSpec
from kdna_deploy.progress import Listener
from kdna_deploy.reports.bench_data import bench_data
from kdna_deploy.reports.bench_tables import bench_cells
from kdna_deploy.runtimes.table import runtimes_on
from tests.conftest import REPOSITORY

pytestmark = pytest.mark.usefixtures("fused_once")

PAPER = REPOSITORY / "tests" / "data" / "paper"
# Counted, and printed: 0.1048 G is rounded up, and the reconstruction of ConvNeXt has the printed parameters alone.
PRINTED_OTHERWISE = {"mobilenet_v2_1d2": (0.10, 0.11), "convnext_tiny": (4.47, 4.51)}
PAIRS = [
    (name.removesuffix("_plain") + "_plain", name.removesuffix("_plain")) for name in TABLE1 if "plain" not in name
]


def rows(name: str) -> list[dict[str, str]]:
    with (PAPER / name).open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_table_1_is_as_printed() -> None:
    suffixes = {"plain": "_plain", "kerneldna": ""}
    printed = {
        row["backbone"] + suffixes[row["method"]]: Printed(
            float(row["params_m"]), float(row["flops_g"]), float(row["gpu_fps"]), float(row["cpu_ms"])
        )
        for row in rows("table1_imagenet.csv")
        if row["method"] in suffixes and row["backbone"] in ARCHITECTURES
    }
    assert printed == TABLE1
    assert {name for name in TABLE1 if not name.endswith("_plain")} == {
        name for name, entry in ARCHITECTURES.items() if entry.sharing
    }


def test_table_3_is_as_printed() -> None:
    printed = {
        row["layout"]: Printed(float(row["params_m"]), None, float(row["gpu_fps"]), None)
        for row in rows("table3_layouts_resnet18.csv")
    }
    assert list(printed.items()) == list(TABLE3.items())  # the plain backbone first


def built(name: str, folder: Path, options: BenchOptions | None = None) -> Suite:
    """A suite whose candidates are not tried, for that exports every network at 224×224."""

    def untried(
        subject: Subject, variant: Variant, chosen: BenchOptions, listener: Listener, labelled: bool = False
    ) -> Candidate:
        return Candidate(subject.name, subject, variant)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(suites, "candidate", untried)
        return build_suite(name, options or BenchOptions(Cpu()), folder)


@pytest.fixture(scope="module")
def table1(tmp_path_factory: pytest.TempPathFactory) -> Suite:
    return built("table1", tmp_path_factory.mktemp("table1"))


@pytest.mark.slow
def test_table_1_puts_every_architecture_beside_its_plain_backbone(table1: Suite) -> None:
    assert [tuple(c.name for c in group.candidates) for group in table1.groups] == PAIRS
    assert {c.variant.runtime for group in table1.groups for c in group.candidates} == {"onnxruntime"}
    assert {c.subject.image_shape for group in table1.groups for c in group.candidates} == {(3, 224, 224)}
    assert [entry.name for entry in table1.entries] == [name for pair in PAIRS for name in pair]


@pytest.mark.slow
def test_networks_of_table_1_have_the_printed_parameters_and_flops(table1: Suite) -> None:
    for entry in table1.entries:
        assert entry.printed == TABLE1[entry.name]
        assert round(entry.parameters / 1e6, 2) == entry.printed.parameters_m, entry.name
        flops = round(entry.table_flops / 1e9, 2)
        expected = PRINTED_OTHERWISE.get(entry.name, (entry.printed.flops_g, entry.printed.flops_g))
        assert (flops, entry.printed.flops_g) == expected, entry.name


@pytest.mark.slow
def test_macs_are_those_of_convolutions_and_the_classifier(table1: Suite) -> None:
    by_name = {entry.name: entry for entry in table1.entries}
    # As torchvision's documentation gives them for the plain networks: 1.814, 4.089 and 0.301 G.
    assert round(by_name["resnet18_plain"].macs / 1e9, 3) == 1.814
    assert round(by_name["resnet50_plain"].macs / 1e9, 3) == 4.089
    assert round(by_name["mobilenet_v2_plain"].macs / 1e9, 3) == 0.301
    for entry in table1.entries:
        assert entry.macs <= entry.table_flops
    for plain, network in PAIRS:
        assert by_name[network].macs > by_name[plain].macs


@pytest.mark.slow
def test_layouts_are_one_group_with_the_printed_parameters(tmp_path: Path) -> None:
    suite = built("layouts", tmp_path)
    (group,) = suite.groups
    assert [c.name for c in group.candidates] == list(TABLE3)
    for entry in suite.entries:
        assert round(entry.parameters / 1e6, 2) == TABLE3[entry.name].parameters_m, entry.name


@pytest.mark.slow
def test_runtimes_are_measured_beside_pytorch(tmp_path: Path) -> None:
    suite = built("runtimes", tmp_path, BenchOptions(Cpu(), size=(32, 32), runtimes=("onnxruntime", "pytorch")))
    runtimes = [[c.variant.runtime for c in group.candidates] for group in suite.groups]
    assert runtimes == [["pytorch", "onnxruntime"]] * len(PAIRS)
    assert [entry.name for entry in suite.entries] == [network for _, network in PAIRS]
    assert suite.options.baseline == "pytorch"
    every = built("runtimes", tmp_path, BenchOptions(Cpu(), size=(32, 32)))
    assert {c.variant.runtime for group in every.groups for c in group.candidates} == runtimes_on("cpu").keys()


@pytest.mark.parametrize(
    ("name", "runtimes", "said"),
    [
        ("table1", ("onnxruntime", "openvino"), "`suite='table1'` takes one `runtime`"),
        ("layouts", ("pytorch",), "have no checkpoints"),
    ],
)
def test_runtimes_that_a_suite_cannot_use_are_refused(
    tmp_path: Path, name: str, runtimes: tuple[str, ...], said: str
) -> None:
    with pytest.raises(UsageError, match=said):
        built(name, tmp_path, BenchOptions(Cpu(), runtimes=runtimes))


def test_an_unknown_suite_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=f"There is no suite 'table2'; choose from {', '.join(Cpu.suites)}"):
        build_suite("table2", BenchOptions(Cpu()), tmp_path)


@pytest.mark.slow
def test_a_suite_on_small_images_has_a_row_for_every_layout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(roofline, "_SECONDS", 0.001)
    # Three of them, and narrow: most of the time would be spent on exporting.
    table = dict(list(TABLE3.items())[:3])
    monkeypatch.setattr(suites, "TABLE3", table)
    narrow = replace(ResNetSpec("basic", (2, 2, 2, 2)), widths=(8, 8, 16, 32, 32))
    monkeypatch.setitem(suites.ARCHITECTURES, "resnet18", replace(ARCHITECTURES["resnet18"], backbone=narrow))
    options = BenchOptions(Cpu(), size=(32, 32), settings=Settings(iterations=3, min_time=0.0))
    result = bench_suite("layouts", options)
    plain, *others = table
    assert [(row.name, row.baseline) for row in result.rows] == [(plain, None), *((name, plain) for name in others)]
    assert all(row.latency is not None and row.unavailable == "" for row in result.rows)
    assert result.suite is not None
    assert {row.name: row.macs for row in result.rows} == {entry.name: entry.macs for entry in result.suite.entries}
    document = bench_data(result)
    assert document["suite"] == "layouts"
    assert [network["name"] for network in document["networks"]] == list(table)
    sizes, times = bench_cells(result)[:2]
    for shown in (sizes, times):
        assert shown.title.startswith("Table 3")
        assert [row[0] for row in shown.rows] == list(table)
    base, *entries = result.suite.entries
    assert [row[4] for row in times.rows] == ["1", *(f"×{entry.macs / base.macs:.3f}" for entry in entries)]
