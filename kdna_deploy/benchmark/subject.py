"""The files of a user's network that runtimes open: a checkpoint, a fused graph, an ONNX file, made when asked for.

What other runtimes need than the file that was named is made from its checkpoint, in the same way as that file was.

Does not apply to other files of a network whose channel attention was frozen over calibration images: they are not in
the file.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from kdna_deploy.errors import ArtifactError, UsageError
from kdna_deploy.extras import require_converter
from kdna_deploy.graph.provenance import Provenance, find_source
from kdna_deploy.images.interface import PLAIN
from kdna_deploy.kinds import FUSED, OWN, SUFFIXES, Kind, named_kind
from kdna_deploy.network.configuration import Configuration
from kdna_deploy.network.input_size import ASSUMED, DEFAULT_SIZE, choose_size, made_for_assumed
from kdna_deploy.network.record import to_record
from kdna_deploy.runtimes.open import ENGINE, provenance_in, require_pytorch
from kdna_deploy.runtimes.ort import OrtSession, session_needs
from kdna_deploy.runtimes.table import Artifact, Source
from kdna_deploy.targets.onnx.cost import count_onnx
from kdna_deploy.targets.onnx.options import OnnxOptions

if TYPE_CHECKING:
    from kdna_deploy.targets.source import FusedSource

Shape = tuple[int, int, int]


class Artifacts(Protocol):
    """The files of a network."""

    def source(self, kind: Artifact) -> Source:
        """The file of a kind.

        Raises:
            KdnaError: it cannot be made.
        """


@dataclass(frozen=True)
class Subject:
    """A network to be measured.

    Attributes:
        parameters: trained parameters; numbers stored in the file where its provenance is unknown.
        macs: multiply-accumulates of one image, of an ONNX file counted on the file.
        kind: of the file that the user named.
        batch: the only batch size it takes, or None.
        provenance: None where it is unknown.
        notes: what a user should know of its input size, a sentence each.
    """

    name: str
    parameters: int
    macs: int
    image_shape: Shape
    kind: Artifact
    artifacts: Artifacts
    batch: int | None = None
    provenance: Provenance | None = None
    notes: tuple[str, ...] = ()

    @property
    def precision(self) -> str:
        """That the file says it computes in."""
        return str(self.provenance.options.get("precision", "fp32")) if self.provenance else "fp32"

    @property
    def weights(self) -> str:
        """That the file says its weights are stored in, where it computes in float32."""
        return str(self.provenance.options.get("weights", "fp32")) if self.provenance else "fp32"


class Given:
    """Files of a network that the user named one of."""

    def __init__(self, source: Source, kind: Artifact, provenance: Provenance | None, shape: Shape, folder: Path):
        self._source = source
        self._kind = kind
        self._provenance = provenance
        self._shape = shape
        self._folder = folder

    def source(self, kind: Artifact) -> Source:
        if kind == self._kind:
            return self._source
        if kind == "checkpoint":
            return self._checkpoint
        path = self._folder / f"{self._source.path.name}{suffix_of(kind)}"
        if not path.exists():
            self._make(kind, path)
        return Source(path)

    @cached_property
    def _checkpoint(self) -> Source:
        if self._kind == "checkpoint":
            return self._source
        made = self._provenance
        if made is None:
            raise ArtifactError(f"'{self._source.path}' does not say which checkpoint it was made from.")
        if made.factory and not self._source.factory:
            hint = made.factory_hint(self._source.path)
            raise UsageError(f"'{self._source.path}' holds the network of {made.factory}; add `model={hint!r}`.")
        path = find_source(made, self._source.path)
        # The function that was named now, never the one that the file names: its code runs.
        return Source(path, made.loading(path), self._source.factory if made.factory else None, made.ema)

    @cached_property
    def _fused(self) -> FusedSource:
        from kdna_deploy.targets.source import Request, open_fused_source

        options = self._options
        if options.get("channel_attention", "keep") != "keep":
            raise UsageError(
                f"'{self._source.path}' has its channel attention frozen or dropped: its checkpoint differs from it; "
                "measure it with a runtime that opens it as it is."
            )
        children = "materialize" if options.get("children", "materialize") == "materialize" else "share"
        _, h, w = self._shape
        if self._kind == "fused":
            return open_fused_source(self._source.path, Request(factory=self._source.factory))
        made_from = self._checkpoint
        loading = (made_from.arch, made_from.factory, made_from.ema)
        request = Request(None, *loading, (h, w), children, proof="float32")  # type: ignore[arg-type]
        return open_fused_source(made_from.path, request)

    @property
    def _options(self) -> dict[str, Any]:
        return self._provenance.options if self._provenance else {}

    def _make(self, kind: Artifact, path: Path) -> None:
        require_converter(f"Making another file of '{self._source.path}'")
        from kdna_deploy.graph.file import save_fused
        from kdna_deploy.targets.converted import export_converted
        from kdna_deploy.targets.onnx.export import export_fused

        self._folder.mkdir(exist_ok=True)
        if kind == "fused":
            save_fused(self._fused.graph, self._fused.provenance, path)
        elif kind == "onnx":
            export_fused(self._fused, path, same_options(self._provenance))
        else:
            export_converted(self._fused, path, same_options(self._provenance))


def given(
    path: Path,
    folder: Path,
    factory: str | None = None,
    arch: Configuration | None = None,
    size: tuple[int, int] | None = None,
) -> Subject:
    """The network of a user's ``.onnx``, ``.pt2`` or checkpoint. `size` (h, w) is for checkpoints and files of any.

    Raises:
        InputError: the file cannot be loaded.
        UsageError: it takes images of another size alone, is an engine, or for a CPU where GPUs are measured.
    """
    if path.suffix == ".onnx":
        return _given_onnx(path, folder, factory, size)
    if path.suffix == ENGINE:
        raise UsageError(f"'{path}' is an engine, which runs on a GPU; add `gpu=True`.")
    if named_kind(path) in OWN:
        raise UsageError(f"'{path}' is {named_kind(path).value}, which runs on the CPU; leave `gpu` out.")
    require_pytorch(path)
    if path.suffix == ".pt2":
        return _given_fused(path, folder, factory, size)
    return _given_checkpoint(path, folder, factory, arch, size)


def _given_fused(path: Path, folder: Path, factory: str | None, size: tuple[int, int] | None) -> Subject:
    from kdna_deploy.graph.file import load_fused

    made = load_fused(path).provenance
    measured_shape(path, made.image_shape, made.image_shape, size)
    artifacts = Given(Source(path, factory=factory), "fused", made, made.image_shape, folder)
    notes = made_for_assumed(path.name, made.image_shape, made.options)
    return Subject(path.name, made.parameters, made.macs, made.image_shape, "fused", artifacts, None, made, notes)


def _given_checkpoint(
    path: Path, folder: Path, factory: str | None, arch: Configuration | None, size: tuple[int, int] | None
) -> Subject:
    from kdna_deploy.network.cost import count
    from kdna_deploy.network.load import load_network

    network = load_network(path, arch, factory)
    chosen = choose_size(size, network.checkpoint.training, network.only_size)
    shape = network.image_shape(chosen.size)
    cost = count(network.module, shape)
    record = to_record(network.architecture) if network.architecture else None
    checkpoint = network.checkpoint
    made = Provenance(
        path.name, checkpoint.sha256, record, factory, checkpoint.ema, shape, cost.parameters, cost.macs, 0
    ).with_options(**({ASSUMED: True} if chosen.assumed else {}))
    artifacts = Given(Source(path, arch, factory), "checkpoint", made, shape, folder)
    notes = tuple(f"{path.name}: {note}" for note in (*checkpoint.notes, *chosen.notes))
    return Subject(path.name, cost.parameters, cost.macs, shape, "checkpoint", artifacts, None, made, notes)


def _given_onnx(path: Path, folder: Path, factory: str | None, size: tuple[int, int] | None) -> Subject:
    with OrtSession(path, threads=1) as session:
        made = provenance_in(session, path)
    made_for = session.image_shape or (made.image_shape if made else (3, *DEFAULT_SIZE))
    shape = measured_shape(path, session.image_shape, made_for, size)
    cost = count_onnx(path, shape)
    macs = scaled_macs(cost.macs, made_for, shape) if session_needs(path).prepared else cost.macs
    artifacts = Given(Source(path, factory=factory), "onnx", made, shape, folder)
    parameters = made.parameters if made else cost.stored
    notes = made_for_assumed(path.name, shape, made.options) if made and size is None else ()
    return Subject(path.name, parameters, macs, shape, "onnx", artifacts, session.batch, made, notes)


def suffix_of(kind: Artifact) -> str:
    """Of a file of a `kind` that is made."""
    return FUSED if kind == "fused" else SUFFIXES[Kind[kind]]


def measured_shape(path: Path, takes: Shape | None, made_for: Shape, size: tuple[int, int] | None) -> Shape:
    """Of the images (c, h, w) that a file is measured on: of `size`, where that is said and it takes any.

    Raises:
        UsageError: it takes those of its own size alone.
    """
    shape = (made_for[0], *(size or made_for[1:]))
    if takes is not None and shape != takes:
        raise UsageError(
            f"'{path}' takes images of {takes[1]}×{takes[2]} alone; leave `input_size` out, or measure a file that was "
            "exported with `dynamic_size=True`."
        )
    return shape


def scaled_macs(macs: int, made_for: Shape, shape: Shape) -> int:
    """About as many as images of `shape` take, where `macs` were counted for others: in proportion to their pixels."""
    return round(macs * math.prod(shape[1:]) / math.prod(made_for[1:]))


def same_options(made: Provenance | None) -> OnnxOptions:
    """The export options that a file records, without those that concern children and attention."""
    recorded = made.options if made else {}
    batch = recorded.get("batch")
    options = OnnxOptions(
        opset=recorded.get("opset", OnnxOptions.opset),
        batch=batch if isinstance(batch, int) else None,
        simplify=recorded.get("simplify", True),
        dynamic_size=recorded.get("dynamic_size", False),
        interface=made.interface(Path(made.source)) if made else PLAIN,
    )
    # What is no ONNX file yet gets the default target; files made before there were targets have none.
    return replace(options, target=recorded.get("target", "any")) if "opset" in recorded else options
