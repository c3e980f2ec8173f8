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
from typing import Any

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

__all__ = ["model_of_batch", "openvino"]


def model_of_batch(core: Any, path: str, batch: int) -> Any:
    """The model that `core` reads of the file at `path`, with inputs of any batch set to this one."""
    model = core.read_model(path)
    shapes = {given: given.partial_shape for given in model.inputs}
    of_any_batch = {given: shape for given, shape in shapes.items() if _is_any_batch(shape)}
    for shape in of_any_batch.values():
        shape[0] = batch
    if of_any_batch:
        model.reshape(of_any_batch)
    return model


def _is_any_batch(shape: Any) -> bool:
    return shape.rank.is_static and len(shape) > 0 and shape[0].is_dynamic
