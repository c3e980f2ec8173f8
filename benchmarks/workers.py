"""How much faster several workers evaluate, on one machine, and what it takes to start one.

    one       everything in one process, on one thread; images are decoded on all cores
    several   a process for each core, with one thread each, that decodes its own images
    threads   one process whose runtime has a thread for each core, as a session has that nobody tells otherwise

Networks of published size with fresh weights: how long they take does not depend on their values. JPEG files of noise,
of the size that ImageNet's have on average. They take turns; of each the median. That one and several have the same
result is checked.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from PIL import Image
from table import write_table

import kdna_deploy as kd
from kdna_deploy.benchmark.untrained import Untrained
from kdna_deploy.evaluation.accuracy import evaluate
from kdna_deploy.evaluation.evaluate import DEFAULT_BATCH
from kdna_deploy.evaluation.workers.local import LocalWorker
from kdna_deploy.evaluation.workers.task import BatchShard, ModelFile, Task
from kdna_deploy.images.decoding import cores
from kdna_deploy.images.labelled import LabelledImages
from kdna_deploy.images.labelled_files import read_labelled
from kdna_deploy.network.families import ARCHITECTURES
from kdna_deploy.runtimes.ort import OrtSession
from kdna_deploy.targets.onnx.options import OnnxOptions

ROOT = Path(__file__).resolve().parent.parent
SHAPE = (3, 224, 224)
PICTURE = (375, 500)  # height and width
CLASSES = 1000


def labelled(folder: Path, count: int) -> Path:
    """Image files with a table of their classes."""
    folder.mkdir()
    random = np.random.default_rng(0)
    for number in range(count):
        coarse = random.integers(0, 256, (PICTURE[0] // 8, PICTURE[1] // 8, 3), np.uint8)
        Image.fromarray(coarse).resize(PICTURE[::-1]).save(folder / f"{number:05}.jpg", quality=90)
    (folder / "val.txt").write_text("\n".join(f"{n:05}.jpg {n % CLASSES}" for n in range(count)))
    return folder


def started(path: Path) -> float:
    """Seconds until a worker has opened the file."""
    worker, began = LocalWorker(), time.perf_counter()
    try:
        worker.start(Task(ModelFile(path), None, BatchShard(())))
        return time.perf_counter() - began
    finally:
        worker.end()


def evaluated(path: Path, data: Path, workers: int) -> tuple[float, dict[str, Any]]:
    """Seconds, and the result."""
    began = time.perf_counter()
    found = kd.evaluate(path, data, workers=workers).to_dict()
    return time.perf_counter() - began, found


def by_threads(path: Path, data: Path) -> float:
    """Seconds of one process on threads, which may add up in another order."""
    began = time.perf_counter()
    found = read_labelled(data, None, None, (), CLASSES)
    with OrtSession(path) as session:
        evaluate(session, LabelledImages(data, SHAPE, given=found).batches(DEFAULT_BATCH))
    return time.perf_counter() - began


def measure(arch: str, folder: Path, data: Path, images: int, turns: int, several: int) -> list[str]:
    """A table row."""
    path = Untrained(ARCHITECTURES[arch], SHAPE, OnnxOptions(), folder / arch).source("onnx").path
    one, many, threads, results = [], [], [], []
    for _ in range(turns):
        for workers, taken in ((1, one), (several, many)):
            took, found = evaluated(path, data, workers)
            taken.append(took)
            results.append(found)
        threads.append(by_threads(path, data))
    assert all(found == results[0] for found in results), "the digits depend on who evaluates"
    rates = [f"{images / statistics.median(taken):.1f}" for taken in (one, threads, many)]
    ratios = [_ratio(taken, many) for taken in (one, threads)]
    return [arch, *rates, *ratios, f"{statistics.median(started(path) for _ in range(turns)):.2f} s"]


def _ratio(slower: list[float], faster: list[float]) -> str:
    """Median of the turns' ratios, with the least and the greatest."""
    found = [a / b for a, b in zip(slower, faster, strict=True)]
    return f"{statistics.median(found):.2f} ({min(found):.2f}–{max(found):.2f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--arch", action="append", help="only this architecture; repeatable")
    parser.add_argument("--images", type=int, default=1024)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "benchmarks" / "workers.md")
    options = parser.parse_args()
    several, load = cores(), psutil.getloadavg()[0]
    with tempfile.TemporaryDirectory() as name:
        data = labelled(Path(name) / "images", options.images)
        rows = []
        for arch in options.arch or ("mobilenet_v2_1d2", "resnet18"):
            print(f"{arch} …", file=sys.stderr)
            rows.append(measure(arch, Path(name), data, options.images, options.turns, several))
    write_table(
        options.out,
        "Workers of an evaluation",
        f"`evaluate` on {options.images} JPEG files of {PICTURE[1]}×{PICTURE[0]} pixels, 224×224, batches of "
        f"{DEFAULT_BATCH}, opening and starting included: images in a second, medians of {options.turns} interleaved "
        f"turns, and how many times faster {several} workers are than one and than one process with {several} threads, "
        f"with the least and the greatest ratio of a turn. A load of {load:.1f} before.",
        ["network", "1 worker", f"{several} threads", f"{several} workers", "to one", "to threads", "a start takes"],
        rows,
    )


if __name__ == "__main__":
    main()
