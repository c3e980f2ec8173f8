"""The GPU as the CUDA driver sees it.

The driver's library is asked directly: PyTorch may be a build without CUDA on a machine that has a GPU, and building an
engine does not need PyTorch.
"""

from __future__ import annotations

import ctypes
import sys
from dataclasses import dataclass

from kdna_deploy.errors import RuntimeFailure

_MAJOR, _MINOR = 75, 76  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_*


@dataclass(frozen=True)
class Gpu:
    """A GPU: its name, and its compute capability as ``8.6``."""

    name: str
    compute_capability: str


def first_gpu() -> Gpu:
    """The first GPU that this process may use.

    Raises:
        RuntimeFailure: there is none, or no driver; the message is a clause on why.
    """
    driver = _driver()
    device, count = ctypes.c_int(), ctypes.c_int()
    if driver.cuInit(0) != 0 or driver.cuDeviceGetCount(ctypes.byref(count)) != 0 or count.value == 0:
        raise RuntimeFailure("the CUDA driver finds no GPU")
    if driver.cuDeviceGet(ctypes.byref(device), 0) != 0:
        raise RuntimeFailure("the CUDA driver cannot open the GPU")
    name = ctypes.create_string_buffer(256)
    driver.cuDeviceGetName(name, len(name), device)
    major, minor = (_attribute(driver, kind, device) for kind in (_MAJOR, _MINOR))
    return Gpu(name.value.decode(errors="replace"), f"{major}.{minor}")


def needed_gpu(purpose: str) -> Gpu:
    """The first GPU, for `purpose`, with which the message begins.

    Raises:
        RuntimeFailure: there is none.
    """
    try:
        return first_gpu()
    except RuntimeFailure as reason:
        raise RuntimeFailure(
            f"{purpose} on an NVIDIA GPU, and there is none here: {reason}; run this on a machine with one, or leave "
            "`gpu` out to measure on the CPU."
        ) from reason


def _driver() -> ctypes.CDLL:
    name = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
    try:
        return ctypes.CDLL(name)
    except OSError as error:
        raise RuntimeFailure(f"the CUDA driver ({name}) is not installed") from error


def _attribute(driver: ctypes.CDLL, kind: int, device: ctypes.c_int) -> int:
    value = ctypes.c_int()
    if driver.cuDeviceGetAttribute(ctypes.byref(value), kind, device) != 0:
        raise RuntimeFailure("the CUDA driver cannot tell the GPU's compute capability")
    return value.value
