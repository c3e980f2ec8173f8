"""The throughput protocol on the CPU: a real session of ONNX Runtime in the place of one on a device."""

from __future__ import annotations

import itertools
import time
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from kdna_deploy.benchmark.gpu.nvml import Monitor
from kdna_deploy.benchmark.gpu.state import GpuMachine
from kdna_deploy.images.batch import Images
from kdna_deploy.runtimes.nvidia.gpu import Gpu
from kdna_deploy.runtimes.ort import OrtSession
from kdna_deploy.runtimes.session import Closing
from kdna_deploy.runtimes.table import OnGpu, Opener, Runtime, Source

SHAPE = (3, 8, 8)


class OnHost(Closing):
    """What is measured of a session, its device being the host.

    `loaded`, `spans` and `copied` record what was asked of it.
    """

    def __init__(self, path: Path) -> None:
        self._session = OrtSession(path, threads=1)
        self.name, self.runtime = self._session.name, self._session.runtime
        self.batch, self.image_shape = self._session.batch, self._session.image_shape
        self.options = self._session.options
        self.spans: list[int] = []
        self.copied: list[bool] = []

    def run(self, images: Images) -> Images:
        return self._session.run(images)

    def load_on_device(self, images: Images) -> None:
        self.loaded = images

    def time_on_device(self, inferences: int, host_copies: bool = False) -> float:
        self.spans.append(inferences)
        self.copied.append(host_copies)
        begin = time.perf_counter_ns()
        for _ in range(inferences):
            self._session.run(self.loaded)
        return (time.perf_counter_ns() - begin) / 1e6 / inferences

    def _release(self) -> None:
        self._session.close()


class HostRuntime:
    """An entry for the table of runtimes whose device is the host. `asked` and `opened` record what came of it."""

    def __init__(self) -> None:
        self.asked: list[OnGpu] = []
        self.opened: list[OnHost] = []
        self.entry = Runtime("the host", "gpu", "onnx", lambda: None, self._prepare, ("fp32", "tf32", "fp16"))

    def _prepare(self, source: Source, how: OnGpu) -> Opener:
        self.asked.append(how)

        def opening(cores: tuple[int, ...] = ()) -> OnHost:
            self.opened.append(OnHost(source.path))
            return self.opened[-1]

        return opening


class HostMonitor(Monitor):
    """Samples whose clock counts them, in the place of a driver's."""

    def __init__(self, gpu: Gpu) -> None:
        self.machine = GpuMachine(gpu.name, gpu.compute_capability)
        self.note = None
        count = itertools.count(1)
        self._questions = {
            "sm_mhz": lambda: next(count),
            "memory_mhz": lambda: 10_000,
            "power_w": lambda: 300.0,
            "temperature_c": lambda: 60,
            "reasons": lambda: 0,
        }


def write_network(path: Path, convolutions: int = 1, largest: float = 0.1) -> Path:
    """An ONNX file of images of `SHAPE` to two logits: the more convolutions, the slower."""
    random = np.random.default_rng(0)
    weight = (0.05 * random.standard_normal((16, 16, 3, 3))).astype(np.float32)
    first = (largest * random.standard_normal((16, 3, 3, 3))).astype(np.float32)
    last = random.standard_normal((16, 2)).astype(np.float32)
    nodes = [helper.make_node("Conv", ["images", "first"], ["x0"], pads=[1, 1, 1, 1])]
    nodes += [
        helper.make_node("Conv", [f"x{index}", "weight"], [f"x{index + 1}"], pads=[1, 1, 1, 1])
        for index in range(convolutions)
    ]
    nodes += [
        helper.make_node("GlobalAveragePool", [f"x{convolutions}"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("MatMul", ["flat", "last"], ["logits"]),
    ]
    stored = {"first": first, "weight": weight, "last": last}
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["n", *SHAPE])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", 2])],
        [numpy_helper.from_array(array, name) for name, array in stored.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save_model(model, path)
    return path
