"""What `bench` prints and saves of a result built by hand: tables that fit, and files that other programs can read."""

from __future__ import annotations

import csv
import io
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len
from rich.console import Console, RenderableType

from kdna_deploy.benchmark.compare import Comparison, compare_runs
from kdna_deploy.benchmark.cpu.cold_start import ColdStart
from kdna_deploy.benchmark.cpu.device import Cpu
from kdna_deploy.benchmark.cpu.profile import GROUPS, Explanation, Layer, Profile
from kdna_deploy.benchmark.device import BenchOptions
from kdna_deploy.benchmark.paper import Printed
from kdna_deploy.benchmark.result import BenchResult, Floor
from kdna_deploy.benchmark.saved import SCHEMA_VERSION, read_run
from kdna_deploy.benchmark.statistics import Ratio, Summary
from kdna_deploy.benchmark.suites import Entry, Suite
from kdna_deploy.errors import UsageError
from kdna_deploy.reports.bench import bench_report, comparison_report
from kdna_deploy.reports.bench_data import bench_data, comparison_data, written
from kdna_deploy.reports.bench_tables import (
    bench_cells,
    bench_facts,
    comparison_facts,
)
from kdna_deploy.reports.cells import Cells, markdown, rich_table
from kdna_deploy.reports.formats import check_format
from kdna_deploy.reports.quantities import milliseconds
from kdna_deploy.reports.terminal import rendered as shown
from tests.benchmark.test_saved import COLD, MACHINE, PAIR, SETTINGS, measured, result_of, save, unavailable

WIDTHS = (80, 100)  # of the narrowest terminal, and of what is piped
DOCUMENTATION = Path(__file__).resolve().parents[2] / "docs" / "bench-file.md"
PLAIN = "resnet18_plain 224×224"
LONG = "runs/2026-11-21/kernel-dna/resnet18-with-a-very-long-name-of-its-checkpoint.pth.tar.epoch-299.onnx"
BRACKETS = "[bold]net[/].onnx"
PIPE = "a|b.onnx"


def layer(name: str, microseconds: float, operator: str = "Conv", group: str = "convolutions") -> Layer:
    return Layer(name, operator, group, (1, 64, 56, 56), microseconds)


def profile_of(name: str) -> Profile:
    layers = [layer(f"/layer{n}/layer{n}.0/conv1/Conv_with_a_long_name_of_its_own", 100.0 + n) for n in range(1, 15)]
    layers.append(layer("/gate/Mul", 12.0, "Mul", "pre-scale"))
    layers.append(layer("/gate/GlobalAveragePool", 9.0, "GlobalAveragePool", "channel attention"))
    layers.append(layer("ReorderOutput_token_12", 8.0, "ReorderOutput", "layout"))
    return Profile(name, tuple(layers))


def full_result(*names: str) -> BenchResult:
    """A plain backbone, models of these names beside it, one that could not be measured, two of them profiled."""
    ratio = Ratio(1.2345, 1.2, 1.25, floor=0.012)
    models = [measured(name, 12.0, baseline=PLAIN, ratio=ratio) for name in names]
    rows = (measured(PLAIN), *models, unavailable("net, openvino", baseline=PLAIN))
    return result_of(
        *rows,
        profiles=(profile_of(PLAIN), profile_of(names[0])),
        explanations=(Explanation(names[0], PLAIN, 2.5, 2.25),),
        notes=("net, openvino: OpenVINO is not installed; run: pip install 'kdna-deploy[openvino]'",),
    )


FULL = full_result("net.onnx")


def profiled(*names: str) -> BenchResult:
    return replace(FULL, findings=replace(FULL.findings, profiles=tuple(map(profile_of, names))))


