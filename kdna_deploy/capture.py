"""nn.Module → Graph, through `torch.export`.

The network is traced in evaluation mode with a batch of 2 and a named dynamic batch dimension (a batch of 1 would
be baked in), functionalised (no in-place operators left), and its parameters become ``get_attr`` constants.

Does not apply: networks with several inputs or outputs, or whose control flow depends on the data.
"""

from __future__ import annotations

import contextlib
import copy
import io
import logging
import re
import warnings
from collections.abc import Iterator

import torch
from torch import nn

from kdna_deploy.errors import CaptureError
from kdna_deploy.graph import Graph

BATCH = "batch"
_TRACE_BATCH = 2


def capture(module: nn.Module, image_shape: tuple[int, int, int]) -> Graph:
    """Trace `module` for images of `image_shape` (c, h, w); `module` is not changed.

    Raises:
        CaptureError: when `torch.export` cannot trace it, or it does not map one image batch to one tensor.
    """
    program = export_program(copy.deepcopy(module).eval(), image_shape)
    with _quiet():
        program = program.run_decompositions({})
    return program_graph(program, image_shape)


def program_graph(program: torch.export.ExportedProgram, image_shape: tuple[int, int, int]) -> Graph:
    """The graph of an exported program, its parameters as constants.

    Raises:
        CaptureError: it does not map one image batch to one tensor.
    """
    with _quiet():
        graph_module = program.module(check_guards=False)
    inputs = [node for node in graph_module.graph.nodes if node.op == "placeholder"]
    if len(inputs) != 1:
        raise CaptureError(f"The network takes {len(inputs)} inputs; wrap it so that it takes one image batch.")
    output = next(node for node in graph_module.graph.nodes if node.op == "output")
    returned = output.args[0]
    if isinstance(returned, (tuple, list)) and len(returned) == 1:
        output.args = (returned[0],)
    elif isinstance(returned, (tuple, list, dict)):
        raise CaptureError(f"The network returns {len(returned)} tensors; wrap it so that it returns the logits alone.")
    graph_module.graph.set_codegen(torch.fx.graph.CodeGen())
    # A fresh module leaves behind the hook that pins h and w to the traced size: convolutional graphs are free of it,
    # and export verifies whatever size is asked for.
    plain = torch.fx.GraphModule(graph_module, graph_module.graph)
    plain.requires_grad_(False)
    return Graph(plain, image_shape)


def export_program(module: nn.Module, image_shape: tuple[int, int, int]) -> torch.export.ExportedProgram:
    """`torch.export` of `module` with a dynamic batch.

    Raises:
        CaptureError: with the first sentence of what `torch.export` says.
    """
    dtype = next((p.dtype for p in module.state_dict().values() if p.is_floating_point()), torch.float32)
    example = torch.zeros(_TRACE_BATCH, *image_shape, dtype=dtype)
    try:
        with _quiet(), torch.no_grad():
            return torch.export.export(module, (example,), dynamic_shapes=({0: torch.export.Dim(BATCH, min=1)},))
    except Exception as error:
        raise CaptureError(
            f"torch.export cannot trace the network for input {tuple(example.shape)}: {_first_sentence(error)}. "
            "Check --input-size, and that its forward has neither data-dependent control flow nor a fixed batch size "
            "(as len(x) is; x.shape[0] is none)."
        ) from error


def _first_sentence(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return re.split(r"[.!?]\s+(?=[A-Z])", lines[0] if lines else type(error).__name__)[0].rstrip(".")


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence torch's own warnings and logging: what matters reaches the user through the error."""
    disabled = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        try:
            yield
        finally:
            logging.disable(disabled)
