"""What libraries build anew at every call though it is always the same, built once a process: the tests call often.

`torch.onnx` fills its registry of translations for every export, a third of the time that a small network takes, and
only reads it afterwards. Python's collector looks through all that was imported whenever enough has been allocated.

Does not apply to what is measured: nothing here is called while a network runs.
"""

from __future__ import annotations

import contextlib
import functools
import gc


def build_once() -> None:
    """To be called when the libraries are imported."""
    with contextlib.suppress(ImportError, AttributeError):  # not of torch's interface: without it, tests are slower
        from torch.onnx._internal.exporter._registration import ONNXRegistry

        if not isinstance(ONNXRegistry.__dict__["from_torchlib"], staticmethod):
            ONNXRegistry.from_torchlib = staticmethod(functools.cache(ONNXRegistry.from_torchlib))  # type: ignore
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)
