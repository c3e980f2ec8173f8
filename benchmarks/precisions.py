"""Every architecture, KernelDNA and plain, in float32, in half precision, int8 and int4 as storage, and in int8, and
in float32 and int8 on OpenVINO.

Size and latency beside the plain backbone's float32 file at 224×224, and agreement with the network's own float32 file
on images that calibration has not seen. Latency does not depend on the values of weights, agreement does: the networks
are trained for a few epochs on scikit-learn's handwritten digits, enlarged to 64×64, and judged at that size.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from table import by_file, interval, write_table

from kdna_deploy.benchmark.cpu.device import Cpu
from kdna_deploy.benchmark.device import BenchOptions
from kdna_deploy.benchmark.protocol import Settings
from kdna_deploy.benchmark.result import Row
from kdna_deploy.benchmark.run import bench
from kdna_deploy.evaluation.accuracy import Fidelity, evaluate
from kdna_deploy.images.folder import Preprocessing
from kdna_deploy.images.split import Split, split_images
from kdna_deploy.network.families import ARCHITECTURES
from kdna_deploy.precision import CODES
from kdna_deploy.runtimes.int8_kernels import int8_kernels_here
from kdna_deploy.runtimes.open import open_session
from kdna_deploy.runtimes.ort import OrtSession
from kdna_deploy.targets.onnx.codes.export import StorageOptions, export_codes
from kdna_deploy.targets.onnx.export import export_fused
from kdna_deploy.targets.onnx.int8.export import Int8Options, export_int8
from kdna_deploy.targets.onnx.options import OnnxOptions
from kdna_deploy.targets.openvino.export import OpenVinoOptions, export_openvino
from kdna_deploy.targets.source import Request, open_fused_source

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "sample_checkpoints"))

from container import Recipe  # noqa: E402
from train_digits import Digits, load_split, normalised, train  # noqa: E402

TRAINED, MEASURED = 64, 224  # pixels
TRAINING, CALIBRATING = 720, 32  # digits
PRECISIONS = ("float32", "fp16 storage", "int8 storage", "int4 storage", "int8")
ON_OPENVINO = {"float32, OpenVINO": None, "int8, OpenVINO": Int8Options}
KINDS = (*PRECISIONS, *ON_OPENVINO)


@dataclass(frozen=True)
class Variant:
    """A file to measure, and how far the same file at the trained size agrees with float32; None for float32 itself."""

    network: str
    precision: str
    path: Path
    agreement: Fidelity | None


def image_files(training: Digits, held_out: Digits, size: int, folder: Path) -> Split:
    """Digits to calibrate with and to judge by, at `size`."""
    paths = []
    for name, digits in (("calibration", training.images[:CALIBRATING]), ("held_out", held_out.images)):
        images = F.interpolate(normalised(digits), size=(size, size), mode="bilinear", align_corners=False)
        paths.append(folder / f"{name}_{size}.npy")
        np.save(paths[-1], images.numpy())
    return split_images(paths[0], paths[1], (3, size, size), Preprocessing(), ARCHITECTURES["resnet18"].num_classes)


def trained(arch: str, training: Digits, epochs: int, folder: Path) -> Path:
    """A checkpoint of `arch` that tells digits from each other."""
    path = folder / f"{arch}.pth.tar"
    recipe = Recipe(epochs, base_lr=0.02, weight_decay=1e-4, warmup_epochs=1)
    network = train(ARCHITECTURES[arch], training, recipe)
    torch.save({"state_dict": network.state_dict(), "arch": arch}, path)
    return path


def export(checkpoint: Path, arch: str, size: int, images: Split, folder: Path) -> dict[str, Path]:
    """The files of one network at one size, by precision."""
    opened = open_fused_source(checkpoint, Request(arch=arch, size=(size, size)))
    paths = {kind: folder / f"{arch}, {kind}, {size}.onnx" for kind in PRECISIONS}
    export_fused(opened, paths["float32"], OnnxOptions())
    export_fused(opened, paths["fp16 storage"], OnnxOptions(weights="fp16"))
    for codes in CODES:
        export_codes(opened, paths[f"{codes} storage"], OnnxOptions(weights=codes), StorageOptions(images))
    export_int8(opened, paths["int8"], OnnxOptions(), Int8Options(images))
    for kind, quantised in ON_OPENVINO.items():
        paths[kind] = folder / f"{arch}, {kind}, {size}.xml"
        export_openvino(opened, paths[kind], OpenVinoOptions(int8=quantised and quantised(images)))
    return paths


def agreement(path: Path, reference: Path, images: Split) -> Fidelity:
    own = OrtSession(reference)
    batches = [(batch, own.run(batch).argmax(1)) for batch, _ in images.held_out()]
    found = evaluate(open_session(path), batches, own).agreement
    assert found is not None
    return found


def measure(arch: str, digits: tuple[Digits, Digits], epochs: int, folder: Path, settings: Settings) -> list[list[str]]:
    """Table rows of one architecture, the plain backbone first."""
    training, held_out = Digits(*(part[:TRAINING] for part in vars(digits[0]).values())), digits[1]
    judging = image_files(training, held_out, TRAINED, folder)
    timing = image_files(training, Digits(*(part[:1] for part in vars(held_out).values())), MEASURED, folder)
    found: list[Variant] = []
    for name in (ARCHITECTURES[arch].plain.name, arch):
        print(f"{name} …", file=sys.stderr)
        checkpoint = trained(name, training, epochs, folder)
        small = export(checkpoint, name, TRAINED, judging, folder)
        large = export(checkpoint, name, MEASURED, timing, folder)
        agreements = [None] + [agreement(small[kind], small["float32"], judging) for kind in KINDS[1:]]
        found += [Variant(name, kind, large[kind], a) for kind, a in zip(KINDS, agreements, strict=True)]
    baseline, *others = (variant.path for variant in found)
    result = bench(others, BenchOptions(Cpu(), settings=settings, baseline=baseline))
    measured = by_file(result.rows)
    own = {(v.network, v.path.suffix): measured[v.path.name] for v in found if v.precision.startswith("float32")}
    return [cells(v, measured[v.path.name], own[v.network, v.path.suffix]) for v in found]


def cells(variant: Variant, row: Row, own: Row) -> list[str]:
    """`own` is the row of the network's float32 file on the same runtime."""
    assert row.latency is not None and row.file_bytes and own.file_bytes
    kept = variant.agreement
    return [
        variant.network,
        variant.precision,
        f"{row.file_bytes / 1e6:.2f} MB",
        f"{row.file_bytes / own.file_bytes:.3f}",
        f"{row.latency.median:.2f} ms",
        interval(row) if row.ratio else "1",
        f"{ratio(row) / ratio(own):.3f}",
        f"{kept.same_top1:.1%}" if kept else "",
        f"{kept.sqnr:.0f} dB" if kept else "",
    ]


