"""How the benchmarks write down what they measured: a Markdown table for each processor, with command and versions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from kdna_deploy.benchmark.environment import environment
from kdna_deploy.benchmark.result import Row

_SECTION = "## "  # of a file, one for each processor
RUNTIME_NAMES = {".onnx": "ONNX Runtime", ".xml": "OpenVINO"}


def by_file(rows: Sequence[Row]) -> dict[str, Row]:
    """Name of each file that was measured → its row, on the runtime that opens such files."""
    native = {".onnx": "onnxruntime", ".xml": "openvino"}
    return {row.model: row for row in rows if native.get(Path(row.model).suffix) == row.runtime}


def interval(row: Row) -> str:
    """Ratio to the baseline with its 95 % interval, noise floor included."""
    assert row.ratio is not None and row.ratio.interval is not None
    low, high = row.ratio.interval
    return f"{row.ratio.value:.3f} ({low:.3f}–{high:.3f})"


def write_table(path: Path, title: str, command: str, notes: str, heading: list[str], rows: list[list[str]]) -> None:
    """Write the table to `path` under the name of this processor, and print it.

    What was measured on processors of other names stays: a ratio on one does not tell that on another.
    """
    machine = environment()
    versions = ", ".join(f"{name} {machine.versions[name]}" for name in ("onnxruntime", "torch"))
    lines = [
        f"Made by {command} on {machine.processor}, {machine.cores} cores, {versions}.",
        notes,
        "",
        _line(heading),
        _line(["---"] * len(heading)),
        *map(_line, rows),
    ]
    table = "\n".join(lines)
    tables = {**_tables(path), machine.processor: table}
    path.parent.mkdir(parents=True, exist_ok=True)
    parts = [f"# {title}", *(f"{_SECTION}{processor}\n\n{text}" for processor, text in tables.items())]
    path.write_text("\n\n".join(parts) + "\n")
    print(table)


def _tables(path: Path) -> dict[str, str]:
    """Processor → what was measured on it, of a file that there may be."""
    text = path.read_text() if path.is_file() else ""
    _, *sections = f"\n{text}".split(f"\n{_SECTION}")
    parts = (section.partition("\n") for section in sections)
    return {processor.strip(): text.strip() for processor, _, text in parts}


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"