PARTIAL = result_of(
    measured(PLAIN, cold=None),
    unavailable("net.onnx", "not measured: interrupted", baseline=PLAIN),
    floors=(Floor(PLAIN, Ratio(1.0, None, None), None),),
    peak=None,
    cores=(),
    partial=True,
    notes=("interrupted: these figures are partial",),
)
ENTRIES = (
    Entry("resnet18_plain", 11_689_512, 1_814_073_344, 1_820_000_000, Printed(11.69, 1.82, 8463, 22.16)),
    Entry("resnet18", 9_240_000, 2_277_000_000, 2_280_000_000, Printed(9.24, 2.28, 7683, 28.43), "prints too much"),
    Entry("mobilenet_v2_1d2_plain", 1_968_680, 97_000_000, 104_800_000, None),
)
TABLE1 = result_of(
    measured("resnet18_plain"),
    measured("resnet18", 13.0, baseline="resnet18_plain", ratio=Ratio(1.3, 1.29, 1.31, floor=0.01)),
    unavailable("mobilenet_v2_1d2_plain", "not measured: interrupted"),
    suite=Suite("table1", (), ENTRIES, BenchOptions(Cpu(), settings=SETTINGS)),
)
LAYOUTS = replace(TABLE1, suite=replace(TABLE1.suite, name="layouts"))
RUNTIMES = replace(FULL, suite=Suite("runtimes", (), ENTRIES, BenchOptions(Cpu(), settings=SETTINGS)))
RESULTS = {
    "full": FULL,
    "partial": PARTIAL,
    "table1": TABLE1,
    "layouts": LAYOUTS,
    "runtimes": RUNTIMES,
    "long name": result_of(measured(PLAIN), measured(LONG, baseline=PLAIN, ratio=Ratio(1.2, 1.1, 1.3))),
    "brackets": result_of(measured(PLAIN), measured(BRACKETS, baseline=PLAIN, ratio=Ratio(1.2, 1.1, 1.3))),
    "pipe": full_result(PIPE),
    "paper": replace(FULL, options=BenchOptions(Cpu(threads=4), protocol="paper")),
}
each_result = pytest.mark.parametrize("result", RESULTS.values(), ids=RESULTS.keys())


def rendered(report: RenderableType, width: int = WIDTHS[-1]) -> str:
    """As a terminal of so many columns shows it."""
    text = io.StringIO()
    Console(width=width, file=text, color_system=None).print(report)
    return text.getvalue()


def unwrapped(text: str) -> str:
    """Without what a table puts between the parts of a folded name."""
    return re.sub(r"\s+", "", text)


def first_column(text: str) -> str:
    """What stands first in every line: a folded name in one piece."""
    return "".join(line.strip().split("  ")[0] for line in text.splitlines())


def check_whole(result: BenchResult, headings: bool = True, widths: tuple[int, ...] = WIDTHS) -> None:
    """Check that the report fits and that every figure of its tables is there, and the words of the `headings`."""
    for width in widths:
        _check_whole(result, headings, width)


def _check_whole(result: BenchResult, headings: bool, width: int) -> None:
    text = rendered(shown(bench_report(result)), width)
    assert max(cell_len(line.rstrip()) for line in text.splitlines()) <= width
    assert "…" not in text
    for cells in bench_cells(result):
        words = [word for heading in cells.headings if headings for word in heading.split()]
        words += [figure for row in cells.rows for figure in row[cells.left :]]
        (table,) = [part for part in tables_of(text) if unwrapped(part).startswith(unwrapped(cells.title))]
        for word in set(words):
            # A cell that is cut to a part of it would be found in another one: count.
            assert table.count(word) >= words.count(word), word


def tables_of(text: str) -> list[str]:
    """The parts of a report, each a table with its title."""
    parts = re.split(r"\n\s*\n", text)
    return [f"{title}\n{body}" for title, body in zip(parts[0::2], parts[1::2], strict=False)]


# For a terminal


@each_result
def test_the_report_fits_a_terminal_of_80_columns_and_cuts_nothing(result: BenchResult) -> None:
    check_whole(result)


