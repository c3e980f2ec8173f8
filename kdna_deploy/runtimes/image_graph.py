"""Whether a session runs a graph: one batch of images in, and out what its interface says.

    inputs     one, with four axes; of uint8 where it is recorded how pixels are laid out, and nowhere else
    outputs    as many as the interface has; or stage outputs, by their names

Imports no runtime: files are packaged where there may be none.
"""

from __future__ import annotations

from collections.abc import Sequence

from kdna_deploy.images.interface import Interface
from kdna_deploy.network.stages import are_stages

_AXES = 4
_PIXELS = ("uint8", "tensor(uint8)")  # as NumPy and ONNX Runtime call their type


def misfit(interface: Interface, inputs: Sequence[tuple[str, int]], outputs: Sequence[str]) -> str | None:
    """Why no session runs a graph of `inputs`, types and numbers of axes, and `outputs`, names; None where one does."""
    several = len(outputs) != (len(outputs) if are_stages(outputs) else interface.outputs)
    if len(inputs) != 1 or several or inputs[0][1] != _AXES:
        return "does not map one image batch [n, c, h, w] to one output"
    kind, _ = inputs[0]
    if (kind in _PIXELS) != (interface.layout is not None):
        return f"takes {kind}, and its metadata do not say so"
    return None
