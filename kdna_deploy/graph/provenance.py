"""Where an artifact comes from: what travels in a ``.pt2``'s extra files and in an ONNX file's metadata."""

from __future__ import annotations

import contextlib
import functools
import json
import math
import os
from collections.abc import Iterable
from dataclasses import MISSING, asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kdna_deploy.errors import ArtifactError
from kdna_deploy.files import file_sha256
from kdna_deploy.graph.provenance_schema import FIELDS
from kdna_deploy.graph.stored_kernels import Parent
from kdna_deploy.images.interface import Interface, interface_of
from kdna_deploy.json_schema import Misfit, anything, check_schema, record
from kdna_deploy.network.architecture import Architecture
from kdna_deploy.network.configuration import Configuration
from kdna_deploy.network.factory import hint, recorded
from kdna_deploy.network.record import configuration_of, from_record, to_record
from kdna_deploy.network.stages import output_names, stage_outputs

if TYPE_CHECKING:
    from kdna_deploy.network.checkpoint import Checkpoint
    from kdna_deploy.network.load import Network

SCHEMA_VERSION = 1
KEY = "kdna"
# By the names that they are installed by: a library has one for each version of CUDA that it is built for.
_MAKERS = (
    *("kdna-deploy", "torch", "onnx", "onnx-ir", "onnxscript", "onnxruntime", "onnxruntime-gpu", "onnxsim"),
    *("numpy", "pillow", "safetensors"),
)
_OTHERS = (
    *("openvino", "ncnn", "pnnx", "MNN", "ai-edge-litert", "executorch"),
    *("tensorrt", "tensorrt-cu12", "tensorrt-cu13"),
    *("tensorrt-rtx", "tensorrt-rtx-cu12", "tensorrt-rtx-cu13"),
)
_RECORDED = (*_MAKERS, *_OTHERS)
# They open and measure files, but what is in a file does not depend on them.
BYSTANDERS = frozenset(_OTHERS)


_MISSING = "is not there"
MAX_IMAGE = 1 << 28  # numbers in one image