def ratio(row: Row) -> float:
    """To the plain backbone's float32 file, which is the baseline and has none."""
    return row.ratio.value if row.ratio else 1.0


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--min-time", type=float, default=10.0, help="seconds of latency measuring per architecture")
    parser.add_argument("--epochs", type=int, default=3, help="epochs of training")
    parser.add_argument("--arch", action="append", help="only this architecture; repeatable")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "benchmarks" / "precisions.md")
    options = parser.parse_args()
    digits = load_split()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for arch in options.arch or [name for name, entry in ARCHITECTURES.items() if entry.sharing]:
            rows += measure(arch, digits, options.epochs, Path(folder), Settings(100, options.min_time))
    vnni = "has no" if int8_kernels_here().entries else "has"
    write_table(
        options.out,
        "Precisions: float32, codes and halves as storage, int8",
        f"The processor {vnni} VNNI (instructions for int8). One thread, batch 1, {MEASURED}×{MEASURED}, median "
        "latency; ONNX Runtime where no other is said. Ratio to plain: to the plain backbone's float32 file on the "
        "same runtime, interleaved, with its 95 % interval; to own: to the network's own float32 file on the same "
        f"runtime. Same top-1 and SQNR: with ONNX Runtime's float32 file, on {len(digits[1].labels)} digits that "
        f"neither training nor calibration has seen, {TRAINED}×{TRAINED}. {options.epochs} epochs leave the networks "
        "undecided about many of them, so that a small change turns more answers than in a trained network.",
        ["network", "precision", "file", "of float32", "latency", "ratio to plain", "to own", "same top-1", "SQNR"],
        rows,
    )


if __name__ == "__main__":
    main()