@each_result
def test_every_model_is_shown(result: BenchResult) -> None:
    column = first_column(rendered(shown(bench_report(result))))
    assert all(row.name in column for row in result.rows)


def test_a_long_name_beside_the_longest_verdict_fits() -> None:
    plain, ratio = "mobilenet_v2_1d2_plain 224×224", Ratio(1.01, 0.99, 1.03, floor=0.01)
    check_whole(result_of(measured(plain), measured("mobilenet_v2_1d2.onnx", baseline=plain, ratio=ratio)))


def test_latencies_of_seconds_fit() -> None:
    ratio = Ratio(1.9, 1.85, 1.95, floor=0.02)
    check_whole(result_of(measured(PLAIN, 12345.6), measured("net.onnx", 23456.7, baseline=PLAIN, ratio=ratio)))


def test_profiles_of_many_models_fit() -> None:
    names = ("mobilenet_v2_1d2_plain 224×224", "mobilenet_v2_1d2.onnx", "resnet50_plain 224×224", "resnet50.onnx")
    check_whole(profiled(*names), headings=False)


def test_brackets_in_the_name_of_a_profiled_model_are_no_markup() -> None:
    text = rendered(shown(bench_report(profiled("[bold]net[/].onnx", "[/x].onnx"))))
    assert text.count("[bold]net[/].onnx") == text.count("[/x].onnx") == 3  # two headings and a title


def test_brackets_in_a_name_are_no_markup() -> None:
    assert BRACKETS in rendered(shown(bench_report(RESULTS["brackets"])))


def test_brackets_in_the_facts_are_no_markup() -> None:
    result = replace(FULL, floors=(replace(FULL.floors[0], baseline=BRACKETS),))
    assert f"{BRACKETS} against itself" in rendered(shown(bench_report(result)))


def test_a_row_shows_its_latency_ratio_interval_verdict_and_share() -> None:
    latency = Summary(median=12.344, mean=12.5, p90=13.0, p99=14.0, minimum=9.8765, runs=36)
    net = measured("net", latency=latency, baseline="plain", ratio=Ratio(1.2, 1.1, 1.3, 0.05), share=0.614)
    compared, latencies, *_ = bench_cells(result_of(measured("plain"), net))
    assert dict(zip(compared.headings, compared.rows[1], strict=True)) == {
        "model": "net",
        "median": "12.34",
        "ratio": "1.200",
        "interval": "1.048–1.365",  # the noise floor included
        "verdict": "slower",
        "peak": "61%",
    }
    assert dict(zip(latencies.headings, latencies.rows[1], strict=True)) == {
        "model": "net",
        "median": "12.34",
        "mean": "12.50",
        "p90": "13.00",
        "p99": "14.00",
        "min": "9.877",  # four digits
    }


def test_a_baseline_has_the_ratio_one_and_what_was_not_measured_no_figures() -> None:
    cells = bench_cells(FULL)[0]
    assert cells.rows[0][2:5] == ("1", "", "baseline")
    assert cells.rows[2] == ("net, openvino", *["–"] * 3, "no figures", "–")
    assert [row[0] for row in bench_cells(FULL)[1].rows] == [PLAIN, "net.onnx"]  # not what was not measured


def test_a_ratio_without_an_interval_and_a_row_without_a_ratio_say_so() -> None:
    few = measured("few", baseline="plain", ratio=Ratio(1.2, None, None))
    none = measured("none", baseline="plain", ratio=None, share=None)
    cells = bench_cells(result_of(measured("plain"), few, none))[0]
    assert cells.rows[1][2:5] == ("1.200", "–", "cannot tell")
    assert cells.rows[2][2:] == ("–", "", "", "–")


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.1234, "0.123"), (9.8765, "9.877"), (10.0, "10.00"), (99.994, "99.99"), (100.0, "100.0"), (1234.56, "1235")],
)
def test_milliseconds_have_four_digits(value: float, text: str) -> None:
    assert milliseconds(value) == text


