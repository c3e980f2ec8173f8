"""int8 with and without the session entry that ONNX Runtime needs on x86 without VNNI, beside float32.

On a processor with VNNI the entry should change no logit and cost time; on one without, it should change logits and
the time that it costs is what exact int8 costs there. Networks of published size with fresh weights: latency does not
depend on their values. One thread, pinned; the three interleaved (kdna_deploy/benchmark/protocol.py).
"""

from __future__ import annotations

import argparse
import platform
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime
import psutil
from table import write_table

from kdna_deploy.benchmark.cpu.affinity import pinned
from kdna_deploy.benchmark.cpu.latency import measure_latency
from kdna_deploy.benchmark.protocol import Settings
from kdna_deploy.benchmark.statistics import paired_ratio, summarise
from kdna_deploy.benchmark.untrained import Untrained
from kdna_deploy.images.batch import Images
from kdna_deploy.images.folder import Preprocessing
from kdna_deploy.images.split import split_images
from kdna_deploy.network.families import ARCHITECTURES
from kdna_deploy.runtimes.int8_kernels import EXACT_INT8, int8_kernels_here
from kdna_deploy.runtimes.processor import first_processor, instruction_sets
from kdna_deploy.runtimes.session import Closing
from kdna_deploy.targets.onnx.int8.export import Int8Options, export_int8
from kdna_deploy.targets.onnx.options import OnnxOptions
from kdna_deploy.targets.source import Request, open_fused_source

ROOT = Path(__file__).resolve().parent.parent
SHAPE = (3, 224, 224)
CALIBRATING = 10  # random images
INT8_FLAGS = ("avx2", "avx_vnni", "avx512bw", "avx512_vnni", "amx_int8")


class Forced(Closing):
    """A `Session` with the entry or without it, whatever the processor needs."""

    batch = image_shape = None
    runtime = f"ONNX Runtime {onnxruntime.__version__}"

    def __init__(self, path: Path, entry: bool) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        if entry:
            options.add_session_config_entry(*EXACT_INT8)
        self.name, self.options = path.name, dict([EXACT_INT8]) if entry else {}
        self._session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def run(self, images: Images) -> Images:
        return self._session.run(None, {"input": images})[0]

    def _release(self) -> None:
        del self._session


@dataclass(frozen=True)
class Files:
    """One network in float32 and in int8."""

    float32: Path
    int8: Path


def files(arch: str, folder: Path) -> Files:
    made = Untrained(ARCHITECTURES[arch], SHAPE, OnnxOptions(), folder / arch)
    checkpoint, path = made.source("checkpoint").path, folder / f"{arch}.int8.onnx"
    images = folder / "images.npy"
    np.save(images, np.random.default_rng(0).standard_normal((CALIBRATING, *SHAPE), dtype=np.float32))
    split = split_images(images, None, SHAPE, Preprocessing(), ARCHITECTURES[arch].num_classes)
    export_int8(open_fused_source(checkpoint, Request(arch=arch)), path, OnnxOptions(), Int8Options(split))
    return Files(made.source("onnx").path, path)


def measure(arch: str, network: Files, settings: Settings) -> list[str]:
    """A table row."""
    images = np.random.default_rng(1).standard_normal((1, *SHAPE), dtype=np.float32)
    openers = [
        lambda: Forced(network.float32, entry=False),
        lambda: Forced(network.int8, entry=False),
        lambda: Forced(network.int8, entry=True),
    ]
    plain, entry = (opener().run(images) for opener in openers[1:])
    float32, without, with_entry = measure_latency(openers, [images] * 3, settings).samples
    medians = [summarise(samples.values).median for samples in (float32, without, with_entry)]
    ratios = [paired_ratio(without, float32), paired_ratio(with_entry, float32)]
    return [
        arch,
        *(f"{median:.2f} ms" for median in medians),
        *(f"{ratio.value:.3f}" for ratio in ratios),
        "the same, bit for bit" if np.array_equal(plain, entry) else f"differ by {np.abs(plain - entry).max():.1e}",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--min-time", type=float, default=10.0, help="seconds of measuring per network")
    parser.add_argument("--arch", action="append", help="only this architecture; repeatable")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "benchmarks" / "int8_kernels.md")
    options = parser.parse_args()
    settings = Settings(100, options.min_time)
    rows, busy = [], []
    with tempfile.TemporaryDirectory() as name:
        for arch in options.arch or [name for name, entry in ARCHITECTURES.items() if entry.sharing]:
            print(f"{arch} …", file=sys.stderr)
            network = files(arch, Path(name))
            busy.append(psutil.cpu_percent(interval=2.0))
            with pinned(1):
                rows.append(measure(arch, network, settings))
    flags = instruction_sets(first_processor())
    told = ", ".join(flag for flag in INT8_FLAGS if flag in flags) if flags else "not told by the system"
    kind = "needs the entry" if int8_kernels_here().entries else "does not need the entry, and sessions do not set it"
    write_table(
        options.out,
        "int8 kernels: with and without the session entry for exact int8",
        f"Processor: {platform.machine()}, of the instructions for int8 it has {told}: it {kind}. One thread, batch 1, "
        f"{SHAPE[1]}×{SHAPE[2]}, pinned, median latency, interleaved; entry: `{'='.join(EXACT_INT8)}`. Other work on "
        f"the machine took {min(busy):.0f} to {max(busy):.0f} % of its cores right before each network was measured. "
        "Measured on this processor alone; what the entry does on others is not.",
        ["network", "float32", "int8", "int8, entry", "int8 to float32", "with entry", "logits with and without"],
        rows,
    )


if __name__ == "__main__":
    main()
