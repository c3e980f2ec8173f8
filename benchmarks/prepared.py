"""Prepared files beside the portable ones that they are made from: opening, memory, first inference, latency.

Networks of published size with fresh weights, which none of it depends on. Opening and memory: medians over fresh
processes that take turns; private memory is what no other process uses. Latency: the two interleaved in one process
(kdna_deploy/benchmark/protocol.py). One thread, pinned.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np
import psutil
from table import write_table

from kdna_deploy.benchmark.cpu.affinity import pinned
from kdna_deploy.benchmark.cpu.cold_start import PROCESSES, TOGETHER, ColdRequest, ColdStart, measure_cold_starts
from kdna_deploy.benchmark.cpu.latency import measure_latency
from kdna_deploy.benchmark.protocol import Settings
from kdna_deploy.benchmark.statistics import paired_ratio, summarise
from kdna_deploy.benchmark.untrained import Untrained
from kdna_deploy.network.families import ARCHITECTURES
from kdna_deploy.runtimes.ort import OrtSession, session_needs
from kdna_deploy.runtimes.table import Source
from kdna_deploy.targets.onnx.options import OnnxOptions
from kdna_deploy.targets.onnx.prepare import PreparedFile, prepare_onnx

ROOT = Path(__file__).resolve().parent.parent
SHAPE = (3, 224, 224)


def prepared(arch: str, folder: Path) -> PreparedFile:
    source = Untrained(ARCHITECTURES[arch], SHAPE, OnnxOptions(), folder / arch).source("onnx").path
    return prepare_onnx(source, source.with_name(f"{arch}.prepared.onnx"))


def starts(files: list[Path]) -> list[ColdStart]:
    requests = [
        ColdRequest(file.name, "onnxruntime", Source(file), 1, (1, *SHAPE), session_needs(file)) for file in files
    ]
    return measure_cold_starts(requests)


def measure(arch: str, made: PreparedFile, settings: Settings) -> list[str]:
    """A table row: of each pair, the portable file's figure first."""
    files = [made.source, made.path]
    before, after = starts(files)
    images = np.random.default_rng(0).standard_normal((1, *SHAPE), dtype=np.float32)
    openers = [lambda file=file: OrtSession(file, threads=1) for file in files]
    portable, fast = measure_latency(openers, [images] * 2, settings).samples
    ratio = paired_ratio(fast, portable)
    low, high = ratio.interval or (float("nan"), float("nan"))
    return [
        arch,
        f"{before.load_ms:.0f} → {after.load_ms:.0f} ms ({after.load_ms / before.load_ms:.3f})",
        f"{before.first_ms:.0f} → {after.first_ms:.0f} ms",
        _shrunk(before.private_bytes, after.private_bytes),
        f"{_mb(before.shared_bytes)} → {_mb(after.shared_bytes)} MB",
        _shrunk(before.together_bytes, after.together_bytes),
        f"{summarise(portable.values).median:.2f} ms",
        f"{ratio.value:.3f} ({low:.3f}–{high:.3f})",
    ]


def _shrunk(before: int | None, after: int | None) -> str:
    share = f" ({after / before:.2f})" if before and after else ""
    return f"{_mb(before)} → {_mb(after)} MB{share}"


def _mb(size: int | None) -> str:
    return "–" if size is None else f"{size / 1e6:.0f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--min-time", type=float, default=10.0, help="seconds of measuring latency per network")
    parser.add_argument("--arch", action="append", help="only this architecture; repeatable")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "benchmarks" / "prepared.md")
    options = parser.parse_args()
    rows, busy, made_for = [], [], ""
    with tempfile.TemporaryDirectory() as name:
        for arch in options.arch or [name for name, entry in ARCHITECTURES.items() if entry.sharing]:
            print(f"{arch} …", file=sys.stderr)
            made = prepared(arch, Path(name))
            made_for = made.record.made_for
            busy.append(psutil.cpu_percent(interval=2.0))
            with pinned(1):
                rows.append(measure(arch, made, Settings(100, options.min_time)))
    write_table(
        options.out,
        "Prepared files beside portable ones",
        f"Prepared for {made_for}. One thread, batch 1, {SHAPE[1]}×{SHAPE[2]}, pinned; portable → prepared, and their "
        f"ratio. Opening, first inference and memory: medians of {PROCESSES} fresh processes, the interpreter's own "
        f"memory included; {TOGETHER} at once: the sum of their proportional set sizes. Latency: median of the "
        "portable file, and the ratio of the prepared one to it with its 95 % interval. Other work on the machine took "
        f"{min(busy):.0f} to {max(busy):.0f} % of its cores right before each network was measured.",
        ["network", "opening", "first inference", "private", "shared", f"{TOGETHER} at once", "latency", "ratio"],
        rows,
    )


if __name__ == "__main__":
    main()
