"""Asking the driver for the state of the GPU, through NVIDIA's nvidia-ml-py. Optional: without it a note says so.

The GPU is asked by its UUID, for the driver counts GPUs that this process may not see, and in another order.
"""

from __future__ import annotations

import contextlib
import importlib.util
import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from kdna_deploy.benchmark.gpu.state import GpuMachine, GpuState, Sample, interpret
from kdna_deploy.tensorrt.gpu import Gpu

INSTALL = "pip install 'kdna-deploy[gpu]'"
_EVERY_S = 0.25


class Monitor:
    """Samples of one GPU. `note` says why there will be none; None where there will."""

    def __init__(self, gpu: Gpu) -> None:
        import torch

        self.machine = GpuMachine(gpu.name, gpu.compute_capability, cuda=torch.version.cuda)
        self._handle: Any = None
        self.note: str | None = None
        unseen = "clocks, power and throttling were not looked at"
        if importlib.util.find_spec("pynvml") is None:
            self.note = f"{unseen}: nvidia-ml-py is not installed; run: {INSTALL}"
            return
        try:
            self._open(str(torch.cuda.get_device_properties(0).uuid))
        except Exception as error:  # pynvml's errors, and whatever a driver of another version lacks
            self.note = f"{unseen}: the driver's library says: {error}"

    def _open(self, uuid: str) -> None:
        import pynvml

        pynvml.nvmlInit()
        handle = pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{uuid}")
        self.machine = replace(
            self.machine,
            driver=_text(pynvml.nvmlSystemGetDriverVersion()),
            power_limit_w=_asked(lambda: pynvml.nvmlDeviceGetEnforcedPowerLimit(handle) / 1000),
            max_sm_mhz=_asked(lambda: pynvml.nvmlDeviceGetMaxClockInfo(handle, pynvml.NVML_CLOCK_SM)),
        )
        self._handle = handle
        self.sample()  # what cannot be asked shows now

    def sample(self) -> Sample | None:
        """The GPU now; None where it cannot be asked."""
        if self._handle is None:
            return None
        import pynvml

        handle = self._handle
        return Sample(
            sm_mhz=int(pynvml.nvmlDeviceGetClockInfo(handle, pynvml.NVML_CLOCK_SM)),
            memory_mhz=int(pynvml.nvmlDeviceGetClockInfo(handle, pynvml.NVML_CLOCK_MEM)),
            power_w=pynvml.nvmlDeviceGetPowerUsage(handle) / 1000,
            temperature_c=int(pynvml.nvmlDeviceGetTemperature(handle, pynvml.NVML_TEMPERATURE_GPU)),
            reasons=int(pynvml.nvmlDeviceGetCurrentClocksThrottleReasons(handle)),
        )

    @contextlib.contextmanager
    def watching(self) -> Iterator[list[Sample]]:
        """A list that fills with samples while the block runs, from a thread of its own."""
        samples: list[Sample] = []
        if self._handle is None:
            yield samples
            return
        stop = threading.Event()

        def watch() -> None:
            while not stop.wait(_EVERY_S):
                with contextlib.suppress(Exception):  # one that could not be taken is no reason to stop measuring
                    sample = self.sample()
                    samples.extend([sample] if sample else [])

        thread = threading.Thread(target=watch, daemon=True)
        thread.start()
        try:
            yield samples
        finally:
            stop.set()
            thread.join()


def state(during: list[Sample], before: Sample | None, after: Sample | None) -> GpuState | None:
    """`interpret`, with a measurement too short for a sample judged by the GPU right after it."""
    return interpret(during or [sample for sample in (after,) if sample], before, after)


def _asked(question: Any) -> Any:
    """The answer, or None where this GPU does not tell."""
    with contextlib.suppress(Exception):
        return question()
    return None


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value
