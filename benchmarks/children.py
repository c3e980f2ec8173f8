"""Children materialised, shared, or multiplied on the fly: file, load time, resident memory and latency.

Load time and memory are medians over fresh processes that import nothing but ONNX Runtime; latency is measured
interleaved in one process, beside the plain backbone, on one thread. Weights are random (`make_random.py`): none of
these figures depends on their values.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from table import interval, write_table

from kdna_deploy.benchmark.latency import LatencySettings
from kdna_deploy.benchmark.run import BenchOptions, BenchResult, bench
from kdna_deploy.fused_source import Request, open_fused_source
from kdna_deploy.onnx_export import OnnxOptions, export_fused

ROOT = Path(__file__).resolve().parent.parent
ARCHITECTURES = ("resnet18", "resnet50", "mobilenet_v2", "mobilenet_v2_1d2")
LAYOUTS = ("materialised", "shared", "on the fly")
PROCESSES = 5

# What a deployment does: import ONNX Runtime, open the file, run one image.
FRESH = """
import json, sys, time, numpy, onnxruntime, psutil
path, disabled = sys.argv[1], json.loads(sys.argv[2])
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
options.log_severity_level = 3
process = psutil.Process()
before, start = process.memory_info().rss, time.perf_counter()
session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"], disabled_optimizers=disabled)
load = time.perf_counter() - start
session.run(None, {"input": numpy.zeros((1, 3, 224, 224), numpy.float32)})
print(json.dumps([load * 1e3, (process.memory_info().rss - before) / 1e6]))
"""


@dataclass(frozen=True)
class Exported:
    """An exported layout and the runtime's optimizers that must stay off for it."""

    layout: str
    path: Path
    disabled: tuple[str, ...] = ()


def export_layouts(arch: str, folder: Path) -> list[Exported]:
    """The three layouts of a random network of `arch`."""
    checkpoint = folder / f"{arch}.pth.tar"
    script = ROOT / "sample_checkpoints" / "make_random.py"
    subprocess.run([sys.executable, script, "--arch", arch, "--out", checkpoint], check=True, cwd=ROOT)
    exported = []
    for layout in LAYOUTS:
        options = OnnxOptions(on_the_fly=layout == "on the fly")
        opened = open_fused_source(checkpoint, Request(children="materialize" if layout == LAYOUTS[0] else "share"))
        path = folder / f"{arch}, {layout}.onnx"
        export_fused(opened, path, options)
        exported.append(Exported(layout, path, ("ConstantFolding",) if options.on_the_fly else ()))
    return exported


def fresh_process(exported: Exported) -> tuple[float, float]:
    """Load time in milliseconds and resident memory in megabytes of one fresh process."""
    command = [sys.executable, "-c", FRESH, str(exported.path), json.dumps(exported.disabled)]
    load, memory = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return load, memory


def measure(arch: str, folder: Path, settings: LatencySettings) -> list[list[str]]:
    """Table rows of one architecture."""
    layouts = export_layouts(arch, folder)
    # Interleaved, so that drift of the machine falls on all alike.
    rounds = [[fresh_process(exported) for exported in layouts] for _ in range(PROCESSES)]
    result = bench([exported.path for exported in layouts], BenchOptions(settings=settings))
    return [row(arch, exported, [done[i] for done in rounds], result) for i, exported in enumerate(layouts)]


def row(arch: str, exported: Exported, fresh: list[tuple[float, float]], result: BenchResult) -> list[str]:
    measured = next(r for r in result.rows if r.name == exported.path.name)
    return [
        arch,
        exported.layout,
        f"{exported.path.stat().st_size / 1e6:.2f} MB",
        f"{statistics.median(load for load, _ in fresh):.0f} ms",
        f"{statistics.median(memory for _, memory in fresh):.0f} MB",
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
            rows += measure(arch, Path(folder), LatencySettings(100, options.min_time))
    write_table(
        options.out,
        "Children: materialised, shared, on the fly",
        "`python benchmarks/children.py`",
        "One thread, batch 1, 224×224. Load time and memory (growth of resident memory up to the first inference): "
        f"medians of {PROCESSES} fresh processes. Ratio: to the plain backbone, with its 95 % interval.",
        ["network", "children", "file", "load", "memory", "latency", "ratio to plain"],
        rows,
    )


if __name__ == "__main__":
    main()