def test_files_and_cold_starts_are_in_millions_and_megabytes() -> None:
    cells = bench_cells(FULL)[2]
    assert cells.rows[1] == ("net.onnx", "9.24", "2.277", "45.10", "210", "88", "32")
    assert len(cells.headings) == len(cells.rows[1])
    assert len(cells.rows) == 2  # not what was not measured


def test_without_cold_starts_their_columns_are_left_out_and_one_that_is_missing_is_dashes() -> None:
    (cells,) = bench_cells(PARTIAL)[2:]
    assert cells.rows == ((PLAIN, "9.24", "2.277", "45.10"),)
    assert len(cells.headings) == 4
    one = result_of(measured("plain"), measured("net", cold=None))
    assert bench_cells(one)[2].rows[1][4:] == ("–",) * 3
    assert [row[0] for row in bench_cells(one)[3].rows] == ["plain"]


@pytest.mark.slow
def test_memory_is_private_or_shared_and_of_several_processes_where_it_was_measured() -> None:
    memory = bench_cells(FULL)[3]
    assert memory.headings == ("model", "RAM", "private", "shared", "peak")
    assert memory.rows[1] == ("net.onnx", "143", "–", "–", "162")  # a system that does not tell
    told = ColdStart(1.0, 2.0, 3.0, 140_000_000, 160_000_000, 30_000_000, 110_000_000, 260_000_000)
    memory = bench_cells(result_of(measured("plain"), measured("net", cold=told)))[3]
    assert memory.headings[5:] == ("4 at once",)
    assert memory.rows == (
        ("plain", "143", "–", "–", "162", "–"),
        ("net", "140", "30", "110", "160", "260"),
    )


def test_nothing_measured_leaves_one_table() -> None:
    assert len(bench_cells(result_of(unavailable("plain"), unavailable("net", baseline="plain"), floors=()))) == 1


def test_a_suite_is_beside_the_paper() -> None:
    sizes, times = bench_cells(TABLE1)[:2]
    median = TABLE1.rows[1].latency.median
    assert sizes.rows[0][1:] == ("11.69", "11.69", "1.82", "1.82")
    assert times.rows[0][1:] == (f"{TABLE1.rows[0].latency.median:.2f}", "1", "", "1", "")
    macs = 2_277_000_000 / 1_814_073_344
    printed = f"{28.43 / 22.16:.3f}"
    assert times.rows[1][1:] == (f"{median:.2f}", "1.300", printed, f"×{macs:.3f}", f"×{1.3 / macs:.3f}")
    assert (sizes.rows[2][1:], times.rows[2][1:]) == (("1.97", "–", "0.10", "–"), ("–", "–", "", "1", ""))
    assert "Table 1" in sizes.title and "Table 1" in times.title
    assert all("Table 3" in cells.title for cells in bench_cells(LAYOUTS)[:2])
    assert len(bench_cells(RUNTIMES)) == len(bench_cells(FULL))


def test_a_profile_is_summed_by_group_and_operator_and_its_slowest_layers_come_first() -> None:
    groups, *_, operators, layers = bench_cells(FULL)[4:]
    convolutions = sum(100 + n for n in range(1, 15))
    assert groups.headings == ("model", *GROUPS, "sum")
    assert [row[1] for row in groups.rows] == [f"{convolutions}"] * 2
    assert [row[-1] for row in groups.rows] == [f"{convolutions + 29}"] * 2
    assert operators.title == "Operators of net.onnx"
    share = f"{convolutions / (convolutions + 29):.1%}"
    assert operators.rows[0] == ("Conv", "14", f"{convolutions}", share)
    assert layers.title.startswith("Slowest 12 of 17 layers of net.onnx")
    assert [row[4] for row in layers.rows] == [f"{100 + n}" for n in range(14, 2, -1)]
    assert layers.rows[0][1:] == ("Conv", "convolutions", "1×64×56×56", "114", f"{114 / (convolutions + 29):.1%}")


