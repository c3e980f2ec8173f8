"""Checkpoint → Network: the trained module exactly as it was trained, in evaluation mode.

The module comes from the architecture table, or from a user's factory (`factory`), whose code is trusted; the
weights never are. All parity is measured against this module.
"""

from __future__ import annotations

import itertools
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import cast

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from kdna_deploy.errors import ArchitectureError, CheckpointError, InputError, UsageError
from kdna_deploy.network.adapted import with_base
from kdna_deploy.network.architecture import Architecture
from kdna_deploy.network.checkpoint import Checkpoint, backbone_of, load_checkpoint
from kdna_deploy.network.configuration import Configuration, beside, configured
from kdna_deploy.network.factory import load_factory, told
from kdna_deploy.network.input_channels import input_channels
from kdna_deploy.network.module_copy import twin
from kdna_deploy.network.recognise import chosen_layouts, compare, recognise

_PARALLEL = (nn.DataParallel, nn.parallel.DistributedDataParallel)


@dataclass(frozen=True)
class Network:
    """A trained network.

    Attributes:
        module: float32, evaluation mode.
        checkpoint: where the weights came from.
        architecture: None for a user's own model.
        factory: the reference to a user's own function (`factory`).
        graphs: by image shape (c, h, w), what it was captured as and with which settings (`graph.capture.captured`).
    """

    module: nn.Module
    checkpoint: Checkpoint
    architecture: Architecture | None = None
    factory: str | None = None
    graphs: dict[tuple[int, int, int], tuple[object, object]] = field(default_factory=dict, repr=False, compare=False)

    @property
    def name(self) -> str:
        return self.architecture.name if self.architecture else str(self.factory)

    @property
    def only_size(self) -> tuple[int, int] | None:
        """The size (h, w) of its images, where it takes no other."""
        return self.architecture.backbone.image_size if self.architecture else None

    def image_shape(self, size: tuple[int, int]) -> tuple[int, int, int]:
        """Shape (c, h, w) of its images of `size` (h, w)."""
        channels = self.architecture.backbone.in_channels if self.architecture else input_channels(self.module, size)
        return (channels, *size)


def load_network(
    path: Path, arch: Configuration | str | None = None, factory: str | None = None, ema: bool = False
) -> Network:
    """Load a checkpoint into the network it was trained with, which `arch` and a file beside it may describe.

    Raises:
        CheckpointError, ArchitectureError: a file cannot be read, or fits no (or not the named) network.
        UsageError: both `arch` and `factory`, or a malformed `factory`.
    """
    if factory and isinstance(arch, Configuration) and arch.outputs:
        raise UsageError("The stages of a network of your own are not known; leave `outputs` out.")
    if arch and factory:
        raise UsageError("Give either `arch` or `model`, not both.")
    checkpoint = load_checkpoint(path, ema)
    if factory:
        module = _of_bare_parts(_unwrapped(_call_factory(factory)))
        return Network(_load(module, checkpoint, factory), checkpoint, factory=factory)
    described, where = beside(path)
    said = configured(arch).over(described)
    checkpoint = with_base(backbone_of(checkpoint), Path(said.base) if said.base else None, said.multiplier)
    architecture = recognise(checkpoint.shapes, said, checkpoint.arch)
    beside_it = (f"the architecture is as {where.name} says: {described}",) if where else ()
    layouts = chosen_layouts(architecture, checkpoint.shapes, said)
    printed = _printed_of_averages(checkpoint, architecture)
    checkpoint, left_out = _without_head(checkpoint, architecture, said)
    checkpoint = replace(checkpoint, notes=(*checkpoint.notes, *beside_it, *layouts, *printed, *left_out))
    with torch.device("meta"):
        module = architecture.build()
    return Network(_load(module, checkpoint, architecture.name), checkpoint, architecture)


def _printed_of_averages(checkpoint: Checkpoint, architecture: Architecture) -> tuple[str, ...]:
    if architecture.method is None or not architecture.method.averaged or not checkpoint.averages:
        return ()
    return (f"the accuracy that is printed of {architecture.name} is that of its averaged weights",)


def _without_head(
    checkpoint: Checkpoint, architecture: Architecture, said: Configuration
) -> tuple[Checkpoint, tuple[str, ...]]:
    """A checkpoint without the weights that a network of stage outputs lacks, and what is to be said of that."""
    kept = architecture.own(checkpoint.state_dict)
    lost = [name for name in checkpoint.state_dict if name not in kept]
    names = ", ".join(architecture.outputs)
    assumed = [f"the checkpoint has no classifier: the network returns its stage outputs {names}"]
    unused = [f"left out, for stage outputs do without: {', '.join(lost)}"] if lost else []
    notes = (*(assumed if architecture.outputs and said.outputs is None else []), *unused)
    return replace(checkpoint, state_dict=kept), notes


