"""What it costs that a file takes pixels: layouts, and folding into the first convolution, beside a file that does not.

    float32   normalised images, which Python has to make: that is timed apart
    nchw      Cast → Div 255 → Sub mean → Div std → Conv W
    nhwc      Cast → Transpose → the same
    folded    Cast → Sub 255·mean → Conv W/(255·std), of nchw; exact up to rounding, since padding comes after

Networks of published size with fresh weights: latency does not depend on their values. One thread, pinned, batch 1; the
four interleaved (kdna_deploy/benchmark/protocol.py).
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import timeit
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import psutil
from onnx import numpy_helper
from table import write_table

from kdna_deploy.benchmark.cpu.affinity import pinned
from kdna_deploy.benchmark.cpu.latency import measure_latency
from kdna_deploy.benchmark.plan import images_for
from kdna_deploy.benchmark.protocol import Settings
from kdna_deploy.benchmark.statistics import paired_ratio, summarise
from kdna_deploy.benchmark.untrained import Untrained
from kdna_deploy.images.interface import PLAIN, Interface, normalised
from kdna_deploy.images.preprocessing import Preprocessing
from kdna_deploy.network.families import ARCHITECTURES
from kdna_deploy.runtimes.ort import OrtSession
from kdna_deploy.targets.onnx.options import OnnxOptions

ROOT = Path(__file__).resolve().parent.parent
SHAPE = (3, 224, 224)
FORMS = {"float32": PLAIN, "nchw": Interface("nchw"), "nhwc": Interface("nhwc")}


def files(arch: str, folder: Path) -> dict[str, Path]:
    made = {
        name: Untrained(ARCHITECTURES[arch], SHAPE, OnnxOptions(interface=form), folder / f"{arch}-{name}")
        for name, form in FORMS.items()
    }
    found = {name: network.source("onnx").path for name, network in made.items()}
    found["folded"] = found["nchw"].with_name("folded.onnx")
    fold(onnx.load(found["nchw"]), found["folded"])
    return found


def fold(model: onnx.ModelProto, target: Path) -> None:
    """Leave one subtraction of the preprocessing, and its scale to the first convolution."""
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    mean, std = (numpy_helper.to_array(stored[name]).astype(np.float64) for name in ("mean", "std"))
    nodes = {node.name: node for node in model.graph.node if node.name.startswith("preprocess/")}
    first = next(node for node in model.graph.node if node.op_type == "Conv")
    kernel = stored[first.input[1]]
    values = (numpy_helper.to_array(kernel) / (255 * std.reshape(1, -1, 1, 1))).astype(np.float32)
    kernel.CopyFrom(numpy_helper.from_array(values, kernel.name))
    stored["mean"].CopyFrom(numpy_helper.from_array((255 * mean).astype(np.float32), "mean"))
    cast, white, subtract, scale = (nodes[f"preprocess/{name}"] for name in ("Cast", "Div", "Sub", "Div_2"))
    subtract.input[0], subtract.output[0] = cast.output[0], scale.output[0]
    for node in (white, scale):
        model.graph.node.remove(node)
    onnx.save(model, target)


def measure(arch: str, paths: dict[str, Path], settings: Settings) -> list[str]:
    """A table row."""
    images = [images_for(SHAPE, 1, FORMS.get(name, FORMS["nchw"])) for name in paths]
    openers = [partial(OrtSession, path, 1) for path in paths.values()]
    logits = []
    for opener, given in zip(openers[1:], images[1:], strict=True):
        with opener() as session:
            logits.append(session.run(given))
    assert np.array_equal(logits[0], logits[1])
    assert np.allclose(logits[2], logits[0], rtol=0, atol=1e-5 * np.abs(logits[0]).max())
    samples = measure_latency(openers, images, settings).samples
    medians = [f"{summarise(taken.values).median:.2f} ms" for taken in samples]
    ratios = [paired_ratio(taken, samples[0]) for taken in samples[1:]]
    return [arch, *medians, *(f"{ratio.value:.3f}" for ratio in ratios)]


def in_python() -> float:
    """Milliseconds that NumPy takes to make a normalised image of pixels, the median of many."""
    pixels = np.random.default_rng(0).integers(0, 256, (SHAPE[1], SHAPE[2], 3), np.uint8)
    return 1e3 * float(np.median(timeit.repeat(lambda: normalised(pixels, Preprocessing()), repeat=200, number=1)))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--min-time", type=float, default=20.0, help="seconds of measuring per network")
    parser.add_argument("--arch", action="append", help="only this architecture; repeatable")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "benchmarks" / "preprocessing.md")
    options = parser.parse_args()
    rows, busy = [], []
    with tempfile.TemporaryDirectory() as name:
        for arch in options.arch or ("resnet18", "mobilenet_v2", "mobilenet_v2_1d2"):
            print(f"{arch} …", file=sys.stderr)
            paths = files(arch, Path(name))
            busy.append(psutil.cpu_percent(interval=2.0))
            with pinned(1):
                rows.append(measure(arch, paths, Settings(100, options.min_time)))
    write_table(
        options.out,
        "Pixels in: preprocessing within the file",
        f"One thread, batch 1, {SHAPE[1]}×{SHAPE[2]}, pinned, median latency, interleaved; ratios to float32. To "
        f"normalise an image takes NumPy {in_python():.2f} ms, which is in none of them. Other work took "
        f"{min(busy):.0f} to {max(busy):.0f} % of its cores right before each network was measured.",
        ["network", "float32", "nchw", "nhwc", "folded", "nchw", "nhwc", "folded"],
        rows,
    )


if __name__ == "__main__":
    main()
