"""Trained network → one folded graph, proven to compute the same, and the ``.fused.pt2`` that holds it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from kdna_deploy.errors import UsageError
from kdna_deploy.extras import require_converter
from kdna_deploy.files import check_output
from kdna_deploy.input_files import Kind, check_input
from kdna_deploy.network.configuration import Words, configured
from kdna_deploy.progress import SILENT, Listener
from kdna_deploy.verbs.arguments import Numbers, PathLike, Size, chosen, image_size, optional_path
from kdna_deploy.verbs.attention_words import AttentionWords, attention_choice
from kdna_deploy.verbs.image_words import ImageWords
from kdna_deploy.verbs.output_names import check_name
from kdna_deploy.verbs.result import Result
from kdna_deploy.verbs.source import files_of, size_of, source_of

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from kdna_deploy.figures.drawing import Drawing
    from kdna_deploy.reports.report import Report
    from kdna_deploy.targets.fuse import Fused
    from kdna_deploy.targets.source import FusedSource
    from kdna_deploy.verbs.source import Source

CHILDREN = ("materialize", "share")


@dataclass(frozen=True, repr=False)
class FusedNetwork(Result):
    """A fused network.

    Attributes:
        source: the graph, the network as it was trained, and where both come from.
        path: where it was written; None where it was not.
    """

    source: FusedSource
    path: Path | None = None

    @property
    def fused(self) -> Fused:
        """What the folding did."""
        assert self.source.fused is not None
        return self.source.fused

    @property
    def notes(self) -> tuple[str, ...]:
        return (*self.source.network.checkpoint.notes, *self.source.notes)

    @property
    def report(self) -> Report:
        from kdna_deploy.reports.fuse import fuse_report

        return fuse_report(self.source, self.path, self.notes)

    @property
    def drawings(self) -> tuple[Drawing, ...]:
        from kdna_deploy.figures.of_results import of_fused

        return of_fused(self.fused)


def fuse(
    network: Source,
    output: PathLike | None = None,
    *,
    save_merged: PathLike | None = None,
    arch: str | None = None,
    model: str | None = None,
    ema: bool = False,
    input_size: Size | None = None,
    children: str = "materialize",
    attention: str = "keep",
    freeze_below: float | None = None,
    calibration: PathLike | None = None,
    mean: Numbers | None = None,
    std: Numbers | None = None,
    resize: int | None = None,
    crop: Size | None = None,
    color: str | None = None,
    channel_attention: str | None = None,
    listener: Listener = SILENT,
    **architecture: Unpack[Words],
) -> FusedNetwork:
    """Fold static attention and BatchNorm, materialise or share the children; compare with the original.

    Args:
        network: checkpoint file, what `load` returned, or a module.
        output: ``.fused.pt2`` to write; None to keep it in memory.
        save_merged: ``.safetensors`` file for the weights of a network whose adapters are merged, by the names of the
            network that they adapt.
        arch, model, ema, architecture: how to load a checkpoint, see `load`.
        input_size: of the images, 224 or (160, 192); as the checkpoint records, else 224.
        children: ``"materialize"`` gives each child a kernel of its own, ``"share"`` stores each parent once.
        attention: ``"keep"`` dynamic what depends on the image (gates, kernels for each image), ``"freeze"`` it to its
            mean, or ``"drop"`` gates. The last two change what the network computes; the result says by how much.
        freeze_below: freeze only attention whose variance over images is below this.
        calibration: folder of images, ``.npy`` or ``.npz``; needed to freeze.
        mean, std, resize, crop, color: how image files become input, as `load` finds it recorded, else ImageNet's.
        channel_attention: the earlier name of `attention`.

    Raises:
        UsageError: what was said makes no sense.
        InputError: something cannot be loaded or traced.
        ParityError: the fused network computes something else than the original.
        RuntimeFailure: PyTorch is not installed.
    """
    size, said = image_size(input_size) or size_of(network), configured(arch, architecture)
    asked = chosen("children", children, CHILDREN)
    words = ImageWords(optional_path(calibration), mean, std, resize, crop, color)
    choice = attention_choice(attention, channel_attention, usual="keep")
    dynamic = AttentionWords(choice, freeze_below, words)
    dynamic.check()
    words.check()
    words.check_read(words.path, instead="name a folder of them with `calibration`, or say it to `run` and `evaluate`")
    given, target = source_of(network, said, model, ema), optional_path(output)
    inputs = (*files_of(given), *said.files, *words.inputs)
    if isinstance(given, Path):
        check_input(given, (Kind.checkpoint,), "fuse")
    if target is not None:
        check_output(target, inputs)
        check_name(target, Kind.fused)
    merged = _checked_merged(optional_path(save_merged), target, *inputs)
    require_converter("Fusing a network")
    listener.plan((*fuse_steps(choice or "keep"), *(["write"] if target else [])))
    listener.step("load")
    from kdna_deploy.graph.file import save_fused
    from kdna_deploy.targets.source import FusedSource, Request, fuse_checkpoint, fuse_network

    if isinstance(given, FusedSource):
        raise UsageError("That network is fused already; give what `load` returned, or the checkpoint.")
    request = Request(None, said, model, ema, size, asked, dynamic.request(listener))  # type: ignore[arg-type]
    done = (
        fuse_checkpoint(given, request, listener) if isinstance(given, Path) else fuse_network(given, request, listener)
    )
    checkpoint = done.network.checkpoint
    inputs = (*checkpoint.files, *inputs)
    if merged is not None:
        from kdna_deploy.targets.merged import save_merged as write_merged

        note = write_merged(done.network, done.graph.image_shape[1:], merged, inputs)
        done = replace(done, notes=(*done.notes, note))
    if target is not None:
        listener.step("write")
        save_fused(done.graph, done.provenance.beside(target, checkpoint.path), target, inputs)
    return FusedNetwork(done, target)


def _checked_merged(path: Path | None, *others: Path | None) -> Path | None:
    if path is not None:
        if path.suffix != ".safetensors":
            raise UsageError(f"`save_merged` writes safetensors; name it {path.stem or 'merged'}.safetensors.")
        check_output(path, tuple(one for one in others if one is not None), "save_merged")
    return path


def fuse_steps(attention: str) -> tuple[str, ...]:
    """The steps of fusing, for a listener's plan."""
    frozen = ("measure attention", "compare with constant gates", "measure what changed")
    return ("load", "capture", "fold", "compare with the original", *(frozen if attention != "keep" else ()))
