"""Checkpoint or ``.pt2`` → a fused graph together with the original network that it is to be verified against."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from kdna_deploy.errors import UsageError
from kdna_deploy.graph.capture import captured
from kdna_deploy.graph.classes import class_count, returned_shape, shown
from kdna_deploy.graph.file import load_fused
from kdna_deploy.graph.freezing import AttentionOptions
from kdna_deploy.graph.graph import Graph, cast_floats
from kdna_deploy.graph.origin import check_source, original_network
from kdna_deploy.graph.passes import Children
from kdna_deploy.graph.passes.materialise import materialise
from kdna_deploy.graph.provenance import Provenance, provenance_of
from kdna_deploy.images.batch import Images
from kdna_deploy.images.class_names import check_class_names
from kdna_deploy.images.preprocessing import Preprocessing, from_record
from kdna_deploy.kinds import Kind, named_kind
from kdna_deploy.network.configuration import Configuration
from kdna_deploy.network.input_size import ASSUMED, choose_size
from kdna_deploy.network.load import Network, load_network
from kdna_deploy.network.module_copy import twin
from kdna_deploy.network.stages import output_names
from kdna_deploy.progress import SILENT, Listener
from kdna_deploy.runtimes.pytorch import TorchSession
from kdna_deploy.runtimes.remembered import Remembered
from kdna_deploy.targets.fuse import Fused, FuseOptions, Proof, fuse
from kdna_deploy.targets.resized import assumed_notes, resized, sized

_NOT_SHARED = "not shared: "
Asked = Callable[[tuple[int, int, int], Preprocessing | None], AttentionOptions] | Literal["keep"]


@dataclass(frozen=True)
class Request:
    """What a user asked for, beside the file: None where nothing was said.

    Attributes:
        source: the checkpoint of a ``.pt2``.
        arch, factory, ema: how to load a checkpoint.
        size: (h, w) of the images.
        children: materialised or shared.
        attention: makes the options for channel attention, given the image shape (c, h, w) and the preprocessing that
            is recorded, if any; "keep" to have it dynamic, of a graph too in which it is fixed.
        proof: when the fused graph is compared with its network (`FuseOptions`).
    """

    source: Path | None = None
    arch: Configuration | str | None = None
    factory: str | None = None
    ema: bool = False
    size: tuple[int, int] | None = None
    children: Children | None = None
    attention: Asked | None = None
    proof: Proof = "float64"


@dataclass(frozen=True)
class FusedSource:
    """A fused graph, the network as it was trained, and where both come from.

    Attributes:
        fused: the report of the fusing, where that was done on the way.
        notes: what was done and why, a sentence each.
        sample: a few of the user's own images [n, c, h, w], where there are some: exports are verified on them too.
        place: folder that files made of it end up in, where they are written to another first.
    """

    graph: Graph
    network: Network
    provenance: Provenance
    fused: Fused | None = None
    notes: tuple[str, ...] = ()
    sample: Images | None = None
    place: Path | None = None

    def beside(self, made: Provenance, output: Path) -> Provenance:
        """`made` with the way to the checkpoint from where the file `output` ends up."""
        folder = output.parent if self.place is None else self.place
        return made.beside(folder / output.name, self.network.checkpoint.path)

    def with_class_names(self, names: tuple[str, ...], labels: Path) -> FusedSource:
        """With the names from the file `labels` in its provenance.

        Raises:
            InputError: they are not as many as the network has classes.
            UsageError: it returns no logits.
        """
        if self.graph.stage_names:
            raise UsageError(
                f"Stage outputs ({', '.join(self.graph.stage_names)}) have no classes to be named; leave `labels` out."
            )
        returned = returned_shape(self.graph)
        classes = class_count(returned)
        if classes is None:
            raise UsageError(f"This network returns {shown(returned)} and no logits to be named; leave `labels` out.")
        check_class_names(names, classes, str(labels))
        made = replace(self.provenance, class_names=list(names)).with_options(labels=labels.name)
        return replace(self, provenance=made)

    @property
    def reference(self) -> Remembered:
        """What an artifact must agree with, and the fused graph does.

        Raises:
            ParityError: it does not.
        """
        if self.fused is not None:
            _ = self.fused.compared
        return self.trained

    @cached_property
    def trained(self) -> Remembered:
        """What an artifact must agree with, whether or not the fused graph has been compared with it."""
        choice = self.provenance.options.get("channel_attention", "keep")
        if choice == "keep":
            made = self.fused.reference if self.fused else None
            return made or reference_of(self.network.module)
        done = {"freeze": "frozen", "drop": "dropped"}[choice]
        return reference_of(self.graph, f"fused graph with attention {done}")


def reference_of(original: Callable[[Tensor], Tensor], name: str = "original network") -> Remembered:
    """The session of a network, or of a copy in evaluation mode of one in training: it would compute something else."""
    if isinstance(original, nn.Module) and any(layer.training for layer in original.modules()):
        original = twin(original).eval()
    return Remembered(TorchSession(original, name))


def fuse_checkpoint(
    path: Path,
    request: Request,
    listener: Listener = SILENT,
) -> FusedSource:
    """Load and fuse a checkpoint.

    Raises:
        InputError, UsageError, ParityError: as `load_network` and `fuse`.
    """
    listener.step("load")
    network = load_network(path, request.arch, request.factory, request.ema)
    return fuse_network(network, request, listener)


def open_fused_source(
    path: Path,
    request: Request,
    listener: Listener = SILENT,
) -> FusedSource:
    """Open a fused ``.pt2`` with its checkpoint, or fuse a checkpoint on the way.

    A ``.pt2`` is fused again from its checkpoint when other children or channel attention are asked for than it has:
    what was multiplied out cannot be taken apart.

    Raises:
        ArtifactError: the ``.pt2`` or its checkpoint cannot be found or opened, or that of the request is another.
        UsageError: the ``.pt2`` holds a user's own model, whose code is never run unasked, or the request tells how
            to load a checkpoint and there is none to load.
    """
    if named_kind(path) is not Kind.fused:
        return fuse_checkpoint(path, request, listener)
    if request.arch or request.ema:
        raise UsageError(
            "`arch`, `outputs` and `ema` say how to load a checkpoint; a fused graph was made from one already."
        )
    listener.step("load")
    opened = load_fused(path)
    if request.source is not None:
        check_source(opened.provenance, path, request.source)
    network = original_network(opened.provenance, path, request.source, request.factory)
    return fused_as_asked(FusedSource(opened.graph, network, opened.provenance), path, request, listener)


def fused_as_asked(given: FusedSource, path: Path, request: Request, listener: Listener = SILENT) -> FusedSource:
    """A fused graph, from the file `path` or in memory, with the children, channel attention and size of `request`.

    What was multiplied out cannot be taken apart: it is fused again from its network.

    Raises:
        UsageError: children are to be shared that were multiplied out together with fixed channel attention.
    """
    made, network = given.provenance, given.network
    children = made.options.get("children", "materialize")
    choice = made.options.get("channel_attention", "keep")
    otherwise = callable(request.attention) or (request.attention == "keep" and choice != "keep")
    if request.children == "share" and children == "materialize" and choice != "keep" and not otherwise:
        raise UsageError(
            f"'{path}' has its channel attention fixed ({choice}) and its children multiplied out; "
            "to share them, fuse the checkpoint again with both choices."
        )
    # In memory, what fusing assumed has been said already.
    assumed = () if given.fused else assumed_notes(made, path, request.size)
    if otherwise or (request.children == "share" and children == "materialize"):
        again = replace(request, size=request.size or made.image_shape[1:], children=request.children or children)
        fused = fuse_network(network, again, listener, from_record(made.preprocessing, str(path)))
        notes = (
            f"fused again from {network.checkpoint.path.name or network.name}",
            *assumed,
            *(note for note in fused.notes if note.startswith(_NOT_SHARED)),
        )
        return replace(fused, provenance=sized(fused.provenance, made, request.size), notes=notes)
    graph, made = resized(given.graph, made, network, path, request.size)
    if request.children == "materialize" and children == "share":
        graph = graph.clone()  # in memory, it is the caller's
        materialise(graph.module)
        cast_floats(graph.module, torch.float32)
        made = made.with_options(children="materialize")
    return replace(given, graph=graph, provenance=made, notes=(*given.notes, *assumed))


def fuse_network(
    network: Network,
    request: Request,
    listener: Listener = SILENT,
    recorded: Preprocessing | None = None,
) -> FusedSource:
    """Fuse a network that is loaded.

    `recorded` is the preprocessing of an earlier artifact; without one, what the checkpoint records applies.

    Raises:
        UsageError, InputError, ParityError: as `fuse`.
    """
    training = network.checkpoint.training
    chosen = choose_size(request.size, training, network.only_size)
    shape = network.image_shape(chosen.size)
    attention = AttentionOptions()
    if callable(request.attention):
        attention = request.attention(shape, recorded or training.preprocessing)
        if attention.choice != "keep" and output_names(network.module):
            raise UsageError(
                "What freezing or dropping attention changes is measured on logits, and this network returns "
                f"stage outputs ({', '.join(output_names(network.module))}); leave `attention` out."
            )
    options = FuseOptions(request.children or "materialize", attention, request.proof)
    fused = fuse(network.module, shape, options, listener, lambda _, shape: captured(network, shape))
    provenance = provenance_of(network, shape, fused.channel_attentions).with_options(
        children=options.children, channel_attention=fused.freezing.done
    )
    if fused.change is not None:
        measured = {**attention.record, "count": fused.change.images, "freeze_below": attention.below}
        provenance = provenance.with_options(calibration=measured)
    if fused.freezing.gates and fused.freezing.refused:  # where all were, this is the file of a network that keeps them
        provenance = provenance.with_options(gates_kept=[asdict(refusal) for refusal in fused.freezing.refused])
    if chosen.assumed:
        provenance = provenance.with_options(**{ASSUMED: True})
    used = attention.preprocessing or recorded
    provenance = replace(
        provenance,
        kernels=asdict(fused.ledger.storage),
        parents=[asdict(parent) for parent in fused.ledger.parents],
        preprocessing=used.to_record() if used else provenance.preprocessing,
        num_classes=provenance.num_classes or _classes(fused.graph),
    )
    lost = tuple(f"{_NOT_SHARED}{refusal.site}: {refusal.reason}" for refusal in fused.not_shared)
    sample = next(iter(attention.batches()), None) if attention.batches else None
    return FusedSource(fused.graph, network, provenance, fused, (*chosen.notes, *lost), sample)


def _classes(graph: Graph) -> int | None:
    return 0 if graph.stage_names else class_count(returned_shape(graph))
