"""Networks with a kernel for each image: do their files compute what the published code computes, and how fast?

    golden     distance of the logits from those of the published code in float64, over the largest logit: of the
               `.fused.pt2`, of the ONNX file for one image, and of that for any batch, which gets three
    torch.onnx the same network as PyTorch's own exporter writes it for one image: neither folded nor respelled
    batch 1    our file for one image; `any` ours for any batch, with one image and with four
    engines    what TensorRT-RTX builds of the network ahead of time, for one image and for 1 to 4: nothing runs

KARST's networks are merged, and are compared alone: their files are the plain ones.

Weights are those of the published layouts' fixtures (tests/data/systems), for latency does not depend on them. One
thread, pinned; ratios to the plain backbone for one image, interleaved (kdna_deploy/benchmark/protocol.py).
"""

from __future__ import annotations

import argparse
import contextlib
import io
import logging
import sys
import tempfile
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from importlib import metadata
from pathlib import Path

import numpy as np
import psutil
import torch
from numpy.typing import NDArray
from table import write_table

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from kdna_deploy.benchmark.cpu.affinity import pinned  # noqa: E402
from kdna_deploy.benchmark.cpu.latency import measure_latency  # noqa: E402
from kdna_deploy.benchmark.plan import images_for  # noqa: E402
from kdna_deploy.benchmark.protocol import Settings  # noqa: E402
from kdna_deploy.benchmark.statistics import paired_ratio  # noqa: E402
from kdna_deploy.benchmark.untrained import Untrained  # noqa: E402
from kdna_deploy.errors import KdnaError  # noqa: E402
from kdna_deploy.graph.file import load_fused, save_fused  # noqa: E402
from kdna_deploy.images.interface import PLAIN  # noqa: E402
from kdna_deploy.network.architecture import Architecture  # noqa: E402
from kdna_deploy.network.families import ARCHITECTURES  # noqa: E402
from kdna_deploy.network.load import load_network  # noqa: E402
from kdna_deploy.runtimes.onnx_file import file_bytes  # noqa: E402
from kdna_deploy.runtimes.ort import OrtSession  # noqa: E402
from kdna_deploy.targets.onnx.export import export_fused  # noqa: E402
from kdna_deploy.targets.onnx.options import OnnxOptions  # noqa: E402
from kdna_deploy.targets.onnx.prepare import prepare_onnx  # noqa: E402
from kdna_deploy.targets.source import Request, open_fused_source  # noqa: E402
from kdna_deploy.verbs.export import export  # noqa: E402
from tests.data import fill  # noqa: E402
from tests.data.systems.fill_systems import golden_input, state_dict  # noqa: E402

GOLDENS = ROOT / "tests" / "data" / "systems" / "golden"
SHAPE = (3, 224, 224)
_GPU = "8.9"
MEASURED = (
    *("kw1x_resnet18", "kw1d4x_resnet18", "kw1x_resnet50", "kw1x_mobilenetv2_100", "kw1x_mobilenetv2_050"),
    *("kw1x_convnext_tiny", "od4x_resnet18", "od4x_mobilenetv2_100"),
)


@dataclass(frozen=True)
class Files:
    """What was made of a network, and how far the goldens are."""

    one: Path
    any: Path
    by_torch: Path
    distances: tuple[float, float, float]


def made(arch: str, folder: Path, measured: bool) -> Files:
    """The files of `arch` with the fixture's weights; PyTorch's own is for measuring alone."""
    checkpoint = folder / f"{arch}.pth"
    torch.save({"model": state_dict(arch)}, checkpoint)
    opened = open_fused_source(checkpoint, Request())
    save_fused(opened.graph, opened.provenance, folder / f"{arch}.fused.pt2")
    one, dynamic, by_torch = (folder / f"{arch}-{form}.onnx" for form in ("one", "any", "torch"))
    export_fused(opened, one, OnnxOptions(target="cpu", batch=1))
    export_fused(opened, dynamic, OnnxOptions(target="cpu"))
    if measured:
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.onnx.export(load_network(checkpoint).module, (torch.zeros(1, *SHAPE),), by_torch, verbose=False)
    return Files(one, dynamic, by_torch, _distances(arch, folder / f"{arch}.fused.pt2", one, dynamic))


def _distances(arch: str, fused: Path, one: Path, dynamic: Path) -> tuple[float, float, float]:
    # KARST's goldens were made with noise alone.
    images = fill.golden_input(shape=(3, *SHAPE)) if arch.startswith("karst") else golden_input()
    golden = np.load(GOLDENS / f"{arch}.npz")["logits64"]
    graph = load_fused(fused).graph(images).numpy()
    with OrtSession(one, 1) as session:
        single = np.concatenate([session.run(image[None]) for image in images.numpy()])
    with OrtSession(dynamic, 1) as session:
        together = session.run(images.numpy())
    return _distance(graph, golden), _distance(single, golden), _distance(together, golden)


