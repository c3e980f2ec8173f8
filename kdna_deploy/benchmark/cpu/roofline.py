"""The roofline: how fast this machine multiplies and adds at best, and how near a model comes.

    peak  = max over kernels of 2 · MACs / time           float32, on the threads of the measurement
    floor = 2 · MACs of the model / peak                   no latency can lie below
    share = floor / latency

The peak is what the best of several matrix products and convolutions reaches on ONNX Runtime, and on OpenVINO where it
is installed: a BLAS product alone may reach a third of it. It is a lower bound of the hardware's: a share slightly
above 1 says that the model's own kernels suit the core better than any that was tried.

Does not apply to memory-bound layers (depthwise convolutions), whose floor is the bandwidth, nor to lower precision.
"""

from __future__ import annotations

import itertools
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from kdna_deploy.benchmark.cpu.affinity import hold
from kdna_deploy.images.batch import Images
from kdna_deploy.progress import SILENT, Listener
from kdna_deploy.runtimes.session import Session
from kdna_deploy.runtimes.table import RUNTIMES, OnCpu, Opener, Source

_SECONDS = 0.12  # for each kernel
_OPSET, _IR_VERSION = 18, 9
# (channels, height = width, kernel size)
_CONVOLUTIONS = ((64, 56, 3), (128, 28, 3), (256, 14, 3), (256, 28, 1))
_CHAIN = 4  # so many convolutions in a row: a single one would be charged for changes of layout at both ends
# (rows, inner size, columns)
_PRODUCTS = ((256, 256, 256), (512, 512, 512), (1024, 1024, 1024))


@dataclass(frozen=True)
class Kernel:
    """A kernel and the GFLOP/s that it reached, a multiply-add counting two."""

    name: str
    gflops: float


@dataclass(frozen=True)
class Peak:
    """The highest rate found, and all that were tried."""

    best: Kernel
    tried: tuple[Kernel, ...]

    def floor_ms(self, macs: int) -> float:
        """Milliseconds below which `macs` multiply-accumulates cannot be done."""
        return 2 * macs / self.best.gflops / 1e6

    def share(self, macs: int, milliseconds: float) -> float:
        """Part of the peak that an inference of so many MACs reaches."""
        return self.floor_ms(macs) / milliseconds


def measure_peak(threads: int, cores: tuple[int, ...] = (), listener: Listener = SILENT) -> Peak:
    """The multiply-add peak of `threads` threads, float32."""
    tried = []
    with tempfile.TemporaryDirectory(prefix="kdna-peak-") as folder:
        kernels = list(_kernels(Path(folder), threads))
        listener.expect(len(kernels), "kernels")
        for name, macs, opener, images in kernels:
            with opener(cores) as session:
                hold(cores)
                tried.append(Kernel(f"{name}, {session.runtime}", 2 * macs / _fastest(session, images) / 1e9))
            listener.advance()
    return Peak(max(tried, key=lambda kernel: kernel.gflops), tuple(tried))


def _kernels(folder: Path, threads: int) -> Iterator[tuple[str, int, Opener, Images]]:
    """Name, MACs, opener and input of each kernel."""
    runtimes = [RUNTIMES[name] for name in ("onnxruntime", "openvino") if not RUNTIMES[name].missing]
    for number, (name, macs, shape, model) in enumerate(_models()):
        path = folder / f"{number}.onnx"
        onnx.save_model(model, path)
        images = np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
        for runtime in runtimes:
            yield name, macs, runtime.prepare(Source(path), OnCpu(threads)), images


def _models() -> Iterator[tuple[str, int, tuple[int, ...], onnx.ModelProto]]:
    for c, size, k in _CONVOLUTIONS:
        name = f"{k}×{k} convolutions of {c} channels at {size}×{size}"
        maps = ["x", *(f"y{i}" for i in range(1, _CHAIN)), "y"]
        chain = [
            helper.make_node("Conv", [before, "w"], [after], kernel_shape=[k, k], pads=[k // 2] * 4)
            for before, after in itertools.pairwise(maps)
        ]
        # Small enough that values stay in range through the chain.
        weight = _weight((c, c, k, k)) / np.float32(k * c**0.5)
        yield name, _CHAIN * (c * k * size) ** 2, (1, c, size, size), _model(chain, weight, (1, c, size, size))
    for rows, inner, columns in _PRODUCTS:
        name = f"matrix product {rows}×{inner}×{columns}"
        shape = (1, 1, rows, inner)
        model = _model([helper.make_node("MatMul", ["x", "w"], ["y"])], _weight((inner, columns)), shape)
        yield name, rows * inner * columns, shape, model


def _weight(shape: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng(1).standard_normal(shape, dtype=np.float32)


def _model(nodes: list[onnx.NodeProto], weight: np.ndarray, shape: tuple[int, ...]) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "kernel",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(weight, "w")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=_IR_VERSION)


def _fastest(session: Session, images: Images) -> float:
    """Seconds of the fastest of many runs: a bound is wanted here, not what is typical."""
    best, end = float("inf"), time.perf_counter() + _SECONDS
    while time.perf_counter() < end:
        begin = time.perf_counter()
        session.run(images)
        best = min(best, time.perf_counter() - begin)
    return best