def _unwrapped(module: nn.Module, wrappers: tuple[type[nn.Module], ...] = _PARALLEL) -> nn.Module:
    """The network without what training wraps around it; a checkpoint's names lose the same prefixes."""
    compiled = _compiled_kinds()
    while isinstance(module, (*compiled, *wrappers)):
        module = cast(nn.Module, module._orig_mod if isinstance(module, compiled) else module.module)
    return module


def _of_bare_parts(module: nn.Module) -> nn.Module:
    """`module` itself, its parts without what `torch.compile` wraps around them."""
    for name, part in list(module.named_children()):
        inner = _of_bare_parts(_unwrapped(part, wrappers=()))
        if inner is not part:
            setattr(module, name, inner)
    return module


def _compiled_kinds() -> tuple[type[nn.Module], ...]:
    """What `torch.compile` puts around a module; nothing where nobody has imported that compiler."""
    compiler = sys.modules.get("torch._dynamo.eval_frame")
    return () if compiler is None else (compiler.OptimizedModule,)


def _on_processor(module: nn.Module) -> nn.Module:
    """`module` itself, moved from any GPU to where everything is computed; one without memory stays without."""
    tensors = itertools.chain(module.parameters(), module.buffers())
    return module if any(tensor.is_meta for tensor in tensors) else module.cpu()


def _load(module: nn.Module, checkpoint: Checkpoint, name: str) -> nn.Module:
    # A lazy module takes the shapes that the checkpoint has.
    expected = {
        key: checkpoint.shapes.get(key, ()) if is_lazy(tensor) else tuple(tensor.shape)
        for key, tensor in module.state_dict().items()
    }
    mismatch = compare(expected, checkpoint.shapes)
    if mismatch:
        raise ArchitectureError(f"'{checkpoint.path}' does not fit {name}: {mismatch}.")
    _check_kinds(module, checkpoint)
    # Only the counters of BatchNorm, unused in evaluation, may be missing here.
    counters = {key: torch.tensor(0) for key in expected if key not in checkpoint.state_dict}
    # Assigning would untie parameters that a user's module shares, so it is for networks without memory only.
    ghost = any(not is_lazy(tensor) and tensor.is_meta for tensor in module.state_dict().values())
    _on_processor(module).float().load_state_dict({**checkpoint.state_dict, **counters}, strict=True, assign=ghost)
    for parameter in module.parameters():  # a scripted module has no `requires_grad_`
        parameter.requires_grad = False
    return module.eval()


def _check_kinds(module: nn.Module, checkpoint: Checkpoint) -> None:
    """Whole numbers belong where the network has whole numbers; counters may be floating-point, as averages are."""
    for key, tensor in module.state_dict().items():
        given = checkpoint.state_dict.get(key)
        if given is None or given.is_floating_point() == tensor.is_floating_point():
            continue
        if tensor.is_floating_point():
            kind = str(given.dtype).removeprefix("torch.")
            raise CheckpointError(
                f"'{checkpoint.path}' holds '{key}' in {kind}, which no trained weight has; save it in float32."
            )
        if not torch.equal(given, given.round()) and not key.endswith("num_batches_tracked"):
            raise CheckpointError(
                f"'{checkpoint.path}' holds fractions in '{key}', where the network has whole numbers; "
                "save the buffers as they were trained."
            )


def _call_factory(reference: str) -> nn.Module:
    factory = load_factory(reference)
    try:
        module = factory()
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # the user's code may raise anything, SystemExit too
        raise InputError(
            f"{reference}() failed: {told(error)}. It must build the network without arguments."
        ) from error
    if not isinstance(module, nn.Module):
        raise InputError(f"{reference}() returned a {type(module).__name__}, not a torch.nn.Module.")
    return module


def network_of(module: nn.Module) -> Network:
    """A module with trained weights, as it is: a copy in evaluation mode and float32, without a checkpoint."""
    # The caller's module keeps its parts as they are, and where they are.
    taken = _on_processor(_of_bare_parts(twin(_unwrapped(module)))).float().eval()
    for parameter in taken.parameters():
        parameter.requires_grad = False
    kind = type(module)
    state = {name: tensor.detach() for name, tensor in taken.state_dict().items()}
    return Network(taken, Checkpoint(Path(), "", state), factory=f"{kind.__module__}:{kind.__qualname__}")