def facts_of(result: BenchResult) -> dict[str, str]:
    return dict(bench_facts(result))


def test_the_facts_say_how_it_was_measured() -> None:
    facts = facts_of(FULL)
    assert facts["machine"] == "AMD EPYC (AVX2, no VNNI), 2 cores, load 0.1"
    assert facts["protocol"] == "batch 1, 1 thread, pinned to core 1, 36 runs each, interleaved"
    assert facts["runtime"] == "onnxruntime 1.20.0"
    assert facts["noise floor"] == f"± 1.5%: {PLAIN} against itself 1.002"
    assert facts["peak"].startswith("81 GFLOP/s in float32, by 1×1 convolutions")
    assert facts["baseline"].startswith("plain backbone")
    assert facts["difference"] == f"net.onnx: +2.500 ms to {PLAIN} = +2.250 by its MACs +0.250 overhead"


def test_the_facts_say_what_was_different() -> None:
    options = BenchOptions(Cpu(threads=4), batch=8, protocol="paper", baseline="pytorch")
    facts = facts_of(replace(PARTIAL, options=options, environment=replace(MACHINE, governor="performance")))
    assert facts["machine"].endswith("load 0.1, governor performance")
    assert facts["protocol"].startswith("batch 8, 4 threads, not pinned, 36 runs each")
    assert facts["protocol"].endswith("ratio of means, as in the paper")
    assert facts["noise floor"].startswith("not known, too few rounds")
    assert facts.keys().isdisjoint({"peak", "baseline", "difference"})


def test_remarks_on_the_paper_name_the_networks_of_each() -> None:
    plain, network, _ = ENTRIES
    entries = (plain, network, replace(network, name="resnet50"), replace(plain, name="other", remark="is a misprint"))
    of_the_paper = [told for name, told in bench_facts(with_entries(entries)) if name == "the paper"]
    assert of_the_paper == ["resnet18, resnet50: prints too much", "other: is a misprint"]


def with_entries(entries: tuple[Entry, ...]) -> BenchResult:
    """Of a suite none of whose networks was measured."""
    rows = [unavailable(entry.name) for entry in entries]
    return result_of(*rows, suite=Suite("table1", (), entries, TABLE1.options))


def test_a_suite_has_no_fact_on_a_plain_backbone_made_for_a_file() -> None:
    assert "baseline" not in facts_of(TABLE1)


# Two runs


def comparison(folder: Path, *names: str) -> Comparison:
    """A model that became slower, others that only the first run has, on two machines."""
    slow, fast = Ratio(1.5, 1.49, 1.51, floor=0.01), Ratio(1.2, 1.19, 1.21, floor=0.01)
    first = result_of(
        measured("plain"),
        measured("net.onnx", 12.0, baseline="plain", ratio=fast),
        *(measured(name, 12.0, baseline="plain", ratio=fast) for name in names),
    )
    second = result_of(
        measured("plain"),
        measured("net.onnx", 15.0, baseline="plain", ratio=slow),
        unavailable("net.pt2", baseline="plain"),
        environment=replace(MACHINE, cpu="Xeon", versions={}),
    )
    runs = []
    for folder_name, result in (("a", first), ("b", second)):
        (folder / folder_name).mkdir()
        runs.append(read_run(save(result, folder / folder_name)))
    return compare_runs(*runs)


def test_two_runs_side_by_side_fit_a_hundred_columns(tmp_path: Path) -> None:
    text = rendered(shown(comparison_report(comparison(tmp_path, LONG, BRACKETS))))
    assert max(cell_len(line.rstrip()) for line in text.splitlines()) <= WIDTHS[-1]
    assert "…" not in text
    assert BRACKETS in text
    assert all(figure in text for figure in ("1.200", "1.500", "1.250", "slower", "baseline", "only in one"))


