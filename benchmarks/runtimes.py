"""Every runtime that is installed here, in every precision that it has: size, latency, opening, memory, agreement.

The architectures at 224×224, one thread, pinned. A ratio is to the plain backbone in float32 on the same runtime,
measured in turn with the file: what shared kernels, attention and the precision make of it there. Then all files of a
network are measured in turn: the ratio to its own float32 ONNX file compares runtimes. Agreement is with that file, on
images that calibration has not seen: the networks are trained for a few epochs on
scikit-learn's handwritten digits (`precisions`). What cannot be written is a row with the reason, and a runtime that is
not installed is named above the table.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from precisions import TRAINING, Digits, image_files, load_split, trained
from table import interval, write_table

import kdna_deploy as kd
from kdna_deploy.benchmark.cpu.device import Cpu
from kdna_deploy.benchmark.cpu.findings import CpuFigures
from kdna_deploy.benchmark.device import BenchOptions, Group
from kdna_deploy.benchmark.plan import candidate
from kdna_deploy.benchmark.protocol import Settings
from kdna_deploy.benchmark.result import Row
from kdna_deploy.benchmark.run import measure as compare
from kdna_deploy.errors import KdnaError, RuntimeFailure
from kdna_deploy.evaluation.accuracy import evaluate
from kdna_deploy.images.split import Split
from kdna_deploy.network.families import ARCHITECTURES
from kdna_deploy.runtimes.open import open_session
from kdna_deploy.runtimes.ort import OrtSession

ROOT = Path(__file__).resolve().parent.parent
SIZE = 224
JUDGED = 100  # digits
ROUNDS = 50  # of all files of a network
ACROSS = 8
COLUMNS = (
    *("network", "runtime", "precision", "file", "latency", "ratio", "opens", "private", "of ONNX"),
    *("same top-1, SQNR", ""),
)


@dataclass(frozen=True)
class Variant:
    """A file to write: for which runtime, in which precision, with which of the words of `export`."""

    runtime: str
    precision: str
    suffix: str
    words: Mapping[str, Any] = field(default_factory=dict)


PRECISIONS: Mapping[str, Mapping[str, Any]] = {
    "float32": {},
    "fp16 weights": {"weights": "fp16"},
    "int8 weights": {"weights": "int8"},
    "int8": {"precision": "int8"},
}
FORMATS = {
    "ONNX Runtime": (".onnx", ""),
    "OpenVINO": (".xml", "openvino"),
    "ncnn": (".ncnn.param", "ncnn"),
    "MNN": (".mnn", "mnn"),
    "LiteRT": (".tflite", "litert"),
    "ExecuTorch": (".pte", "executorch"),
}
VARIANTS = [
    Variant(runtime, precision, suffix, {**words, **({word: True} if word else {})})
    for runtime, (suffix, word) in FORMATS.items()
    for precision, words in PRECISIONS.items()
]


@dataclass(frozen=True)
class Asked:
    """How long to measure a file, and in which precisions; none for all."""

    min_time: float
    iterations: int
    precisions: Sequence[str] = ()


def measure(arch: str, images: Split, checkpoint: Path, folder: Path, asked: Asked) -> tuple[list[list[str]], set[str]]:
    """Table rows of one architecture, and the runtimes that are not here."""
    network = kd.fuse(checkpoint, folder / f"{arch}.fused.pt2", arch=arch, input_size=SIZE)
    plain = plain_file(arch, folder)
    reference = folder / f"{arch}, {VARIANTS[0].precision}.onnx"
    rows, files, absent = [], dict[int, Path](), set[str]()
    for variant in VARIANTS:
        left_out = asked.precisions and variant.precision not in asked.precisions and variant is not VARIANTS[0]
        if variant.runtime in absent or left_out:
            continue
        print(f"{arch}: {variant.runtime}, {variant.precision} …", file=sys.stderr)
        path = folder / f"{arch}, {variant.precision}{variant.suffix}"
        calibrated = variant.words.keys() & {"precision"} or variant.words.get("weights") == "int8"
        given = {"calibration": folder / f"calibration_{SIZE}.npy"} if calibrated else {}
        try:
            kd.export(network, path, **variant.words, **given)
        except RuntimeFailure:
            absent.add(variant.runtime)
            continue
        except KdnaError as error:
            rows.append([arch, variant.runtime, variant.precision, *[""] * 7, str(error)])
            continue
        try:
            found = kd.bench(path, baseline=plain, min_time=asked.min_time, iterations=asked.iterations)
            row = next(row for row in found.rows if row.model == path.name)
        except KdnaError as error:  # no reason to lose the rows that have been measured
            rows.append([arch, variant.runtime, variant.precision, *[""] * 7, str(error)])
            continue
        files[len(rows)] = path
        told = [*figures(row), "1", agreement(path, reference, images)]
        rows.append([arch, variant.runtime, variant.precision, *told, ""])
    for number, ratio in across([*files.values()], asked.min_time).items():
        rows[[*files][number]][ACROSS] = ratio
    return rows, absent


def plain_file(arch: str, folder: Path) -> Path:
    plain = ARCHITECTURES[arch].plain
    weights = folder / f"{plain.name}.pth"
    torch.save(plain.build().state_dict(), weights)
    return kd.export(weights, folder / f"{plain.name}.onnx", arch=plain.name, input_size=SIZE).path


def figures(row: Row) -> list[str]:
    assert row.latency is not None and row.file_bytes is not None
    assert isinstance(row.figures, CpuFigures)
    started = row.figures.cold
    private = f"{started.private_bytes / 1e6:.0f} MB" if started and started.private_bytes else ""
    return [
        f"{row.file_bytes / 1e6:.2f} MB",
        f"{row.latency.median:.2f} ms",
        interval(row),
        f"{started.load_ms:.0f} ms" if started else "",
        private,
    ]


def across(files: Sequence[Path], min_time: float) -> dict[int, str]:
    """Number of each of the `files` but the first → its latency in terms of the first's, all of them in one group."""
    print(f"{files[0].name} and {len(files) - 1} others in turn …", file=sys.stderr)
    options = BenchOptions(Cpu(1, cold_start=False), settings=Settings(ROUNDS, min_time))
    group = []
    for file in files:
        subject = replace(options.device.given(file, file.parent / f"{file.name} given", options), name=file.name)
        (variant,) = options.device.variants(subject, options)
        group.append(candidate(subject, variant, options))
    by_name = {row.model: row for row in compare([Group(tuple(group))], options).rows}
    return {number: interval(by_name[file.name]) for number, file in enumerate(files) if number}


