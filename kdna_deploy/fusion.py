"""nn.Module → Fused: capture, run the passes, measure what the folding changed.

All passes compute in float64; the result is stored in float32. The fused graph is compared with the original
module, and both with the original in float64, so that a reader sees how much of a difference is rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from kdna_deploy.capture import capture
from kdna_deploy.errors import InputError, ParityError
from kdna_deploy.forward import forward
from kdna_deploy.freezing import AttentionOptions, Freezing, OutputChange, measure_change, plan_freezing
from kdna_deploy.graph import Graph, cast_floats, prescales
from kdna_deploy.ledger import Ledger, sharing_ledger
from kdna_deploy.module_copy import twin
from kdna_deploy.passes import FOLDING, Children, PassResult, finishing
from kdna_deploy.passes.fold_static_attention import fold_static_attention
from kdna_deploy.purity import check_function
from kdna_deploy.runtimes.session import Images

# The fused float32 graph may stray from the float64 reference by at most this many times what the unfused float32
# network does, plus a floor for networks that happen to be exact. On average the two are alike (the tests hold the
# published networks to twice); the largest difference on two images scatters, and must not refuse a correct network.
ROUNDING_FACTOR = 8.0
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
class FuseOptions:
    """What is left to choose.

    Attributes:
        children: a kernel of its own for each child, or modulations of a parent that is stored once.
        attention: what becomes of channel attention.
    """

    children: Children = "materialize"
    attention: AttentionOptions = field(default_factory=AttentionOptions)


@dataclass(frozen=True)
class Fused:
    """A fused network.

    Attributes:
        graph: float32; every kernel a constant, or the product of a shared parent and a modulation.
        steps: the passes in order.
        ledger: parents and children of the trained network.
        children: whether the children are materialised or share.
        channel_attentions: pre-scales that remain dynamic.
        parameters_before: trained parameters of the network, each parent once.
        parameters_after: numbers stored in the fused graph.
        rounding: what folding changed, measured with channel attention kept.
        freezing: what was done to channel attention.
        change: what that did to the logits, measured on the calibration images; None where it was kept.
    """

    graph: Graph
    steps: tuple[Step, ...]
    ledger: Ledger
    children: Children
    channel_attentions: int
    parameters_before: int
    parameters_after: int
    rounding: Rounding
    freezing: Freezing
    change: OutputChange | None = None


def fuse(
    original: nn.Module,
    image_shape: tuple[int, int, int],
    options: FuseOptions | None = None,
    on_step: Callable[[str], None] = lambda _: None,
    on_images: Callable[[int], None] = lambda _: None,
) -> Fused:
    """Fuse a network for images of `image_shape` (c, h, w).

    `on_step` is told the name of each step as it begins, `on_images` the size of each calibration batch done.

    Raises:
        CaptureError: the network cannot be traced.
        ParityError: the fused network computes something else than the original.
        UsageError, InputError: channel attention is to be frozen, and there are no (good) images for it.
    """
    options = options or FuseOptions()
    on_step("capture")
    folded = capture(original, image_shape)
    check_function(folded, original)
    cast_floats(folded.module, torch.float64)
    steps = []
    ledger = None
    for transform in FOLDING:
        on_step(transform.__name__.replace("_", " "))
        steps.append(Step(transform.__name__, transform(folded.module)))
        if transform is fold_static_attention:
            ledger = sharing_ledger(folded.module)
    assert ledger is not None
    kept, finished = _finish(folded, options.children, {}, on_step)
    on_step("compare with the original")
    rounding = measure_rounding(kept, original)
    if not rounding.is_rounding_only:
        raise ParityError(
            f"The fused network differs from the original by {rounding.fused_to_original:.2e} (logits up to "
            f"{rounding.scale:.2g}), more than rounding explains ({rounding.original_to_reference:.2e}); "
            "please report this with the model."
        )
    if options.attention.choice != "keep":
        on_step("measure channel attention")
    freezing = plan_freezing(kept, options.attention, on_images)
    graph, change = kept, None
    if freezing.gates:
        graph, finished = _finish(folded, options.children, freezing.gates, on_step)
        on_step("measure what changed")
        change = measure_change(graph, original, _images_for(options.attention, image_shape), on_images)
    return Fused(
        graph=graph,
        steps=(*steps, *finished),
        ledger=ledger,
        children=options.children,
        channel_attentions=len(prescales(graph.module)),
        parameters_before=sum(p.numel() for p in original.parameters()),
        parameters_after=stored_numbers(graph),
        rounding=rounding,
        freezing=freezing,
        change=change,
    )


def _finish(
    folded: Graph, children: Children, gates: Mapping[str, Tensor | None], on_step: Callable[[str], None]
) -> tuple[Graph, list[Step]]:
    """The float32 graph that the remaining passes make of a copy of `folded`."""
    graph = folded.clone()
    steps = []
    for name, transform in finishing(children, gates):
        on_step(name.replace("_", " "))
        steps.append(Step(name, transform(graph.module)))
    cast_floats(graph.module, torch.float32)
    return graph, steps


def _images_for(options: AttentionOptions, image_shape: tuple[int, int, int]) -> Iterable[Images]:
    """The calibration images; random ones where channel attention is dropped without any."""
    return options.batches() if options.batches else [random_images(8, image_shape).numpy()]


def measure_rounding(graph: Graph, module: nn.Module) -> Rounding:
    """Compare the fused `graph` and the original `module` with each other and with float64."""
    images = random_images(2, graph.image_shape)
    module = twin(module).eval()  # as it was captured; a forward in training mode would move its statistics
    original = forward(module, images)
    reference = _in_float64(module, images)
    fused = graph(images)
    return Rounding(
        fused_to_original=_distance(fused, original),
        original_to_reference=_distance(original, reference),
        fused_to_reference=_distance(fused, reference),
        scale=float(reference.double().abs().max()),
    )


def random_images(batch: int, image_shape: tuple[int, int, int], seed: int = 0) -> Tensor:
    """Standard normal images [batch, c, h, w], like normalised ones; the same for the same seed."""
    return torch.randn(batch, *image_shape, generator=torch.Generator().manual_seed(seed))


def stored_numbers(graph: Graph) -> int:
    """Numbers in the constants of a graph."""
    return sum(t.numel() for t in graph.module.state_dict().values())


def _in_float64(module: nn.Module, images: Tensor) -> Tensor:
    """Output of `module` in float64; of its captured graph where the module's own code holds on to float32."""
    threads = torch.get_num_threads()
    # PyTorch runs a float64 depthwise convolution channel by channel, with a thread barrier each: on a busy machine
    # that was measured a thousand times slower than on one thread.
    torch.set_num_threads(1)
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)  # for constants that a user's forward creates
    try:
        return forward(twin(module).double(), images.double())
    except InputError:  # kernels in plain attributes or numpy arrays, and assertions on the dtype
        torch.set_default_dtype(default)
        wide = capture(module, (images.shape[1], images.shape[2], images.shape[3]))
        cast_floats(wide.module, torch.float64)
        return wide(images.double())
    finally:
        torch.set_default_dtype(default)
        torch.set_num_threads(threads)


def _distance(a: Tensor, b: Tensor) -> float:
    return float((a.double() - b.double()).abs().max())