@dataclass(frozen=True)
class Provenance:
    """Provenance of an artifact.

    Attributes:
        source: file name of the checkpoint.
        source_sha256: of the checkpoint.
        architecture: `to_record` of the architecture; None for a user's own model.
        factory: of a user's own model, the reference to its function, as `recorded`; a hint, for no artifact runs code.
        ema: whether averaged weights were taken.
        image_shape: (c, h, w).
        parameters: trained parameters of the original network.
        macs: multiply-accumulates of the original network for one image.
        channel_attentions: dynamic pre-scales in the graph.
        options: what the artifact was made with.
        versions: of the packages that made it.
        source_path: where the checkpoint lay, relative to the artifact's folder; empty when not known.
        kernels: `KernelStorage` of the checkpoint, as a dictionary; empty where the network was not fused.
        parents: `Parent` of each shared kernel, as a dictionary.
        preprocessing: `Preprocessing` of the images that it was made with, or that the checkpoint records, as a
            dictionary; empty where it is not known.
        recorded_top1: accuracy in percent that the checkpoint records.
        num_classes: number of logits; 0 for stage outputs, None where neither is returned, or it is not known.
        class_names: in the order of the logits; empty where they are not known.
        base: of adapters in a file of their own, file name of the checkpoint that the rest is from; else empty.
        base_sha256: of that checkpoint.
        base_path: where it lay, relative to the folder of `source`.
    """

    source: str
    source_sha256: str
    architecture: dict[str, Any] | None
    factory: str | None
    ema: bool
    image_shape: tuple[int, int, int]
    parameters: int
    macs: int
    channel_attentions: int
    options: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    source_path: str = ""
    kernels: dict[str, Any] = field(default_factory=dict)
    parents: list[dict[str, Any]] = field(default_factory=list)
    preprocessing: dict[str, Any] = field(default_factory=dict)
    recorded_top1: float | None = None
    num_classes: int | None = None
    class_names: list[str] = field(default_factory=list)
    base: str = ""
    base_sha256: str = ""
    base_path: str = ""
    schema_version: int = SCHEMA_VERSION

    @property
    def name(self) -> str:
        return self.architecture["name"] if self.architecture else str(self.factory)

    @property
    def shared_kernels(self) -> tuple[Parent, ...]:
        """The parents of the network, with their children."""
        return tuple(Parent(p["name"], tuple(p["shape"]), p["layer"], tuple(p["children"])) for p in self.parents)

    def restored_architecture(self) -> Architecture | None:
        return from_record(self.architecture) if self.architecture else None

    def interface(self, artifact: Path) -> Interface:
        """What the `artifact` takes and returns.

        Raises:
            ArtifactError: that is damaged.
        """
        return interface_of(self.options, self.preprocessing, str(artifact))

    @property
    def configuration(self) -> Configuration | None:
        """All that is to be said to load its checkpoint into the same network; None for a user's own model."""
        architecture = self.restored_architecture()
        return configuration_of(architecture) if architecture else None

    def loading(self, checkpoint: Path) -> Configuration | None:
        """As `configuration`, with the base of adapters, where it lay from `checkpoint`, beside that, or here.

        Raises:
            ArtifactError: it is not there, or has changed.
        """
        if self.configuration is None or not self.base:
            return self.configuration
        places = (checkpoint.parent / self.base_path, checkpoint.parent / self.base, Path(self.base))
        found = _unchanged(places, self.base_sha256)
        if isinstance(found, str):
            raise ArtifactError(f"'{self.base}', whose network '{checkpoint}' adapts, {found}; put it beside that.")
        return replace(self.configuration, base=str(found))

    @property
    def stage_names(self) -> tuple[str, ...]:
        """The stage outputs that it returns in place of logits (`network.stages`)."""
        return stage_outputs((self.architecture or {}).get("outputs", ())) or ()

    @property
    def any_size(self) -> bool:
        """Whether it takes images of any height and width; those of `image_shape` are what it was made for."""
        return bool(self.options.get("dynamic_size"))

    def with_options(self, **options: Any) -> Provenance:
        return replace(self, options={**self.options, **options})

    def beside(self, artifact: Path, checkpoint: Path) -> Provenance:
        """With the way from `artifact`'s folder to `checkpoint`: relative, so that a project folder can move."""
        if not self.source:  # the network was never in a file
            return self
        with contextlib.suppress(ValueError):  # another drive: there is no relative way
            relative = os.path.relpath(checkpoint.resolve(), artifact.resolve().parent)
            return replace(self, source_path=Path(relative).as_posix())
        return self

    def factory_hint(self, artifact: Path) -> str:
        """What to name so that the network of `artifact`, a user's own, is built again."""
        return hint(str(self.factory), artifact)

    def to_json(self) -> str:
        return json.dumps(asdict(self), sort_keys=True)


_REQUIRED = tuple(
    entry.name for entry in fields(Provenance) if entry.default is MISSING and entry.default_factory is MISSING
)


def from_json(text: str, where: str) -> Provenance:
    """Parse `Provenance.to_json`.

    Raises:
        ArtifactError: it is not provenance, or of a later schema. `where` names the artifact.
    """
    try:
        return parse(json.loads(text), where)
    except (Misfit, RecursionError, ValueError) as error:
        why = f" ({error})" if isinstance(error, Misfit) else ""
        raise ArtifactError(f"The provenance in '{where}' is damaged{why}; make the artifact again.") from error


