"""Where an artifact comes from: what travels in a ``.pt2``'s extra files and in an ONNX file's metadata."""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import os
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from kdna_deploy.checkpoint import file_sha256
from kdna_deploy.cost import count
from kdna_deploy.errors import ArtifactError
from kdna_deploy.ledger import Parent
from kdna_deploy.models.architecture import Architecture
from kdna_deploy.models.record import from_record, to_record
from kdna_deploy.network import Network

SCHEMA_VERSION = 1
KEY = "kdna"
_RECORDED = ("kdna-deploy", "torch", "onnx", "onnxscript", "onnxruntime", "onnxsim", "openvino", "numpy")


@dataclass(frozen=True)
class Provenance:
    """Provenance of an artifact.

    Attributes:
        source: file name of the checkpoint.
        source_sha256: of the checkpoint.
        architecture: `to_record` of the architecture; None for a user's own model.
        factory: ``package.module:factory`` of a user's own model.
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
        num_classes: number of logits.
        class_names: in the order of the logits; empty where they are not known.
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

    def with_options(self, **options: Any) -> Provenance:
        return replace(self, options={**self.options, **options})

    def beside(self, artifact: Path, checkpoint: Path) -> Provenance:
        """With the way from `artifact`'s folder to `checkpoint`: relative, so that a project folder can move."""
        with contextlib.suppress(ValueError):  # another drive: there is no relative way
            relative = os.path.relpath(checkpoint.resolve(), artifact.resolve().parent)
            return replace(self, source_path=Path(relative).as_posix())
        return self

    def to_json(self) -> str:
        return json.dumps(asdict(self), sort_keys=True)


def from_json(text: str, where: str) -> Provenance:
    """Parse `Provenance.to_json`.

    Raises:
        ArtifactError: it is not provenance, or of a later schema. `where` names the artifact.
    """
    try:
        data = json.loads(text)
        version = data["schema_version"]
        if version > SCHEMA_VERSION:
            raise ArtifactError(f"'{where}' was made by a later kdna-deploy (schema {version}); update this one.")
        return Provenance(**{**data, "image_shape": tuple(data["image_shape"])})
    except (ValueError, KeyError, TypeError) as error:
        raise ArtifactError(f"The provenance in '{where}' is damaged; make the artifact again.") from error


def provenance_of(network: Network, image_shape: tuple[int, int, int], channel_attentions: int) -> Provenance:
    """Provenance of an artifact made from `network` for images of `image_shape` (c, h, w)."""
    cost = count(network.module, image_shape)
    training = network.checkpoint.training
    return Provenance(
        source=network.checkpoint.path.name,
        source_sha256=network.checkpoint.sha256,
        architecture=to_record(network.architecture) if network.architecture else None,
        factory=network.factory,
        ema=network.checkpoint.ema,
        image_shape=image_shape,
        parameters=cost.parameters,
        macs=cost.macs,
        channel_attentions=channel_attentions,
        versions=package_versions(),
        preprocessing=training.preprocessing.to_record() if training.preprocessing else {},
        recorded_top1=network.checkpoint.accuracy,
        num_classes=network.architecture.num_classes if network.architecture else None,
        class_names=list(training.class_names),
    )


def find_source(provenance: Provenance, artifact: Path) -> Path:
    """The checkpoint that an artifact was made from: where it lay then, beside the artifact, or here.

    Raises:
        ArtifactError: it is not there, or has changed.
    """
    nearby = [artifact.parent / provenance.source_path] if provenance.source_path else []
    candidates = [*nearby, artifact.parent / provenance.source, Path(provenance.source)]
    found = [path for path in candidates if path.is_file()]
    for path in found:
        if file_sha256(path) == provenance.source_sha256:
            return path
    state = "has changed since" if found else f"is not beside '{artifact}'"
    raise ArtifactError(
        f"'{provenance.source}', from which '{artifact}' was made, {state}; "
        "name the checkpoint with --source (export) or --against (verify)."
    )


def package_versions(names: tuple[str, ...] = _RECORDED) -> dict[str, str]:
    """Installed versions of packages; one that is not installed is left out."""
    found = {}
    for name in names:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
