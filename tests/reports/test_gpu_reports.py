"""What `bench --gpu` prints and saves of a result built by hand, and what later runs read of it."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from kdna_deploy.benchmark.compare import compare_runs
from kdna_deploy.benchmark.gpu.device import Gpu
from kdna_deploy.benchmark.paper import TABLE1
from kdna_deploy.benchmark.result import notes_on
from kdna_deploy.benchmark.saved import incomparable, read_run
from kdna_deploy.benchmark.statistics import Ratio
from kdna_deploy.benchmark.suites import Entry, Suite
from kdna_deploy.benchmark.thresholds import crossings, parse_threshold
from kdna_deploy.reports.bench import bench_report
from kdna_deploy.reports.bench_data import bench_data, written
from kdna_deploy.reports.bench_tables import bench_cells, bench_facts
from kdna_deploy.reports.formats import FORMATS
from kdna_deploy.reports.terminal import rendered
from tests.benchmark.gpu.results import BASE, FULL, MISSING, NET, PLAIN, STATE, beside, gpu_result, gpu_row
from tests.benchmark.test_saved import PAIR
from tests.benchmark.test_saved import save as save_cpu

DOCUMENTATION = Path(__file__).resolve().parents[2] / "docs" / "bench-file.md"


def printed(result: object, width: int = 100) -> str:
    console = Console(width=width, file=io.StringIO(), highlight=False)
    console.print(rendered(bench_report(result)))  # type: ignore[arg-type]
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_the_table_has_throughput_and_what_is_kept_of_the_baselines() -> None:
    table, latencies, files = bench_cells(FULL)
    plain, net, missing = table.rows
    assert BASE.latency is not None
    assert plain == (PLAIN, "tensorrt", "fp16", f"{BASE.figures.throughput:.0f}", "100", "baseline")
    # 1 / 1.1, and the ends of the interval 1.09 / 1.004 to 1.11 * 1.004 inverted.
    assert net == ("net.onnx", "tensorrt", "fp16", f"{NET.figures.throughput:.0f}", "90.9", "89.7–92.1")
    assert missing == ("net.onnx", "onnxruntime-cuda", "fp16", "–", "–", "no figures")
    median, p99 = (f"{value:.2f}" for value in (BASE.latency.median, BASE.latency.p99))
    assert (latencies.rows[0][0], latencies.rows[0][1], latencies.rows[0][4]) == (BASE.name, median, p99)
    assert [row[0] for row in files.rows] == [BASE.name, NET.name]  # not what was not measured
    assert files.rows[1][1:] == ("9.24", "2.277", "38.20")


@pytest.mark.parametrize("width", [80, 100])
def test_everything_fits_a_terminal_of_80_columns(width: int) -> None:
    wide = gpu_row("resnet50_plain 224×224", 50.0, "pytorch-cuda-graph")
    net = beside("resnet50-of-a-long-name.fused.pt2", 52.0, wide, Ratio(1.0, 0.9, 1.1))
    text = printed(gpu_result(wide, net), width)
    assert all(len(line.rstrip()) <= width for line in text.splitlines())
    assert "…" not in text
    figures = [cell for table in bench_cells(gpu_result(wide, net)) for row in table.rows for cell in row[table.left :]]
    assert all(figure in text for figure in figures)
    assert "pytorch-cuda-graph" in text


def test_the_machine_line_has_clocks_power_and_temperature() -> None:
    facts = dict(bench_facts(FULL))
    assert facts["machine"] == (
        "NVIDIA GeForce RTX 4090, compute capability 8.9, driver 570.86, CUDA 13.0, clock 2527 MHz (2520 to 2535), "
        "memory 10501 MHz, 320 W of 450, at most 330, 66 °C"
    )
    assert facts["protocol"].startswith("batch 128, images on the device, 1 stream, CUDA graphs, 36 spans each")
    copied = replace(
        FULL,
        options=replace(FULL.options, device=Gpu(host_copies=True, streams=2, cuda_graphs=False)),
        findings=replace(FULL.findings, state=None),
    )
    facts = dict(bench_facts(copied))
    assert "copies from and to the host included, 2 streams, no CUDA graphs" in facts["protocol"]
    assert facts["machine"].endswith("CUDA 13.0")


def test_table_1_stands_beside_the_papers_throughput() -> None:
    plain = gpu_row("resnet18_plain", 15.0)
    net = beside("resnet18", 16.5, plain, Ratio(1.1, None, None))
    entries = tuple(Entry(name, 1, 1, 1, TABLE1[name]) for name in ("resnet18_plain", "resnet18"))
    suite = Suite("table1", (), entries, FULL.options)
    table, *_ = bench_cells(gpu_result(plain, net, suite=suite))
    assert [row[4:] for row in table.rows] == [("8463", "", ""), ("7683", "90.9", "90.8")]
    unprinted = tuple(replace(entry, printed=None) for entry in entries)
    other_size, *_ = bench_cells(gpu_result(plain, net, suite=replace(suite, entries=unprinted)))
    assert [row[4:] for row in other_size.rows] == [("–", "", ""), ("–", "90.9", "")]


def test_throttling_and_what_could_not_be_measured_are_noted() -> None:
    told = [*STATE.warnings, "TensorRT is not installed"]
    notes = notes_on(FULL.rows, FULL.floors, told, ["net.onnx: 224×224 is assumed"], partial=True)
    assert notes[0] == "interrupted: these figures are partial"
    assert "throttled by its power limit in 50%" in notes[1]
    assert notes[2:] == (
        "TensorRT is not installed",
        f"{MISSING.name}: {MISSING.unavailable}",
        "net.onnx: 224×224 is assumed",
    )


def save(folder: Path, result: object = FULL, name: str = "run.json") -> Path:
    path = folder / name
    path.write_text(written(result, path), encoding="utf-8")  # type: ignore[arg-type]
    return path


def test_a_saved_run_is_read_back(tmp_path: Path) -> None:
    run = read_run(save(tmp_path))
    assert [(row.model, row.runtime) for row in run.rows] == [
        (PLAIN, "tensorrt, fp16"),
        ("net.onnx", "tensorrt, fp16"),
        ("net.onnx", "onnxruntime-cuda, fp16"),
    ]
    assert run.rows[1].ratio is not None and run.rows[1].ratio.value == 1.1
    assert run.rows[0].samples is not None and BASE.samples is not None
    assert (run.rows[0].samples.values == BASE.samples.values).all()
    assert run.rows[2].samples is None


def test_two_runs_on_the_gpu_are_compared_by_their_ratios(tmp_path: Path) -> None:
    slower = beside("net.onnx", 16.5, BASE, Ratio(1.2, 1.19, 1.21, floor=0.004))
    first, second = read_run(save(tmp_path)), read_run(save(tmp_path, gpu_result(BASE, slower), "later.json"))
    comparison = compare_runs(first, second)
    assert comparison.differences == ()
    assert [row.verdict for row in comparison.rows] == ["baseline", "slower", "only in one"]


def test_other_devices_streams_and_gpus_are_not_comparable(tmp_path: Path) -> None:
    run = read_run(save(tmp_path, name="gpu.json"))
    other = replace(
        FULL,
        options=replace(FULL.options, device=Gpu(streams=2)),
        findings=replace(FULL.findings, machine=replace(FULL.findings.machine, name="NVIDIA H100")),
    )
    later = read_run(save(tmp_path, other, "other.json"))
    found = "; ".join(incomparable(run, later.machine, later.options))
    assert "gpu (NVIDIA GeForce RTX 4090 against NVIDIA H100)" in found and "streams (1 against 2)" in found
    on_cpu = read_run(save_cpu(PAIR, tmp_path))
    assert "device (gpu against None)" in incomparable(run, on_cpu.machine, on_cpu.options)


@pytest.mark.parametrize(
    ("gate", "crossed"),
    [
        ("throughput<7000", False),
        ("throughput<9000", True),
        ("kept<90", False),
        ("kept<91", True),
        ("ratio>1.05", True),
    ],
)
def test_gates_take_throughput_what_is_kept_and_the_ratio(gate: str, crossed: bool) -> None:
    assert bool(crossings(parse_threshold(gate), [NET])) is crossed


def test_a_gate_on_what_only_a_cpu_has_does_not_pass_unseen() -> None:
    (crossing,) = crossings(parse_threshold("load>100"), [NET])
    assert crossing.value is None


def test_every_format_can_be_written(tmp_path: Path) -> None:
    for suffix in FORMATS:
        assert save(tmp_path, FULL, f"run{suffix}").stat().st_size
    with (tmp_path / "run.csv").open(encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    assert [line["precision"] for line in lines] == ["fp16"] * 3
    assert float(lines[1]["kept.value"]) == pytest.approx(1 / 1.1)
    assert lines[2]["throughput"] == lines[2]["kept.value"] == ""
    text = (tmp_path / "run.md").read_text(encoding="utf-8")
    assert "| net.onnx | tensorrt | fp16 |" in text and "- a note" in text


def test_every_field_of_the_document_is_documented() -> None:
    text = DOCUMENTATION.read_text(encoding="utf-8")
    document = json.loads(json.dumps(bench_data(FULL)))
    environment = [name for name in document["environment"] if name.startswith("gpu")]
    names = {*document, *document["rows"][0], *document["gpu_state"], *document["options"], *environment}
    assert [name for name in sorted(names) if f"`{name}`" not in text] == []