def agreement(path: Path, reference: Path, images: Split) -> str:
    """Images with the same top-1, and the SQNR."""
    if path == reference:
        return "–"
    with OrtSession(reference) as own, open_session(path) as session:
        batches = [(batch, own.run(batch).argmax(1)) for batch, _ in images.held_out()]
        found = evaluate(session, batches, own).agreement
    assert found is not None
    return f"{found.same_top1:.0%}, {found.sqnr:.0f} dB"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--min-time", type=float, default=4.0, help="seconds of latency measuring per file")
    parser.add_argument("--iterations", type=int, default=100, help="timed runs of each file, at least")
    parser.add_argument("--epochs", type=int, default=3, help="epochs of training")
    parser.add_argument("--arch", action="append", help="only this architecture; repeatable")
    parser.add_argument("--precision", action="append", choices=list(PRECISIONS), help="only this one; repeatable")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "benchmarks" / "runtimes.md")
    options = parser.parse_args()
    training, held_out = (
        Digits(*(part[:count] for part in vars(digits).values()))
        for digits, count in zip(load_split(), (TRAINING, JUDGED), strict=True)
    )
    asked = Asked(options.min_time, options.iterations, options.precision or ())
    rows, absent = [], set[str]()
    for arch in options.arch or ("mobilenet_v2_1d2", "resnet18", "mobilenet_v2", "resnet50"):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            checkpoint = trained(arch, training, options.epochs, folder)
            images = image_files(training, held_out, SIZE, folder)
            found, missing = measure(arch, images, checkpoint, folder, asked)
        rows += found
        absent |= missing
        write(options.out, rows, absent)  # after each, so that what was measured stays


def write(path: Path, rows: list[list[str]], absent: set[str]) -> None:
    not_here = f" Not installed, so not measured: {', '.join(sorted(absent))}." if absent else ""
    write_table(
        path,
        "Runtimes",
        f"One thread, batch 1, {SIZE}×{SIZE}; ratio to the plain backbone in float32 on the same runtime, interleaved, "
        "with its 95 % interval; opening and private memory of fresh processes; of ONNX: to the network's float32 ONNX "
        f"file, all files of a network interleaved. Same top-1 and SQNR: with that file, on {JUDGED} digits.{not_here}",
        [*COLUMNS],
        rows,
    )


if __name__ == "__main__":
    main()
