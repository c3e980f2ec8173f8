"""Asking the driver for the state of the GPU, through NVIDIA's nvidia-ml-py. Optional: without it a note says so.

The GPU is asked by its UUID, for the driver counts GPUs that this process may not see, and in another order. Some tell
a part alone (a Jetson no power, a laptop no limit): each figure is asked for by itself, and what is not told is None.
"""

from __future__ import annotations

import contextlib
import importlib.util
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from kdna_deploy.benchmark.gpu.state import GpuMachine, GpuState, Sample, interpret
from kdna_deploy.runtimes.nvidia.gpu import Gpu

INSTALL = "pip install 'kdna-deploy[gpu]'"
_EVERY_S = 0.25
_TITLES = {
    "sm_mhz": "clock",
    "memory_mhz": "memory clock",
    "power_w": "power",
    "temperature_c": "temperature",
    "reasons": "reasons for throttling",
}


class Monitor:
    """Samples of one GPU. `note` says why there will be none; None where there will."""

    def __init__(self, gpu: Gpu) -> None:
        import torch

        self.machine = GpuMachine(gpu.name, gpu.compute_capability, cuda=torch.version.cuda)
        self._questions: dict[str, Callable[[], Any]] = {}
        self.note: str | None = None
        unseen = "clocks, power and throttling were not looked at"
        if importlib.util.find_spec("pynvml") is None:
            self.note = f"{unseen}: nvidia-ml-py is not installed; run: {INSTALL}"
            return
        try:
            self._open(str(torch.cuda.get_device_properties(0).uuid))
        except Exception as error:  # pynvml's errors, and whatever a driver of another version lacks
            self.note = f"{unseen}: the driver's library says: {error}"
            return
        told = answers(self._questions)  # what cannot be asked shows now
        silent = [name for name, value in told.items() if value is None]
        if len(silent) == len(told):
            self._close()
            self.note = f"{unseen}: this GPU tells none of them"
        elif silent:
            names = ", ".join(_TITLES[name] for name in silent)
            self.note = f"this GPU does not tell its {names}, which were not looked at"

    def _open(self, uuid: str) -> None:
        """Raises: whatever the driver's library does; it is closed again then."""
        import pynvml

        pynvml.nvmlInit()
        try:
            self._ask(pynvml, pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{uuid}"))
        except Exception:
            self._close()
            raise

    def _close(self) -> None:
        import pynvml

        self._questions = {}
        with contextlib.suppress(Exception):
            pynvml.nvmlShutdown()

    def _ask(self, pynvml: Any, handle: Any) -> None:
        """What never changes at once; how to ask for the rest later."""
        self.machine = replace(
            self.machine,
            driver=_asked(lambda: _text(pynvml.nvmlSystemGetDriverVersion())),
            power_limit_w=_asked(lambda: pynvml.nvmlDeviceGetEnforcedPowerLimit(handle) / 1000),
            max_sm_mhz=_asked(lambda: pynvml.nvmlDeviceGetMaxClockInfo(handle, pynvml.NVML_CLOCK_SM)),
        )
        self._questions = {
            "sm_mhz": lambda: int(pynvml.nvmlDeviceGetClockInfo(handle, pynvml.NVML_CLOCK_SM)),
            "memory_mhz": lambda: int(pynvml.nvmlDeviceGetClockInfo(handle, pynvml.NVML_CLOCK_MEM)),
            "power_w": lambda: pynvml.nvmlDeviceGetPowerUsage(handle) / 1000,
            "temperature_c": lambda: int(pynvml.nvmlDeviceGetTemperature(handle, pynvml.NVML_TEMPERATURE_GPU)),
            "reasons": lambda: int(pynvml.nvmlDeviceGetCurrentClocksThrottleReasons(handle)),
        }

    def sample(self) -> Sample | None:
        """The GPU now; None where it tells nothing."""
        told = answers(self._questions)
        return Sample(**told) if any(value is not None for value in told.values()) else None

    @contextlib.contextmanager
    def watching(self) -> Iterator[list[Sample]]:
        """A list that fills with samples while the block runs, from a thread of its own."""
        samples: list[Sample] = []
        if not self._questions:
            yield samples
            return
        stop = threading.Event()

        def watch() -> None:
            while not stop.wait(_EVERY_S):
                sample = self.sample()  # one that could not be taken is no reason to stop measuring
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


def answers(questions: Mapping[str, Callable[[], Any]]) -> dict[str, Any]:
    """Each answer by the name of its question, None where there is none."""
    return {name: _asked(question) for name, question in questions.items()}


def _asked(question: Callable[[], Any]) -> Any:
    """The answer, or None where this GPU does not tell."""
    with contextlib.suppress(Exception):
        return question()
    return None


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value
