"""How the benchmarks write down what they measured: a Markdown table for each processor, with command and versions."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from kdna_deploy.benchmark.environment import environment
from kdna_deploy.benchmark.result import Row

_SECTION = "## "  # of a file, one for each processor
_PLACES = ("--out", "--python")
_SOME = ("--arch", "--only", "--precision")  # options that leave rows out
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


def write_table(path: Path, title: str, notes: str, heading: list[str], rows: list[list[str]]) -> None:
    """Write the table to `path` under the name of this processor, and print it.

    What was measured on processors of other names stays: a ratio on one does not tell that on another. A table of some
    of the rows has a section of its own, and leaves that of all.
    """
    machine, words = environment(), _words()
    left_out = [word for name, value in words if name in _SOME for word in (name, value)]
    section = ", ".join([machine.processor, *([f"`{shlex.join(left_out)}`"] if left_out else [])])
    command = shlex.join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *(w for pair in words for w in pair if w)])
    versions = ", ".join(f"{name} {machine.versions[name]}" for name in ("onnxruntime", "torch"))
    lines = [
        f"Made by `{command}` on {machine.processor}, {machine.cores} cores, {versions}.",
        notes,
        "",
        _line(heading),
        _line(["---"] * len(heading)),
        *map(_line, rows),
    ]
    table = "\n".join(lines)
    tables = {**_tables(path), section: table}
    path.parent.mkdir(parents=True, exist_ok=True)
    parts = [f"# {title}", *(f"{_SECTION}{name}\n\n{text}" for name, text in tables.items())]
    path.write_text("\n\n".join(parts) + "\n")
    print(table)


def _words() -> list[tuple[str, str]]:
    """What the script was called with, an option and its value each, but for places on this machine."""
    words = [part for word in sys.argv[1:] for part in (word.split("=", 1) if word.startswith("--") else [word])]
    places = [place for place, word in enumerate(words) if word.startswith("--")]
    valued = [(words[i], words[i + 1] if i + 1 < len(words) and i + 1 not in places else "") for i in places]
    return [(name, value) for name, value in valued if name not in _PLACES]


def _tables(path: Path) -> dict[str, str]:
    """Section → what was measured for it, of a file that there may be."""
    text = path.read_text() if path.is_file() else ""
    _, *sections = f"\n{text}".split(f"\n{_SECTION}")
    parts = (section.partition("\n") for section in sections)
    return {name.strip(): text.strip() for name, _, text in parts}


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"
