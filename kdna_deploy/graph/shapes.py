"""Shape and type of every value of a graph, with a symbol for the batch: what files state, and what translations read.

    meta["val"] of a node = what its operator makes of fake tensors [batch, c, h, w], which have a shape and no numbers

Passes leave nodes without one. Does not apply: networks that fix the batch; `capture` refuses them.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.symbolic_shapes import DimDynamic, ShapeEnv, StatelessSymbolicContext

from kdna_deploy.graph.graph import FLOATS, Graph

# Neither 0 nor 1, which tracing takes for numbers of their own.
_HINT = 2


def fill_shapes(graph: Graph) -> None:
    """Put a fake tensor, or a symbolic size, into ``meta["val"]`` of every node of `graph`."""
    symbols = ShapeEnv()
    mode = FakeTensorMode(shape_env=symbols, allow_non_fake_inputs=True)
    images = _images(graph, mode)
    # Fake operators ask which kernel would run for the batch at hand, which would narrow the symbol to such batches.
    with mode, torch.no_grad(), symbols.suppress_guards():
        _Shapes(graph.module, mode).run(images)


def floating_dtype(module: fx.GraphModule) -> torch.dtype:
    """What the constants of a graph are stored in, and its images with them."""
    return next((t.dtype for t in module.state_dict().values() if t.dtype in FLOATS), torch.float32)


def _images(graph: Graph, mode: FakeTensorMode) -> Tensor:
    images = torch.empty(_HINT, *graph.image_shape, dtype=floating_dtype(graph.module))
    sizes = [DimDynamic.DYNAMIC, *[DimDynamic.STATIC] * len(graph.image_shape)]
    return mode.from_tensor(images, symbolic_context=StatelessSymbolicContext(sizes))


class _Shapes(fx.Interpreter):
    def __init__(self, module: fx.GraphModule, mode: FakeTensorMode) -> None:
        super().__init__(module)
        self.extra_traceback = False  # or torch would write the graph into the message of every error
        self._mode = mode

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        if n.op != "output":
            n.meta["val"] = result
        return result

    def get_attr(self, target: Any, args: Any, kwargs: Any) -> Any:
        value = super().get_attr(target, args, kwargs)
        return self._mode.from_tensor(value, static_shapes=True) if isinstance(value, Tensor) else value
