"""nn.Module → Fused: capture, run the passes, measure what the folding changed.

All passes compute in float64; the result is stored in float32. The fused graph is compared with the original
module, and both with the original in float64, so that a reader sees how much of a difference is rounding.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, fx, nn

from kdna_deploy.capture import capture
from kdna_deploy.errors import InputError, ParityError
from kdna_deploy.graph import ATEN, CONVOLUTIONS, Graph, calls, cast_floats
from kdna_deploy.ledger import Ledger, sharing_ledger
from kdna_deploy.passes import PIPELINE, PassResult
from kdna_deploy.passes.fold_static_attention import fold_static_attention

# The fused float32 graph may stray from the float64 reference by at most this many times what the unfused float32
# network does, plus a floor for networks that happen to be exact.
ROUNDING_FACTOR = 2.0
ROUNDING_FLOOR = 1e-6


@dataclass(frozen=True)
class Step:
    """One pass and what it did."""

    name: str
    result: PassResult


@dataclass(frozen=True)
class Rounding:
    """Largest absolute differences of the logits on the same two random images.

    Attributes:
        fused_to_original: both in float32.
        original_to_reference: original in float32 against float64.
        fused_to_reference: fused in float32 against the original in float64.
        scale: largest absolute logit of the reference.
    """

    fused_to_original: float
    original_to_reference: float
    fused_to_reference: float
    scale: float

    @property
    def is_rounding_only(self) -> bool:
        return self.fused_to_reference <= ROUNDING_FACTOR * self.original_to_reference + ROUNDING_FLOOR * self.scale


@dataclass(frozen=True)
class Fused:
    """A fused network.

    Attributes:
        graph: float32, every kernel a constant.
        steps: the passes in order.
        ledger: parents and children, as they were before materialising.
        channel_attentions: pre-scales that remain dynamic.
        parameters_before: trained parameters of the network, each parent once.
        parameters_after: numbers stored in the fused graph.
        rounding: what folding changed, measured.
    """

    graph: Graph
    steps: tuple[Step, ...]
    ledger: Ledger
    channel_attentions: int
    parameters_before: int
    parameters_after: int
    rounding: Rounding


def fuse(
    original: nn.Module, image_shape: tuple[int, int, int], on_step: Callable[[str], None] = lambda _: None
) -> Fused:
    """Fuse a network for images of `image_shape` (c, h, w). `on_step` is told the name of each step as it begins.

    Raises:
        CaptureError: the network cannot be traced.
        ParityError: the fused network computes something else than the original.
    """
    on_step("capture")
    graph = capture(original, image_shape)
    cast_floats(graph.module, torch.float64)
    steps = []
    ledger = None
    for transform in PIPELINE:
        on_step(transform.__name__.replace("_", " "))
        steps.append(Step(transform.__name__, transform(graph.module)))
        if transform is fold_static_attention:
            ledger = sharing_ledger(graph.module)
    assert ledger is not None
    cast_floats(graph.module, torch.float32)
    on_step("compare with the original")
    rounding = measure_rounding(graph, original)
    if not rounding.is_rounding_only:
        raise ParityError(
            f"The fused network differs from the original by {rounding.fused_to_original:.2e} (logits up to "
            f"{rounding.scale:.2g}), more than rounding explains ({rounding.original_to_reference:.2e}); "
            "please report this with the model."
        )
    return Fused(
        graph=graph,
        steps=tuple(steps),
        ledger=ledger,
        channel_attentions=len(prescales(graph.module)),
        parameters_before=sum(p.numel() for p in original.parameters()),
        parameters_after=stored_numbers(graph),
        rounding=rounding,
    )


def measure_rounding(graph: Graph, module: nn.Module) -> Rounding:
    """Compare the fused `graph` and the original `module` with each other and with float64."""
    images = random_images(2, graph.image_shape)
    with torch.no_grad():
        original = module(images)
        reference = _in_float64(module, images)
    fused = graph(images)
    return Rounding(
        fused_to_original=_distance(fused, original),
        original_to_reference=_distance(original, reference),
        fused_to_reference=_distance(fused, reference),
        scale=float(reference.abs().max()),
    )


def random_images(batch: int, image_shape: tuple[int, int, int], seed: int = 0) -> Tensor:
    """Standard normal images [batch, c, h, w], like normalised ones; the same for the same seed."""
    return torch.randn(batch, *image_shape, generator=torch.Generator().manual_seed(seed))


def prescales(module: fx.GraphModule) -> list[fx.Node]:
    """The dynamic channel attentions: products of a map [n, c, h, w] and a gate [n, c, 1, 1] before a convolution."""
    return [
        node
        for node in calls(module, {ATEN.mul.Tensor})
        if _is_gated(node) and any(user.target in CONVOLUTIONS for user in node.users)
    ]


def stored_numbers(graph: Graph) -> int:
    """Numbers in the constants of a graph."""
    return sum(t.numel() for t in graph.module.state_dict().values())


def _is_gated(node: fx.Node) -> bool:
    shapes = [tuple(a.meta["val"].shape) for a in node.args if isinstance(a, fx.Node) and "val" in a.meta]
    if len(shapes) != 2 or any(len(shape) != 4 for shape in shapes):
        return False
    return any(shape[2:] == (1, 1) and not isinstance(shape[0], int) for shape in shapes)


def _in_float64(module: nn.Module, images: Tensor) -> Tensor:
    wide = copy.deepcopy(module).double()
    default, threads = torch.get_default_dtype(), torch.get_num_threads()
    torch.set_default_dtype(torch.float64)  # for constants that a user's forward creates
    # PyTorch runs a float64 depthwise convolution channel by channel, with a thread barrier each: on a busy machine
    # that was measured a thousand times slower than on one thread.
    torch.set_num_threads(1)
    try:
        return wide(images.double())
    except RuntimeError as error:
        raise InputError(
            f"The network cannot run in float64, so its rounding cannot be judged: {error}. "
            "Create constants in its forward with the dtype of the input."
        ) from error
    finally:
        torch.set_default_dtype(default)
        torch.set_num_threads(threads)


def _distance(a: Tensor, b: Tensor) -> float:
    return float((a.double() - b.double()).abs().max())
