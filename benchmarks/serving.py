"""A server that others wrote, with files of ours, under load: requests, failures, latency, memory.

A sample network is exported twice (normalised images → logits; pixels → the three likeliest classes) and packaged for
KServe's model server, which `--python` runs: the interpreter of an environment with the core package, kserve and
tritonclient, as ``python -m tests.serving_environment`` makes it. `serving_load.py` sends batches of one to eight
images over HTTP and gRPC, many requests at a time, bad ones among them; at half of them the server is asked to end
(SIGTERM), whatever it is doing, and started again. Every answer is compared number for number with what ONNX Runtime
answers here for the same batch, and that with the classes that `run` says.

Memory is the resident set of the server, after each tenth of the requests.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime
import psutil
from PIL import Image

import kdna_deploy as kd
from kdna_deploy.benchmark.environment import environment
from kdna_deploy.images.folder import pixels_of, read_image
from kdna_deploy.images.preprocessing import Preprocessing

ROOT = Path(__file__).resolve().parent.parent
SAMPLES = ROOT / "sample_checkpoints"
SERVING = ROOT / ".venvs" / "serving" / "bin" / "python"
SIZE, TOP = 64, 3
SIZES = (1, 1, 2, 3, 5, 8)  # of batches
AT_ONCE = 16
BEGIN, END = "<!-- what follows is written by benchmarks/serving.py -->", "<!-- so far -->"
UNWANTED = {
    "wrong": "answered with another number",
    "failed": "good ones, refused",
    "accepted": "bad ones, answered",
    "lost": "lost",
}
_WAIT = 60.0  # seconds, for a server to start or stop
_VERSIONS = (
    "from importlib.metadata import version as v; "
    "print(', '.join(f'{name} {v(name)}' for name in ('kserve', 'tritonclient', 'protobuf', 'onnxruntime')))"
)


@dataclass(frozen=True)
class Figures:
    """What became of the requests, and of the server.

    Attributes:
        ended: `answered`, `refused` (bad ones), `again` (sent again while the server was away), and `UNWANTED` → how
            many.
        milliseconds: of each answered request, by protocol.
        lives: bytes of the server after each tenth of the requests, life by life.
        examples: of what is unwanted, a message each.
        took: seconds, of all.
    """

    ended: dict[str, int]
    milliseconds: dict[str, list[float]]
    lives: tuple[tuple[int, ...], ...]
    examples: dict[str, str]
    took: float


class Server:
    """KServe's model server over a packaged folder, as its README starts it."""

    def __init__(self, python: Path, folder: Path, log: Path) -> None:
        self._command = [str(python), "serve.py"]
        self._folder, self._log = folder, log
        self.http, self.grpc = free_port(), free_port()
        self.url = f"http://127.0.0.1:{self.http}"

    def start(self) -> None:
        """Until all models are ready.

        Raises:
            RuntimeError: it ends, or takes too long.
        """
        words = [*self._command, "--http_port", str(self.http), "--grpc_port", str(self.grpc)]
        variables = {**os.environ, "PYTHONPATH": str(ROOT)}
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(words, cwd=self._folder, stdout=log, stderr=log, env=variables)
        names = [path.parent.name for path in self._folder.glob("*/model.onnx")]
        end = time.monotonic() + _WAIT
        while not all(map(self._ready, names)):
            if self._process.poll() is not None or time.monotonic() > end:
                self.kill()
                raise RuntimeError(f"The server did not start: {self._log.read_text(errors='replace')[-2000:]}")
            time.sleep(0.05)

    def _ready(self, name: str) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/v2/models/{name}/ready", timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    @property
    def memory(self) -> int:
        """Bytes of its resident set."""
        return int(psutil.Process(self._process.pid).memory_info().rss)

    def stop(self) -> int:
        """Ask it to end, and wait; its exit code."""
        self._process.terminate()
        return self._process.wait(_WAIT)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()


@contextlib.contextmanager
def running(python: Path, folder: Path, log: Path) -> Iterator[Server]:
    """A server that has started, and ends with the block."""
    server = Server(python, folder, log)
    server.start()
    try:
        yield server
    finally:
        server.kill()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def packaged(folder: Path) -> tuple[list[Path], Path]:
    """Two files of a sample network in `folder`, and the folder there that they are packaged in."""
    checkpoint = SAMPLES / "digits_resnet18_quarter.pth.tar"
    kd.export(checkpoint, folder / "net.onnx", input_size=SIZE)
    kd.export(checkpoint, folder / "pixels.onnx", input_size=SIZE, preprocess="nhwc", postprocess=f"topk:{TOP}")
    given = [folder / "net.onnx", folder / "pixels.onnx"]
    return given, kd.package(given, "kserve-model-server", folder / "models").path


def write_batches(files: Sequence[Path], into: Path, seed: int = 0) -> None:
    """Batches of sample images with what ONNX Runtime answers here, and `run` says, as `serving_load.py` reads them."""
    pictures = sorted((SAMPLES / "digits").glob("*/*.png"))
    for path in files:
        folder, random = into / path.stem, np.random.default_rng(seed)
        folder.mkdir(parents=True)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        session = onnxruntime.InferenceSession(path, options)
        (taken,), outputs = session.get_inputs(), [one.name for one in session.get_outputs()]
        for number, size in enumerate(SIZES):
            chosen = [pictures[place] for place in random.choice(len(pictures), size, replace=False)]
            images = np.stack([_image(picture, taken) for picture in chosen])
            answers = dict(zip(outputs, session.run(None, {taken.name: images}), strict=True))
            if size == 1:
                check_against_run(path, chosen[0], answers)
            found = {f"out:{name}": values for name, values in answers.items()}
            np.savez(folder / f"{number:02}.npz", **{f"in:{taken.name}": images}, **found)


