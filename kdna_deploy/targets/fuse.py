"""nn.Module → Fused: capture, run the passes, measure what the folding changed.

All passes compute in float64; the result is stored in float32, and compared with the original module
(`fused_rounding`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor, nn

from kdna_deploy.evaluation.output_change import OutputChange, measure_change
from kdna_deploy.graph.capture import capture
from kdna_deploy.graph.freezing import (
    AttentionOptions,
    ConstantGates,
    Freezing,
    plan_freezing,
)
from kdna_deploy.graph.gates import channel_attentions
from kdna_deploy.graph.graph import Graph, cast_floats
from kdna_deploy.graph.ledger import Ledger, sharing_ledger
from kdna_deploy.graph.passes import FOLDING, FREEZING, Children, PassResult, Refusal, finishing
from kdna_deploy.graph.passes.fold_static_attention import fold_static_attention
from kdna_deploy.graph.purity import check_function
from kdna_deploy.graph.shapes import is_traced
from kdna_deploy.images.batch import Images
from kdna_deploy.images.probes import random_images
from kdna_deploy.network.module_copy import twin
from kdna_deploy.progress import SILENT, Listener
from kdna_deploy.runtimes.pytorch import TorchSession
from kdna_deploy.runtimes.remembered import Remembered
from kdna_deploy.targets.fused_rounding import Rounding, measure_rounding, require_rounding

Proof = Literal["float64", "float32", "file"]
DEPARTS = "The fused network differs from the original"


@dataclass(frozen=True)
class Step:
    """One pass and what it did."""

    name: str
    result: PassResult


@dataclass(frozen=True)
class FuseOptions:
    """What is left to choose.

    Attributes:
        children: a kernel of its own for each child, or modulations of a parent that is stored once.
        attention: what becomes of attention.
        proof: when the graph is compared with the original: at once, in ``"float64"`` too for a report; at once in
            ``"float32"``; or where the ``"file"`` that is about to be made of it departs by more than rounding.
            Attention that is to be fixed has it done at once.
    """

    children: Children = "materialize"
    attention: AttentionOptions = field(default_factory=AttentionOptions)
    proof: Proof = "float64"


@dataclass(frozen=True)
class Fused:
    """A fused network.

    Attributes:
        graph: float32; every kernel a constant, or the product of a shared parent and a modulation.
        steps: the passes in order.
        ledger: parents and children of the trained network.
        children: whether the children are materialised or share.
        channel_attentions: those that remain dynamic.
        parameters_before: trained parameters of the network, each parent once.
        parameters_after: numbers stored in the fused graph.
        rounding: what folding changed, measured with attention kept; None where that is left to a file.
        freezing: what was done to attention.
        change: what that did to the logits, measured on the calibration images; None where it was kept.
        reference: the original network, with the logits that the fused graph was compared with.
    """

    graph: Graph
    steps: tuple[Step, ...]
    ledger: Ledger
    children: Children
    channel_attentions: int
    parameters_before: int
    parameters_after: int
    rounding: Rounding | None
    freezing: Freezing
    change: OutputChange | None = None
    reference: Remembered | None = field(default=None, repr=False, compare=False)

    @property
    def not_shared(self) -> tuple[Refusal, ...]:
        """The children that were to be shared and have a kernel of their own, with the reason."""
        return tuple(refusal for step in self.steps if step.name == "share" for refusal in step.result.refused)

    @cached_property
    def compared(self) -> Rounding:
        """What folding changed, measured now where that was left to a file.

        Raises:
            ParityError: it is more than rounding.
        """
        if self.rounding is not None:
            return self.rounding
        assert self.reference is not None
        found = measure_rounding(self.graph, self.reference, in_float64=False)
        require_rounding(found, DEPARTS)
        return found


def fuse(
    original: nn.Module,
    image_shape: tuple[int, int, int],
    options: FuseOptions | None = None,
    listener: Listener = SILENT,
    trace: Callable[[nn.Module, tuple[int, int, int]], Graph] = capture,
) -> Fused:
    """Fuse a network for images of `image_shape` (c, h, w), captured by `trace`.

    `listener` is told the name of each step as it begins, and the size of each calibration batch done.

    Raises:
        CaptureError: the network cannot be traced.
        ParityError: the fused network computes something else than the original.
        UsageError, InputError: attention is to be frozen, and there are no (good) images for it.
    """
    options = options or FuseOptions()
    listener.step("capture")
    folded = trace(original, image_shape)
    check_function(folded, original)
    cast_floats(folded.module, torch.float64)
    listener.step("fold")
    steps = []
    ledger = None
    for transform in FOLDING:
        listener.step(transform.__name__.replace("_", " "))
        steps.append(Step(transform.__name__, transform(folded.module)))
        if transform is fold_static_attention:
            ledger = sharing_ledger(folded.module)
    assert ledger is not None
    kept, finished = _finish(folded, options.children, {}, listener)
    # A copy, in evaluation mode as it was captured: a forward may change what it runs on, where its code is not known.
    same = is_traced(folded) and not any(layer.training for layer in original.modules())
    reference = Remembered(TorchSession(original if same else twin(original).eval(), "original network"))
    rounding = None
    if options.proof != "file" or options.attention.choice != "keep":
        listener.step("compare with the original")
        rounding = measure_rounding(kept, reference, options.proof == "float64")
        require_rounding(rounding, DEPARTS)
    if options.attention.choice != "keep":
        listener.step("measure attention")
        _expect(options.attention, listener)
    freezing = plan_freezing(kept, options.attention, listener)
    graph, change = kept, None
    if freezing.gates:
        graph, finished = _finish(folded, options.children, freezing.gates, listener)
        freezing = freezing.settled(graph, next(step.result for step in finished if step.name == FREEZING))
    if freezing.gates:
        listener.step("compare with constant gates")
        constant = Remembered(TorchSession(ConstantGates(kept, freezing.gates).eval(), "constant gates"))
        require_rounding(
            measure_rounding(graph, constant, in_float64=False),
            "The network with frozen gates differs from one with constant gates",
        )
        listener.step("measure what changed")
        _expect(options.attention, listener)
        shown = _images_for(options.attention, image_shape)
        change = measure_change(graph, original, shown, listener, random=options.attention.batches is None)
    return Fused(
        graph=graph,
        steps=(*steps, *finished),
        ledger=ledger,
        children=options.children,
        channel_attentions=len(channel_attentions(graph.module)),
        parameters_before=sum(p.numel() for p in original.parameters()),
        parameters_after=stored_numbers(graph),
        rounding=rounding,
        freezing=freezing,
        change=change,
        reference=reference,
    )


def _expect(options: AttentionOptions, listener: Listener) -> None:
    if options.images is not None:
        listener.expect(options.images)


def _finish(
    folded: Graph, children: Children, gates: Mapping[str, Tensor | None], listener: Listener
) -> tuple[Graph, list[Step]]:
    """The float32 graph that the remaining passes make of a copy of `folded`."""
    graph = folded.clone()
    steps = []
    for name, transform in finishing(children, gates):
        listener.step(name.replace("_", " "))
        steps.append(Step(name, transform(graph.module)))
    cast_floats(graph.module, torch.float32)
    return graph, steps


def _images_for(options: AttentionOptions, image_shape: tuple[int, int, int]) -> Iterable[Images]:
    """The calibration images; random ones where attention is dropped without any."""
    return options.batches() if options.batches else [random_images(8, image_shape)]


def stored_numbers(graph: Graph) -> int:
    """Numbers in the constants of a graph."""
    return sum(t.numel() for t in graph.module.state_dict().values())
