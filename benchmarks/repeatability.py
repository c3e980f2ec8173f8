"""Does a repeated measurement confirm the interval of the first? Measures the same files again and again.

For every pair of runs: does the ratio of each lie within the interval of the other? At least nine pairs in ten should.
Exit code 1 when they do not.
"""

from __future__ import annotations

import argparse
import itertools
import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from table import write_table

from kdna_deploy.benchmark.untrained import Untrained
from kdna_deploy.network.families import ARCHITECTURES
from kdna_deploy.targets.onnx.options import OnnxOptions

ROOT = Path(__file__).resolve().parent.parent
NAMES = ("resnet18", "resnet50", "mobilenet_v2", "mobilenet_v2_1d2")
SHAPE = (3, 224, 224)
WANTED = 0.9


@dataclass(frozen=True)
class Run:
    """Ratio to the plain backbone in one run, with its interval, and the run's noise floor."""

    value: float
    low: float
    high: float
    floor: float

    def contains(self, other: Run) -> bool:
        return self.low <= other.value <= self.high


def run(path: Path, folder: Path, min_time: float) -> Run:
    """One run of the real command."""
    saved = folder / "run.json"
    command = [sys.executable, "-m", "kdna_deploy", "bench", path, "--no-cold-start", "--save", saved]
    done = subprocess.run([*command, "--min-time", str(min_time)], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr)
    data = json.loads(saved.read_text())
    ratio = next(row["ratio"] for row in data["rows"] if row["ratio"])
    return Run(ratio["value"], ratio["low"], ratio["high"], ratio["noise_floor"])


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=6)
    parser.add_argument("--min-time", type=float, default=3.0, help="as for bench")
    parser.add_argument("--arch", choices=NAMES, action="append", help="leave out the others")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "benchmarks" / "repeatability.md")
    options = parser.parse_args()
    rows, confirmed, pairs = [], 0, 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = {
            arch: Untrained(ARCHITECTURES[arch], SHAPE, OnnxOptions(), folder / arch).source("onnx").path
            for arch in options.arch or NAMES
        }
        # One after the other, not one architecture at a time: the runs of each are then minutes apart.
        found: dict[str, list[Run]] = {arch: [] for arch in files}
        for number in range(options.runs):
            for arch, path in files.items():
                print(f"run {number + 1} of {options.runs}: {arch}", file=sys.stderr)
                found[arch].append(run(path, folder, options.min_time))
    for arch, runs in found.items():
        inside = [one.contains(other) for one, other in itertools.permutations(runs, 2)]
        confirmed, pairs = confirmed + sum(inside), pairs + len(inside)
        values = [r.value for r in runs]
        rows.append(
            [
                arch,
                f"{min(values):.3f}–{max(values):.3f}",
                f"{sum(r.high - r.low for r in runs) / len(runs) / 2:.3f}",
                f"{sum(r.floor for r in runs) / len(runs):.1%}",
                f"{sum(inside)} of {len(inside)}",
            ]
        )
    rows.append(["all", "", "", "", f"{confirmed} of {pairs} ({confirmed / pairs:.0%})"])
    write_table(
        options.out,
        "Repeatability of `bench`",
        f"{options.runs} runs of `kdna-deploy bench --min-time {options.min_time:g}` for each network, every run a "
        "process of its own. Confirmed: ordered pairs of runs in which one's ratio lies in the other's interval.",
        ["network", "ratios to plain", "± interval, mean", "noise floor, mean", "confirmed"],
        rows,
    )
    return 0 if confirmed >= WANTED * pairs else 1


if __name__ == "__main__":
    sys.exit(main())
