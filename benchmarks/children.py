"""Children materialised, shared, or multiplied on the fly: file, load time, resident memory and latency.

Load time and memory are medians over fresh processes that import nothing but ONNX Runtime; latency is measured
interleaved in one process, beside the plain backbone, on one thread. Weights are random (`make_random.py`): none of
these figures depends on their values.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from table import RUNTIME_NAMES, by_file, interval, write_table

from kdna_deploy.benchmark.cpu.cold_start import PROCESSES
from kdna_deploy.benchmark.cpu.device import Cpu
from kdna_deploy.benchmark.device import BenchOptions
from kdna_deploy.benchmark.protocol import Settings
from kdna_deploy.benchmark.result import Row
from kdna_deploy.benchmark.run import bench
from kdna_deploy.targets.onnx.export import export_fused
from kdna_deploy.targets.onnx.options import OnnxOptions
from kdna_deploy.targets.openvino.export import export_openvino
from kdna_deploy.targets.source import Request, open_fused_source

ROOT = Path(__file__).resolve().parent.parent
ARCHITECTURES = ("resnet18", "resnet50", "mobilenet_v2", "mobilenet_v2_1d2")
LAYOUTS = ("materialised", "shared", "on the fly")


def export_layouts(arch: str, folder: Path) -> list[Path]:
    """The three layouts of a random network of `arch`; OpenVINO has no children on the fly."""
    checkpoint = folder / f"{arch}.pth.tar"
    script = ROOT / "sample_checkpoints" / "make_random.py"
    subprocess.run([sys.executable, script, "--arch", arch, "--out", checkpoint], check=True, cwd=ROOT)
    paths = []
    for layout in LAYOUTS:
        opened = open_fused_source(checkpoint, Request(children="materialize" if layout == LAYOUTS[0] else "share"))
        paths.append(folder / f"{arch}, {layout}.onnx")
        export_fused(opened, paths[-1], OnnxOptions(on_the_fly=layout == "on the fly"))
        if layout != "on the fly":
            paths.append(paths[-1].with_suffix(".xml"))
            export_openvino(opened, paths[-1])
    return paths


def measure(arch: str, folder: Path, settings: Settings) -> list[list[str]]:
    """Table rows of one architecture."""
    paths = export_layouts(arch, folder)
    result = bench(paths, BenchOptions(Cpu(cold_start=True), settings=settings))
    measured = by_file(result.rows)
    return [row(path, measured[path.name]) for path in sorted(paths, key=lambda path: path.suffix)]


def row(path: Path, measured: Row) -> list[str]:
    cold = measured.figures.cold
    assert cold is not None and measured.latency is not None
    return [
        *path.stem.split(", "),
        RUNTIME_NAMES[path.suffix],
        f"{measured.file_bytes / 1e6:.2f} MB",
        f"{cold.load_ms:.0f} ms",
        f"{cold.resident_bytes / 1e6:.0f} MB",
        f"{measured.latency.median:.2f} ms",
        interval(measured),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--min-time", type=float, default=10.0, help="seconds of latency measuring per architecture")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "benchmarks" / "children.md")
    options = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for arch in ARCHITECTURES:
            print(f"{arch} …", file=sys.stderr)
            rows += measure(arch, Path(folder), Settings(100, options.min_time))
    write_table(
        options.out,
        "Children: materialised, shared, on the fly",
        "One thread, batch 1, 224×224. Load time, and resident memory of the whole process after the first inference: "
        f"medians of {PROCESSES} fresh processes. Ratio: to the plain backbone on the same runtime, with its 95 % "
        "interval.",
        ["network", "children", "on", "file", "load", "memory", "latency", "ratio to plain"],
        rows,
    )


if __name__ == "__main__":
    main()