def test_two_runs_are_told_apart_by_file_machine_and_version(tmp_path: Path) -> None:
    found = comparison(tmp_path)
    assert comparison_facts(found) == [
        ("A", f"{found.first.path}: AMD EPYC, ONNX Runtime 1.20.0"),
        ("B", f"{found.second.path}: Xeon, ONNX Runtime –"),
        ("differs", "cpu (AMD EPYC against Xeon)"),
    ]


def test_the_comparison_as_json_is_strict_and_holds_every_change(tmp_path: Path) -> None:
    found = comparison(tmp_path, "old.onnx")
    document = json.loads(json.dumps(comparison_data(found), allow_nan=False))
    assert (document["schema_version"], document["kind"]) == (SCHEMA_VERSION, "bench-comparison")
    assert document["differences"] == ["cpu (AMD EPYC against Xeon)"]
    rows = {row["model"]: row for row in document["rows"]}
    assert rows.keys() == {"plain", "net.onnx", "old.onnx", "net.pt2"}
    assert rows["net.onnx"]["change"]["value"] == pytest.approx(1.25)
    assert rows["net.onnx"]["verdict"] == "slower"
    assert rows["plain"]["change"] is None
    assert rows["old.onnx"]["second_ms"] is None
    assert rows["net.pt2"]["first_ms"] is None


# Markdown