def parse(data: Any, where: str) -> Provenance:
    """`Provenance.to_json`, read as JSON already.

    Raises:
        ArtifactError: it is of a later schema. `where` names the artifact.
        Misfit: it is not provenance.
    """
    check_schema(data, SCHEMA_VERSION, where)
    names = {entry.name for entry in fields(Provenance)}
    strange = next((name for name in data if name not in names), None)
    if strange is not None:
        raise Misfit("a field that is not known", (strange,))
    fitting = record({name: FIELDS[name] for name in _REQUIRED}, {n: FIELDS.get(n, anything) for n in names})(data)
    shape = fitting["image_shape"]
    if math.prod(shape) > MAX_IMAGE:
        raise Misfit("out of range", ("image_shape",))
    if fitting["architecture"] is None and fitting["factory"] is None:
        raise Misfit("missing", ("architecture",))
    return Provenance(**{**fitting, "image_shape": tuple(shape)})


def provenance_of(network: Network, image_shape: tuple[int, int, int], channel_attentions: int) -> Provenance:
    """Provenance of an artifact made from `network` for images of `image_shape` (c, h, w)."""
    from kdna_deploy.network.cost import count  # with PyTorch, without which provenance is read

    cost = count(network.module, image_shape)
    training = network.checkpoint.training
    return Provenance(
        source=network.checkpoint.path.name,
        source_sha256=network.checkpoint.sha256,
        architecture=to_record(network.architecture) if network.architecture else None,
        factory=recorded(network.factory) if network.factory else None,
        ema=network.checkpoint.ema,
        image_shape=image_shape,
        parameters=cost.parameters,
        macs=cost.macs,
        channel_attentions=channel_attentions,
        versions=package_versions(),
        preprocessing=training.preprocessing.to_record() if training.preprocessing else {},
        recorded_top1=network.checkpoint.accuracy,
        num_classes=network.architecture.num_classes if network.architecture else None,
        class_names=[] if output_names(network.module) else list(training.class_names),
        **_base(network.checkpoint),
    )


def _base(checkpoint: Checkpoint) -> dict[str, Any]:
    if checkpoint.base is None:
        return {}
    base, folder, path = checkpoint.base, checkpoint.path.resolve().parent, checkpoint.base.path.name
    with contextlib.suppress(ValueError):  # another drive: there is no relative way
        path = Path(os.path.relpath(base.path.resolve(), folder)).as_posix()
    return {"base": base.path.name, "base_sha256": base.sha256, "base_path": path}


def find_source(provenance: Provenance, artifact: Path) -> Path:
    """The checkpoint that an artifact was made from: where it lay then, beside the artifact, or here.

    Raises:
        ArtifactError: it is not there, or has changed.
    """
    if not provenance.source:
        raise ArtifactError(f"'{artifact}' was made from a network in memory; name what to compare with by `against`.")
    nearby = [artifact.parent / provenance.source_path] if provenance.source_path else []
    candidates = [*nearby, artifact.parent / provenance.source, Path(provenance.source)]
    found = _unchanged(candidates, provenance.source_sha256)
    if not isinstance(found, str):
        return found
    state = f"is not beside '{artifact}'" if found == _MISSING else found
    raise ArtifactError(
        f"'{provenance.source}', from which '{artifact}' was made, {state}; "
        "name the checkpoint with `source` (export) or `against` (verify)."
    )


def _unchanged(places: Iterable[Path], sha256: str) -> Path | str:
    """The first of the files that has this content; or what is the matter."""
    found = [path for path in places if _has_content(path)]
    changed = "has changed since" if found else _MISSING
    return next((path for path in found if file_sha256(path) == sha256), changed)


def _has_content(path: Path) -> bool:
    """Whether there is a file: what the artifact says may be no path, or one to something else."""
    try:
        return path.is_file() and path.stat().st_size > 0
    except (OSError, ValueError):  # too long, or with a zero byte
        return False


def package_versions(names: tuple[str, ...] = _RECORDED) -> dict[str, str]:
    """Installed versions of packages; one that is not installed is left out."""
    return {name: version for name in names if (version := _version(name)) is not None}


@functools.cache  # looked up on disk
def _version(name: str) -> str | None:
    from importlib import metadata  # for files that are written: it imports what reads e-mail

    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