def _distance(logits: NDArray[np.float32], golden: NDArray[np.float64]) -> float:
    return float(np.abs(logits - golden).max() / np.abs(golden).max())


def engines(arch: str, folder: Path) -> list[str]:
    """Size of each engine and the seconds that it took, or why there is none."""
    checkpoint = folder / f"{arch}.pth"
    torch.save({"model": state_dict(arch)}, checkpoint)
    cells = []
    for batch in ("1", "1:2:4"):
        path, begun = folder / f"{arch}.rtx.engine", time.perf_counter()
        try:
            export(checkpoint, path, tensorrt_rtx=True, compute_capability=(_GPU,), batch=batch)
            cells.append(f"{path.stat().st_size / 1e6:.1f} MB, {time.perf_counter() - begun:.0f} s")
        except KdnaError as error:
            cells.append(str(error))
    return cells


def measure(arch: str, files: Files, folder: Path, settings: Settings) -> list[str]:
    """Ratios to the plain backbone, with their intervals."""
    plain = Untrained(_plain(arch), SHAPE, OnnxOptions(target="cpu", batch=1), folder / f"{arch}-plain")
    prepared = prepare_onnx(files.one, folder / f"{arch}.prepared.onnx").path
    paths = (plain.source("onnx").path, files.one, prepared, files.any, files.by_torch, files.any)
    images = [images_for(SHAPE, batch, PLAIN) for batch in (1, 1, 1, 1, 1, 4)]
    samples = measure_latency([partial(OrtSession, path, 1) for path in paths], images, settings).samples
    ratios = [paired_ratio(taken, samples[0]) for taken in samples[1:]]
    each = [1.0, 1.0, 1.0, 1.0, 0.25]
    return [
        f"{part * ratio.value:.2f} ({part * ratio.interval[0]:.2f}–{part * ratio.interval[1]:.2f})"
        if ratio.interval
        else f"{part * ratio.value:.2f}"
        for part, ratio in zip(each, ratios, strict=True)
    ]


def _plain(arch: str) -> Architecture:
    return ARCHITECTURES[arch].plain


def write_engines(archs: Sequence[str], table: Path) -> None:
    rows = []
    for arch in archs:
        print(f"{arch} …", file=sys.stderr)
        with tempfile.TemporaryDirectory() as name:
            rows.append([arch, *engines(arch, Path(name))])
    write_table(
        table,
        "Kernels computed for each image: engines",
        f"TensorRT-RTX {metadata.version('tensorrt-rtx-cu13')}, for GPUs of compute capability {_GPU}; size, and "
        "seconds from the checkpoint on. Built, and not run.",
        ["network", "batch 1", "batch 1 to 4"],
        rows,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--min-time", type=float, default=8.0, help="seconds of measuring per network")
    parser.add_argument("--arch", action="append", help="only this architecture; repeatable")
    parser.add_argument("--goldens", action="store_true", help="compare with the goldens of all, and measure nothing")
    parser.add_argument("--engines", action="store_true", help="build engines of all, and measure nothing")
    parser.add_argument("--out", type=Path, help="Markdown file; by default in docs/benchmarks")
    options = parser.parse_args()
    table = ROOT / "docs" / "benchmarks" / ("goldens.md" if options.goldens else "systems.md")
    logging.disable(logging.WARNING)
    known = sorted(path.stem for path in GOLDENS.glob("*.npz"))
    if options.engines:
        write_engines(options.arch or known, options.out or ROOT / "docs" / "benchmarks" / "system-engines.md")
        return
    rows, busy = [], []
    for arch in options.arch or (known if options.goldens else MEASURED):
        print(f"{arch} …", file=sys.stderr)
        with tempfile.TemporaryDirectory() as name:
            files = made(arch, Path(name), not options.goldens)
            row = [arch, f"{file_bytes(files.one) / 1e6:.1f}", *(f"{one:.1e}" for one in files.distances)]
            if not options.goldens:
                busy.append(psutil.cpu_percent(interval=2.0))
                with pinned(1):
                    row += measure(arch, files, Path(name), Settings(6, options.min_time))
            rows.append(row)
    heading = ["network", "MB", "`.fused.pt2`", "batch 1", "any batch, 3"]
    ratios = ["batch 1", "batch 1, prepared", "any, one image", "torch.onnx", "any, each of four"]
    others = f" Other work took {min(busy):.0f} to {max(busy):.0f} % of its cores right before each." if busy else ""
    write_table(
        options.out or table,
        "Kernels computed for each image",
        "Distances from the published code's logits in float64, over the largest logit."
        + (
            ""
            if options.goldens
            else f" Then, one thread, pinned, 224×224: latency over that of the plain backbone.{others}"
        ),
        heading + ([] if options.goldens else ratios),
        rows,
    )


if __name__ == "__main__":
    main()
