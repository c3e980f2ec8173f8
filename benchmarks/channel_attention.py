"""Channel attention kept, frozen and dropped on the two sample networks: accuracy and latency.

Gates are calibrated on training digits; accuracy is that of the 360 held-out ones, through ONNX Runtime.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from table import RUNTIME_NAMES, by_file, interval, write_table

from kdna_deploy.benchmark.cpu.device import Cpu
from kdna_deploy.benchmark.device import BenchOptions
from kdna_deploy.benchmark.protocol import Settings
from kdna_deploy.benchmark.run import bench
from kdna_deploy.graph.freezing import AttentionChoice, AttentionOptions
from kdna_deploy.images.batch import Images
from kdna_deploy.runtimes.open import open_session
from kdna_deploy.targets.onnx.export import export_fused
from kdna_deploy.targets.onnx.options import OnnxOptions
from kdna_deploy.targets.openvino.export import export_openvino
from kdna_deploy.targets.source import Request, open_fused_source

ROOT = Path(__file__).resolve().parent.parent
SAMPLES = ROOT / "sample_checkpoints"
sys.path.insert(0, str(SAMPLES))

from train_digits import Digits, load_split, normalised  # noqa: E402

NETWORKS = ("digits_resnet18_quarter", "digits_mobilenet_v2_1d2")
CHOICES: tuple[AttentionChoice, ...] = ("keep", "freeze", "drop")
CALIBRATION_IMAGES = 256


def batches(digits: Digits) -> Iterator[Images]:
    """The digits as network input, in batches of 64."""
    for images in torch.split(digits.images, 64):
        yield normalised(images).numpy()


def export(name: str, choice: AttentionChoice, calibration: Digits, folder: Path) -> list[Path]:
    """One sample with one choice for its channel attention, as an ONNX and an OpenVINO file."""

    def attention(_: tuple[int, int, int], recorded: object) -> AttentionOptions:
        return AttentionOptions(choice, lambda: batches(calibration))

    path = folder / f"{name}, {choice}.onnx"
    request = Request(size=(64, 64), attention=None if choice == "keep" else attention)
    opened = open_fused_source(SAMPLES / f"{name}.pth.tar", request)
    export_fused(opened, path, OnnxOptions())
    export_openvino(opened, path.with_suffix(".xml"))
    return [path, path.with_suffix(".xml")]


def hits(path: Path, held_out: Digits) -> int:
    """How many held-out digits the file recognises."""
    with open_session(path) as session:
        predicted = np.concatenate([session.run(images).argmax(1) for images in batches(held_out)])
    return int((predicted == held_out.labels.numpy()).sum())


def measure(name: str, calibration: Digits, held_out: Digits, folder: Path, settings: Settings) -> list[list[str]]:
    """Table rows of one network."""
    paths = [path for choice in CHOICES for path in export(name, choice, calibration, folder)]
    measured = by_file(bench(paths, BenchOptions(Cpu(), settings=settings)).rows)
    total = len(held_out.labels)
    rows = []
    for path in sorted(paths, key=lambda path: (path.suffix, paths.index(path))):
        choice = path.stem.rpartition(", ")[2]
        row, right = measured[path.name], hits(path, held_out)
        size, latency = f"{row.file_bytes / 1e6:.2f} MB", f"{row.latency.median:.3f} ms"
        rows.append(
            [
                name,
                choice,
                RUNTIME_NAMES[path.suffix],
                f"{right / total:.2%} ({right}/{total})",
                size,
                latency,
                interval(row),
            ]
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--min-time", type=float, default=5.0, help="seconds of latency measuring per network")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "benchmarks" / "channel_attention.md")
    options = parser.parse_args()
    training, held_out = load_split()
    calibration = training.subset(torch.arange(CALIBRATION_IMAGES))
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name in NETWORKS:
            print(f"{name} …", file=sys.stderr)
            rows += measure(name, calibration, held_out, Path(folder), Settings(200, options.min_time))
    write_table(
        options.out,
        "Channel attention: kept, frozen, dropped",
        f"One thread, batch 1, 64×64. Calibrated on {CALIBRATION_IMAGES} training digits; accuracy on held-out ones. "
        "Ratio: to the plain backbone on the same runtime in the same run, with its 95 % interval.",
        ["network", "channel attention", "on", "held-out top-1", "file", "latency", "ratio to plain"],
        rows,
    )


if __name__ == "__main__":
    main()