def cells_of_line(line: str) -> list[str]:
    """The cells of a line of a Markdown table, escaped bars put back."""
    assert line.startswith("| ")
    assert line.endswith(" |")
    return [cell.strip().replace(r"\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


def markdown_tables(text: str) -> list[list[list[str]]]:
    """The tables of a Markdown text, each the cells of its lines."""
    blocks = re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE)
    return [[cells_of_line(line) for line in block.splitlines()] for block in blocks]


@each_result
def test_every_line_of_a_markdown_table_has_as_many_cells(result: BenchResult) -> None:
    tables = markdown_tables(written(result, Path("run.md")))
    assert len(tables) == len(bench_cells(result))
    for table, cells in zip(tables, bench_cells(result), strict=True):
        heading, rules, *rows = table
        assert heading == list(cells.headings)
        assert all(re.fullmatch(r"---:?", rule) for rule in rules)
        assert [len(line) for line in table] == [len(cells.headings)] * len(table)
        assert [tuple(row) for row in rows] == list(cells.rows)


def test_a_bar_in_a_name_is_escaped_in_headings_and_cells() -> None:
    text = written(RESULTS["pipe"], Path("run.md"))
    assert r"| a\|b.onnx |" in text
    assert f"| {PIPE} |" not in text


@each_result
def test_markdown_ends_with_the_facts_and_notes(result: BenchResult) -> None:
    lines = written(result, Path("run.md")).splitlines()
    wanted = [f"- {name}: {text}" for name, text in bench_facts(result)] + [f"- {note}" for note in result.notes]
    assert lines[-len(wanted) :] == wanted


def test_names_are_aligned_left_and_figures_right() -> None:
    table = Cells("Title", ("name", "kind", "ms"), (("a", "b", "1"),), left=2)
    assert markdown(table) == "**Title**\n\n| name | kind | ms |\n| --- | --- | ---: |\n| a | b | 1 |\n"
    assert markdown(replace(table, title="")).startswith("| name |")


def test_a_table_without_rows_can_be_printed() -> None:
    empty = Cells("Nothing", ("model", "ms"), ())
    assert "model" in rendered(rich_table(empty))
    assert markdown(empty).splitlines()[-1] == "| --- | ---: |"


# CSV


@each_result
def test_the_csv_has_one_line_a_row_and_reads_back(result: BenchResult) -> None:
    text = written(result, Path("run.csv"))
    lines = list(csv.DictReader(io.StringIO(text), strict=True))
    assert [line["name"] for line in lines] == [row.name for row in result.rows]
    assert all(None not in line and None not in line.values() for line in lines)  # as many cells as headings
    assert len(text.splitlines()) == 1 + len(result.rows)


def test_the_csv_holds_nested_figures_and_no_samples() -> None:
    plain, net, missing = csv.DictReader(io.StringIO(written(FULL, Path("run.csv"))))
    row = FULL.rows[1]
    assert float(net["latency_ms.median"]) == row.latency.median
    assert float(net["latency_ms.p99"]) == row.latency.p99
    assert float(net["ratio.low"]) == row.ratio.interval[0]
    assert net["ratio.verdict"] == "slower"
    assert float(net["cold_start.load_ms"]) == COLD.load_ms
    assert (net["macs"], net["baseline"]) == ("2277000000", PLAIN)
    assert (plain["ratio.value"], plain["baseline"], plain["unavailable"]) == ("", "", "")
    assert missing["latency_ms.median"] == ""
    assert missing["unavailable"].startswith("OpenVINO is not installed")
    assert not {"samples_ms", "blocks", "runtime_options"} & net.keys()


def test_commas_quotes_and_line_breaks_survive_the_csv() -> None:
    name = 'a, "b"\nc.onnx'
    (line,) = csv.DictReader(io.StringIO(written(result_of(measured(name)), Path("run.csv"))))
    assert line["name"] == name


# JSON

Fields = dict[str, set[str]]


def _documented() -> tuple[Fields, Fields]:
    """The document's and a row's fields, each with the names that its description mentions."""
    tables: list[Fields] = []
    for line in DOCUMENTATION.read_text(encoding="utf-8").splitlines():
        if line.startswith("| field"):
            tables.append({})
        elif line.startswith("| `"):
            names, text = cells_of_line(line)
            tables[-1] |= {name: set(re.findall(r"`(\w+)`", text)) for name in re.findall(r"`([^`]+)`", names)}
    document, row, *_ = tables  # then those of a GPU
    return document, row


DOCUMENT_FIELDS, ROW_FIELDS = _documented()


def strict(result: BenchResult) -> dict[str, Any]:
    return json.loads(json.dumps(bench_data(result), allow_nan=False))


@each_result
def test_the_json_has_exactly_the_documented_fields(result: BenchResult) -> None:
    document = strict(result)
    assert document.keys() == DOCUMENT_FIELDS.keys()
    for row in document["rows"]:
        assert row.keys() == ROW_FIELDS.keys()


@each_result
def test_nested_objects_have_exactly_the_documented_fields(result: BenchResult) -> None:
    document = strict(result)
    assert document["options"].keys() == DOCUMENT_FIELDS["options"]
    assert document["environment"].keys() == DOCUMENT_FIELDS["environment"]
    for floor in document["noise_floors"]:
        assert floor.keys() == DOCUMENT_FIELDS["noise_floors"]
    for network in document["networks"]:
        assert network.keys() == DOCUMENT_FIELDS["networks"]
    for row in document["rows"]:
        for name in ("latency_ms", "ratio", "cold_start"):
            assert row[name] is None or row[name].keys() == ROW_FIELDS[name]
    for profile in document["profiles"]:
        assert profile.keys() >= DOCUMENT_FIELDS["profiles"]
    for difference in document["differences"]:
        assert difference.keys() >= DOCUMENT_FIELDS["differences"]


@each_result
def test_what_is_written_is_the_document(result: BenchResult) -> None:
    assert json.loads(written(result, Path("run.json"))) == strict(result)


def test_the_document_says_what_it_is_and_how_it_was_measured() -> None:
    document = strict(FULL)
    assert (document["schema_version"], document["kind"]) == (SCHEMA_VERSION, "bench")
    assert (document["partial"], document["suite"], document["cores"]) == (False, None, [1])
    assert document["options"] == {
        "threads": 1,
        "batch": 1,
        "runtimes": [],
        "baseline": "plain backbone",
        "iterations": 36,
        "min_time_s": 0.5,
        "protocol": "interleaved",
        "methods": [],
    }
    assert document["environment"] == MACHINE.record
    assert document["notes"] == list(FULL.notes)
    assert document["peak"]["best"]["gflops"] == 81.25
    assert [kernel["gflops"] for kernel in document["peak"]["tried"]] == [40.0]


def test_a_row_of_the_document_holds_its_figures_and_samples() -> None:
    row, saved = FULL.rows[1], strict(FULL)["rows"][1]
    assert saved["samples_ms"] == row.samples.values.tolist()
    assert saved["blocks"] == [0] * 4 + [1] * 4 + [2] * 4
    assert saved["ratio"] == {
        "value": 1.2345,
        "low": 1.2 / 1.012,
        "high": 1.25 * 1.012,
        "bootstrap_low": 1.2,
        "bootstrap_high": 1.25,
        "noise_floor": 0.012,
        "verdict": "slower",
    }
    assert saved["latency_ms"]["median"] == row.latency.median
    assert saved["latency_ms"]["runs"] == 36
    assert (saved["share_of_peak"], saved["unavailable"]) == (0.61, None)


def test_a_row_without_figures_has_nulls_and_its_reason() -> None:
    saved = strict(FULL)["rows"][2]
    assert saved["samples_ms"] == saved["blocks"] == []
    assert [saved[name] for name in ("latency_ms", "ratio", "share_of_peak", "cold_start")] == [None] * 4
    assert saved["unavailable"].startswith("OpenVINO is not installed")


def test_a_partial_result_says_so() -> None:
    document = strict(PARTIAL)
    assert document["partial"] is True
    assert document["peak"] is None
    assert document["noise_floors"][0]["value"] is None
    assert document["noise_floors"][0]["ratio"]["low"] is None


def test_a_suite_is_named_with_its_networks() -> None:
    document = strict(TABLE1)
    assert document["suite"] == "table1"
    assert [network["name"] for network in document["networks"]] == [entry.name for entry in ENTRIES]
    assert document["networks"][1]["printed"]["cpu_ms"] == 28.43
    assert document["networks"][1]["remark"] == "prints too much"
    assert document["networks"][2]["printed"] is None


def test_a_profile_is_saved_whole_in_the_order_of_execution() -> None:
    profile = strict(FULL)["profiles"][1]
    assert [layer["name"] for layer in profile["layers"]] == [layer.name for layer in FULL.findings.profiles[1].layers]
    assert profile["groups_us"]["pre-scale"] == 12.0
    assert profile["operators"]["GlobalAveragePool"] == {"nodes": 1, "us": 9.0}
    assert strict(FULL)["differences"] == [
        {
            "name": "net.onnx",
            "baseline": PLAIN,
            "difference_ms": 2.5,
            "extra_macs_ms": 2.25,
            "overhead_ms": 0.25,
        }
    ]


def test_a_baseline_that_is_a_saved_run_is_recorded_by_its_path(tmp_path: Path) -> None:
    path = save(PAIR, tmp_path)
    options = BenchOptions(Cpu(), baseline=read_run(path))
    assert strict(replace(PAIR, options=options))["options"]["baseline"] == str(path)


# Formats


@pytest.mark.parametrize("name", ["run.json", "run.csv", "run.md", "folder.x/run.json"])
def test_a_name_tells_the_format(name: str) -> None:
    check_format(Path(name))


@pytest.mark.parametrize("name", ["run", "run.txt", "run.json.gz", "run.JSON", ".json"])
def test_a_name_that_tells_no_format_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match=r"`save` writes \.json, \.csv, \.md; .* not '"):
        check_format(Path(name))


def test_a_cold_start_of_one_process_is_in_the_document() -> None:
    document = strict(result_of(measured("net", cold=ColdStart(1.0, 2.0, 3.0, 4, 5))))
    assert list(document["rows"][0]["cold_start"].values()) == [1.0, 2.0, 3.0, 4, 5, None, None, None]