def _image(picture: Path, taken: onnxruntime.NodeArg) -> np.ndarray:
    """As the file takes it: pixels [h, w, c], or normalised [c, h, w]."""
    if taken.type != "tensor(uint8)":
        return read_image(picture, tuple(taken.shape[2:]))
    with Image.open(picture) as opened:
        return pixels_of(opened.convert("RGB"), tuple(taken.shape[1:3]), Preprocessing(), picture)


def check_against_run(path: Path, picture: Path, answers: dict[str, np.ndarray]) -> None:
    """The classes and probabilities that `run` names are those of `answers`, to what a softmax rounds.

    Raises:
        RuntimeError: they are not.
    """
    if "classes" in answers:
        classes, probabilities = answers["classes"][0], answers["probabilities"][0]
    else:
        ((row, *_),) = (values.astype(np.float64) for values in answers.values())
        every = np.exp(row - row.max()) / np.exp(row - row.max()).sum()
        classes = np.argsort(-every, kind="stable")[:TOP]
        probabilities = every[classes]
    (image,) = kd.run(path, picture, top=len(classes)).images
    said = [(one.label, one.probability) for one in image.classes]
    if not np.allclose(said, np.stack([classes, probabilities], axis=1), rtol=0, atol=1e-6):
        raise RuntimeError(f"`run` says {said} of {picture.name}, and a session {classes} {probabilities}")


def loaded(python: Path, models: Path, files: Sequence[Path], folder: Path, requests: int) -> Figures:
    """Send `requests` to a server over the packaged `models` of `files`; stop and start it in between.

    `folder` is for what is written meanwhile.

    Raises:
        RuntimeError: the server does not start or stop, or the client fails.
    """
    batches = folder / "batches"
    write_batches(files, batches)
    lives: list[list[int]] = [[]]
    with running(python, models, folder / "server.log") as server:
        words = [python, Path(__file__).with_name("serving_load.py"), batches]
        words += ["--http", str(server.http), "--grpc", str(server.grpc)]
        words += ["--requests", str(requests), "--at-once", str(AT_ONCE)]
        with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as client:
            assert client.stdout
            for tenth, line in enumerate(client.stdout, start=1):
                last = line
                lives[-1].append(server.memory)
                if tenth == 5:
                    server.stop()
                    server.start()
                    lives.append([])
        if client.returncode or server.stop():
            raise RuntimeError(f"The load test failed: {(folder / 'server.log').read_text(errors='replace')[-2000:]}")
    found = json.loads(last)
    milliseconds = {name: [1e3 * one for one in taken] for name, taken in found["seconds"].items()}
    return Figures(found["ended"], milliseconds, tuple(map(tuple, lives)), found["examples"], found["took"])


def told(python: Path, figures: Figures, load: float) -> str:
    """The section of docs/serving.md."""
    machine, ended = environment(), figures.ended
    versions = subprocess.run([python, "-c", _VERSIONS], capture_output=True, text=True, check=True).stdout.strip()
    total = sum(ended.get(what, 0) for what in ("answered", "refused", *UNWANTED))
    rows = [
        (
            "requests",
            f"{total:,}, {AT_ONCE} at a time, in {figures.took:.0f} s ({total / figures.took:.0f} in a second)",
        ),
        ("answered, number for number as here", f"{ended.get('answered', 0):,}"),
        ("bad ones, refused", f"{ended.get('refused', 0):,}"),
        *((UNWANTED[what], f"{ended.get(what, 0):,}") for what in UNWANTED),
        ("sent again while the server was away", f"{ended.get('again', 0):,} times"),
        *((f"p50, p99 over {name}", _quantiles(taken)) for name, taken in figures.milliseconds.items()),
        *(
            (f"memory of the server, life {number}", _memory(life))
            for number, life in enumerate(figures.lives, start=1)
        ),
    ]
    return "\n".join(
        [
            f"Made by `python benchmarks/serving.py` on {machine.processor}, {machine.cores} cores, server and client "
            f"on the same, {versions}; a load of {load:.1f} before.",
            "",
            "| | |",
            "|---|---|",
            *(f"| {name} | {value} |" for name, value in rows),
            "",
        ]
    )


def _quantiles(taken: list[float]) -> str:
    return ", ".join(f"{np.quantile(taken, part):.0f} ms" for part in (0.5, 0.99))


def _memory(life: Sequence[int]) -> str:
    return f"{', '.join(f'{size / 1e6:.0f}' for size in life)} MB, tenth by tenth of the requests"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--python", type=Path, default=SERVING, help="interpreter with kserve and tritonclient")
    parser.add_argument("--requests", type=int, default=5000)
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "serving.md", help="the page to write them into")
    options = parser.parse_args()
    load = psutil.getloadavg()[0]
    with tempfile.TemporaryDirectory() as name:
        files, models = packaged(Path(name))
        figures = loaded(options.python.absolute(), models, files, Path(name), options.requests)
    before, _, after = options.out.read_text(encoding="utf-8").partition(BEGIN)
    text = told(options.python, figures, load)
    options.out.write_text(f"{before}{BEGIN}\n{text}{END}{after.partition(END)[2]}", encoding="utf-8")
    print(text, figures.examples, sep="\n")
    if any(figures.ended.get(what) for what in UNWANTED):
        sys.exit(1)


if __name__ == "__main__":
    main()
