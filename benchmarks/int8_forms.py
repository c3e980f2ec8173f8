"""What of a network ONNX Runtime should compute in int8: forms of an int8 file, and what each costs beside float32.

The forms differ in which nodes stay in float32 (`targets/onnx/int8/quantize.py`, `float_nodes`), but for the one whose
gates are matrix products. All of a network's are measured interleaved with its own float32 file.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from unittest.mock import patch

import numpy as np
import onnx
import onnx_ir as ir
from prescale_forms import NAMES, ROOT, SHAPE, fused, with_matrix_products
from table import write_table

from kdna_deploy.benchmark.cpu.affinity import pinned
from kdna_deploy.benchmark.cpu.latency import measure_latency
from kdna_deploy.benchmark.protocol import Settings
from kdna_deploy.benchmark.statistics import Ratio, noise_floor, paired_ratio
from kdna_deploy.network.families import ARCHITECTURES
from kdna_deploy.runtimes.int8_kernels import int8_kernels_here
from kdna_deploy.runtimes.ort import OrtSession
from kdna_deploy.targets.onnx.convert import to_onnx
from kdna_deploy.targets.onnx.gates import gate_layers, prescales
from kdna_deploy.targets.onnx.int8 import calibration, quantize
from kdna_deploy.targets.onnx.int8.compact import compact
from kdna_deploy.targets.onnx.int8.quantize import small_kernels

Kept = Callable[[ir.Graph], set[str]]
CALIBRATING = 8  # random images


def whole_gates(graph: ir.Graph) -> set[str]:
    return {node.name or "" for gate in prescales(graph).values() for node in gate}


def as_written(graph: ir.Graph) -> set[str]:
    return gate_layers(graph) | small_kernels(graph)


# Form → what stays in float32, and whether gates are matrix products.
FORMS: dict[str, tuple[Kept, bool]] = {
    "gates in float32, with their pools": (whole_gates, False),
    "… and a small first kernel": (lambda graph: whole_gates(graph) | small_kernels(graph), False),
    "gates in float32, pooled in codes": (gate_layers, False),
    "… and a small first kernel (`--precision int8`)": (as_written, False),
    "… the same, gates as matrix products": (as_written, True),
    "nothing but a small first kernel": (small_kernels, False),
}


def quantised(source: Path, target: Path, kept: Kept) -> None:
    """Write the float32 file `source` in int8, calibrated with random images."""
    images = np.random.default_rng(0).standard_normal((CALIBRATING, *SHAPE), dtype=np.float32)
    ranges = calibration.calibrate(source, [images], "minmax")
    with patch.object(quantize, "float_nodes", lambda graph, _: kept(graph)):
        model = ir.from_proto(quantize.quantise(source, ranges))
    compact(model)
    onnx.save(ir.to_proto(model), target)


def measure(name: str, folder: Path, settings: Settings) -> tuple[dict[str, Ratio], float]:
    """Form → ratio to the network's float32 file; the noise floor."""
    graph, _ = fused(ARCHITECTURES[name])
    own, plain, products = (folder / f"{name}-{kind}.onnx" for kind in ("float", "plain", "products"))
    ir.save(to_onnx(graph, target="cpu"), own)
    ir.save(to_onnx(graph), plain)
    ir.save(with_matrix_products(to_onnx(graph)), products)
    paths = [folder / f"{name}-{number}.onnx" for number in range(len(FORMS))]
    for path, (kept, as_products) in zip(paths, FORMS.values(), strict=True):
        quantised(products if as_products else plain, path, kept)
    images = np.random.default_rng(0).standard_normal((1, *SHAPE), dtype=np.float32)
    with pinned(1):
        openers = [partial(OrtSession, path, 1) for path in (own, *paths, own)]
        samples = measure_latency(openers, [images] * len(openers), settings).samples
    baseline, *forms, twin = samples
    floor = noise_floor(paired_ratio(twin, baseline)) or 0.0
    return {form: paired_ratio(one, baseline, floor) for form, one in zip(FORMS, forms, strict=True)}, floor


def cell(ratio: Ratio) -> str:
    low, high = ratio.interval or (ratio.value, ratio.value)
    return f"{ratio.value:.3f} ({low:.3f}–{high:.3f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--min-time", type=float, default=20.0, help="seconds of measuring per architecture")
    parser.add_argument("--arch", choices=NAMES, action="append", help="leave out the others")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "benchmarks" / "int8_forms.md")
    options = parser.parse_args()
    names = options.arch or list(NAMES)
    columns: dict[str, list[str]] = {form: [] for form in FORMS}
    floors = []
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            print(f"{name} …", file=sys.stderr)
            ratios, floor = measure(name, Path(folder), Settings(100, options.min_time))
            floors.append(f"{floor:.1%}")
            for form, ratio in ratios.items():
                columns[form].append(cell(ratio))
    kernels = "without VNNI, so with the session option for that" if int8_kernels_here().entries else "with VNNI"
    write_table(
        options.out,
        "Forms of an int8 file on ONNX Runtime",
        "Latency in int8 ÷ latency of the network's own float32 file (`--target cpu`), interleaved; 95 % interval, "
        f"noise floor included. A processor {kernels}. One thread, batch 1, 224×224, untrained weights.",
        ["in float32", *names],
        [*([form, *cells] for form, cells in columns.items()), ["noise floor", *floors]],
    )


if __name__ == "__main__":
    main()
