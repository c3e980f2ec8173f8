"""OpenVINO's package, imported without reporting that it was.

Imported as it is, it sends over the network that it was, where and how often, under a name of this machine (package
`openvino_telemetry`), from a thread and a process of its own: nobody has asked for that, and it disturbs what is
measured beside it. Python takes a module that is entered as None for one that is not installed, and OpenVINO can do
without.

Does not apply where a program has imported OpenVINO before.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator

_TELEMETRY = "openvino_telemetry"


@contextlib.contextmanager
def _without_telemetry() -> Iterator[None]:
    if _TELEMETRY in sys.modules:
        yield
        return
    sys.modules[_TELEMETRY] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[_TELEMETRY]


with _without_telemetry():
    import openvino

__all__ = ["openvino"]
